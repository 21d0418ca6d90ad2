"""Calls to components by name, for whoever has none of them at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.widget import Widget


class CallInfo:
    """One call, and what came of it.

    Args:
        target: Whom it is meant for; components decide whether that is them.
        action: What they are to do.
        params: With what.

    Attributes:
        results: What each component that felt meant has answered.
    """

    def __init__(self, target: str, action: str, params: Mapping[str, Any]) -> None:  # Any: the callers' own
        self.target = target
        self.action = action
        self.params = params
        self.results: dict[str, str] = {}

    def record_result(self, target: str, result: str = "OK") -> None:
        """Answer the call, in the name of a component."""
        self.results[target] = result


class ComponentCaller(Widget):
    """Fires a call as an event; components that it is meant for answer in its `CallInfo`.

    A job that wants it lists it as a component `component_caller`; `engine.get_widget("component_caller")` finds it.
    """

    EVENT_TYPE_CALL_COMPONENT = "comp_caller.call"
    """The event; the context's CTX_KEY_CALL_INFO is the `CallInfo`."""
    CTX_KEY_CALL_INFO = "comp_caller.call_info"

    reads_tensors = False
    hears = frozenset((EventType.START_RUN,))

    def __init__(self) -> None:
        super().__init__()
        self._engine: Any = None  # Any: of either side

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Know the engine."""
        if event_type == EventType.START_RUN:
            self._engine = fl_ctx.get_engine()

    def call_components(self, target: str, action: str, params: Mapping[str, Any]) -> dict[str, str]:  # Any: as above
        """Call components; what each has answered. Empty if nobody felt meant, or no run is on."""
        info = CallInfo(target, action, params)
        if self._engine is not None:
            with self._engine.new_context() as fl_ctx:
                fl_ctx.set_prop(self.CTX_KEY_CALL_INFO, info, private=True, sticky=False)
                self._engine.fire_event(self.EVENT_TYPE_CALL_COMPONENT, fl_ctx)
        return info.results
