"""Firing an event to the components of one side, in their order, in the caller's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.runtime import user_code

MAX_DEPTH = 20
"""An event may fire another in its handler; this many deep, no further."""

_logger = logging.getLogger("hansa.events")

_Listener = tuple[FLComponent, Callable[[str, FLContext], None]]


class EventFirer:
    """Fires events to handlers.

    A local event that nobody hears (see `FLComponent.hears`) costs nothing and leaves the context as it is; most of
    those that the runtime fires are such.

    Args:
        handlers: In the order in which they are told.
        on_failure: Called with the handler's and the event's name and what it raised; the event goes on.
    """

    def __init__(
        self,
        handlers: Sequence[FLComponent],
        on_failure: Callable[[str, user_code.Failure], None],
    ) -> None:
        self._listeners: list[_Listener] = [
            (h, h.handle_event) for h in handlers if type(h).handle_event is not FLComponent.handle_event
        ]
        self._hearers: dict[str, list[_Listener]] = {}  # by local event, filled as they come up
        self._on_failure = on_failure
        self._depth = _Depth()
        self._num_fired = 0

    def hearers(self, event_type: str) -> list[_Listener]:
        """Who hears local events of this type, in their order."""
        found = self._hearers.get(event_type)
        if found is None:
            found = [each for each in self._listeners if _hears(each[0], event_type)]
            self._hearers[event_type] = found
        return found

    def heard(self) -> frozenset[str] | None:
        """The local events that somebody hears; None: all of them."""
        found: set[str] = set()
        for component, _ in self._listeners:
            events = _heard_by(component)
            if events is None:
                return None
            found |= events
        return frozenset(found)

    def fire(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell all who hear the event; what one raises is kept and reported, and the next one is told."""
        listeners = self._listeners
        if fl_ctx.get_prop(FLContextKey.EVENT_SCOPE) != EventScope.FEDERATION:
            listeners = self.hearers(event_type)
            if not listeners:
                return
        depth = self._depth.value
        if depth >= MAX_DEPTH:
            _logger.error("event %s dropped: fired %d handlers deep", event_type, depth)
            return
        self._depth.value = depth + 1
        self._num_fired += 1
        fl_ctx.set_prop(FLContextKey.EVENT_ID, event_type, private=True, sticky=False)
        facts = [fl_ctx.get_prop(key) for key in _FACTS]
        fired = self._num_fired
        for listener, tell in listeners:
            if self._num_fired != fired:  # somebody fired meanwhile, perhaps on this context
                fired = self._num_fired
                _put_back(fl_ctx, facts)
            try:
                tell(event_type, fl_ctx)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a handler costs nobody else the event
                self._on_failure(f"{type(listener).__name__}.handle_event({event_type})", user_code.failure_of(error))
        self._depth.value = depth


_FACTS = (FLContextKey.EVENT_ID, FLContextKey.EVENT_DATA, FLContextKey.EVENT_ORIGIN, FLContextKey.EVENT_SCOPE)


def _hears(component: FLComponent, event_type: str) -> bool:
    heard = _heard_by(component)
    return heard is None or event_type in heard


def _heard_by(component: FLComponent) -> frozenset[str] | None:
    # What a class says about a `handle_event` that a subclass has replaced holds no longer.
    for cls in type(component).__mro__:
        if "hears" in vars(cls):
            return component.hears
        if "handle_event" in vars(cls):
            return None
    return None


def _put_back(fl_ctx: FLContext, facts: list[object]) -> None:
    """What each handler must see, whatever an earlier one fired on the same context."""
    for key, value in zip(_FACTS, facts, strict=True):
        if fl_ctx.get_prop(key) is not value:
            fl_ctx.set_prop(key, value, private=True, sticky=False)


class _Depth(threading.local):
    """How many handlers deep this thread is."""

    value = 0
