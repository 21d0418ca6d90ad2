"""Numbers, texts and images on their way from where they are measured to where they are kept."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any, SupportsFloat

from hansa.apis.analytix import AnalyticsData, AnalyticsDataType
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.widget import Widget
from hansa.components.widgets.convert_to_fed_event import FED_EVENT_PREFIX

GLOBAL_STEP = "global_step"
"""The keyword under which a record's step travels."""


def create_analytic_dxo(
    tag: str,
    value: Any,  # Any: its type follows from data_type
    data_type: AnalyticsDataType,
    **kwargs: Any,  # Any: for the receiver's writer
) -> DXO:
    """A record as a DXO.

    Args:
        tag: What is measured.
        value: The measurement: float for SCALAR, dict for SCALARS, str for TEXT.
        data_type: What `value` is.
        **kwargs: What goes to the receiver beside it, such as `global_step`.

    Raises:
        TypeError: An argument is of another type.
    """
    return AnalyticsData(tag=tag, value=value, data_type=data_type, kwargs=kwargs).to_dxo()


def send_analytic_dxo(
    comp: FLComponent, dxo: DXO, fl_ctx: FLContext, event_type: str = AppEventType.ANALYTIC_EVENT_TYPE
) -> None:
    """Fire an event with a record as its data; ConvertToFedEvent takes it to the server.

    Args:
        comp: Who fires.
        dxo: The record.
        fl_ctx: The context to fire with.
        event_type: The event.

    Raises:
        TypeError: An argument is of another type.
    """
    for name, value, kind in (("comp", comp, FLComponent), ("dxo", dxo, DXO), ("fl_ctx", fl_ctx, FLContext)):
        if not isinstance(value, kind):
            raise TypeError(f"expect {name} to be an instance of {kind.__name__}, but got {type(value)}")
    fl_ctx.set_prop(FLContextKey.EVENT_DATA, dxo.to_shareable(), private=True, sticky=False)
    comp.fire_event(event_type, fl_ctx)


class AnalyticsSender(Widget):
    """Reports records, with the methods of TensorBoard's SummaryWriter; by convention component `analytic_sender`.

    Usable from START_RUN on. Each record has a context of its own and is on its way when the call returns.
    """

    reads_tensors = False
    stateless = True
    hears = frozenset((EventType.START_RUN, EventType.BEFORE_TASK_EXECUTION))

    def __init__(self) -> None:
        super().__init__()
        self.engine: Any = None  # Any: a site's engine, the server's, or a test's own

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Take the engine at the run's start; and with each task, since one sender may serve many simulated sites."""
        if event_type in self.hears:
            self.engine = fl_ctx.get_engine()

    def add_scalar(
        self,
        tag: str,
        scalar: SupportsFloat,
        global_step: int | None = None,
        **kwargs: Any,  # Any: for the receiver's writer
    ) -> None:
        """Report one number: a float, or what converts to one without loss of meaning (int, NumPy, torch scalar).

        Raises:
            TypeError: No number, or a step that is no int.
        """
        value = float(scalar) if hasattr(scalar, "__float__") else scalar
        self._add(tag, value, AnalyticsDataType.SCALAR, global_step, kwargs)

    def add_scalars(
        self,
        tag: str,
        scalars: dict[str, Any],  # Any: numbers of any library
        global_step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Report several numbers under one tag."""
        self._add(tag, scalars, AnalyticsDataType.SCALARS, global_step, kwargs)

    def add_text(self, tag: str, text: str, global_step: int | None = None, **kwargs: Any) -> None:
        """Report a text."""
        self._add(tag, text, AnalyticsDataType.TEXT, global_step, kwargs)

    def add_image(
        self,
        tag: str,
        image: Any,  # Any: what the receiver can draw
        global_step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Report an image."""
        self._add(tag, image, AnalyticsDataType.IMAGE, global_step, kwargs)

    def _add(
        self, tag: str, value: Any, data_type: AnalyticsDataType, global_step: int | None, kwargs: dict[str, Any]
    ) -> None:
        if self.engine is None:
            raise RuntimeError(f"{self._name} reports nothing before START_RUN")
        if global_step is not None:  # step 0 is a step
            if not isinstance(global_step, int):
                raise TypeError(f"expect global_step to be an instance of int, but got {type(global_step)}")
            kwargs = {**kwargs, GLOBAL_STEP: global_step}
        dxo = create_analytic_dxo(tag, value, data_type, **kwargs)
        with self.engine.new_context() as fl_ctx:
            send_analytic_dxo(self, dxo, fl_ctx)

    def flush(self) -> None:
        """Nothing waits here: each record is sent at once."""

    def close(self) -> None:
        """Nothing is held here."""


class AnalyticsReceiver(Widget, ABC):
    """Hears records and saves them; what comes after END_RUN is dropped. Calls of `save` never overlap.

    Args:
        events: The events that carry records. None: `analytix_log_stats` and `fed.analytix_log_stats`.
    """

    reads_tensors = False

    def __init__(self, events: list[str] | None = None) -> None:
        super().__init__()
        local = AppEventType.ANALYTIC_EVENT_TYPE
        self.events = [local, f"{FED_EVENT_PREFIX}{local}"] if events is None else events
        self._saving = threading.RLock()
        self._ended = False

    @abstractmethod
    def initialize(self, fl_ctx: FLContext) -> None:
        """Get ready; called at START_RUN."""

    @abstractmethod
    def save(self, fl_ctx: FLContext, shareable: Shareable, record_origin: str) -> None:
        """Keep a record.

        Args:
            fl_ctx: The event's context.
            shareable: The record; `AnalyticsData.from_dxo(from_shareable(shareable))` reads it.
            record_origin: Who reported it: this side's identity, or the sender's of a federated event.
        """

    @abstractmethod
    def finalize(self, fl_ctx: FLContext) -> None:
        """Let go of everything; called at END_RUN."""

    @property
    def hears(self) -> frozenset[str]:
        """The beginning and end of the run, and the events that carry records."""
        return frozenset((EventType.START_RUN, EventType.END_RUN, *self.events))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Save records, from START_RUN to END_RUN."""
        if event_type == EventType.START_RUN:
            self._ended = False
            self.initialize(fl_ctx)
        elif event_type == EventType.END_RUN:
            with self._saving:
                self._ended = True
                self.finalize(fl_ctx)
        elif event_type in self.events:
            self._receive(event_type, fl_ctx)

    def _receive(self, event_type: str, fl_ctx: FLContext) -> None:
        data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
        if not isinstance(data, Shareable):
            self.log_error(fl_ctx, f"event {event_type} has a {type(data).__name__} as its data, not a Shareable")
            return
        origin = _origin_of(data, fl_ctx)
        if origin is None:
            return
        with self._saving:
            if not self._ended:
                self.save(fl_ctx=fl_ctx, shareable=data, record_origin=origin)


def _origin_of(data: Shareable, fl_ctx: FLContext) -> str | None:
    """Who reported a record; None for our own federated event on its way out, whose local twin we have heard."""
    if fl_ctx.get_prop(FLContextKey.EVENT_SCOPE, EventScope.LOCAL) != EventScope.FEDERATION:
        return fl_ctx.get_identity_name()
    sender: str | None = data.get_peer_prop(ReservedKey.IDENTITY_NAME, None)
    return sender
