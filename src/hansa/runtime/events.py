"""Firing an event to the components of one side, in their order, in the caller's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.runtime import user_code

MAX_DEPTH = 20
"""An event may fire another in its handler; this many deep, no further."""

_DEPTH_KEY = "___event_depth___"
_logger = logging.getLogger("hansa.events")


class EventFirer:
    """Fires events to handlers.

    Components that do not override `handle_event` cost nothing.

    Args:
        handlers: In the order in which they are told.
        on_failure: Called with the component, the event and what it raised; the event goes on.
    """

    def __init__(
        self,
        handlers: Sequence[FLComponent],
        on_failure: Callable[[FLComponent, str, user_code.Failure], None],
    ) -> None:
        self._listeners = [h for h in handlers if type(h).handle_event is not FLComponent.handle_event]
        self._on_failure = on_failure

    def fire(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell every listener; what one raises is kept and reported, and the next one is told."""
        depth = fl_ctx.get_prop(_DEPTH_KEY, 0)
        if depth >= MAX_DEPTH:
            _logger.error("event %s dropped: fired %d handlers deep", event_type, depth)
            return
        seen = _Seen(event_type, fl_ctx)
        fl_ctx.set_prop(_DEPTH_KEY, depth + 1, private=True, sticky=False)
        for listener in self._listeners:
            seen.put_back(fl_ctx)
            outcome = user_code.call(listener.handle_event, event_type, fl_ctx)
            if isinstance(outcome, user_code.Failure):
                self._on_failure(listener, event_type, outcome)
        fl_ctx.set_prop(_DEPTH_KEY, depth, private=True, sticky=False)


class _Seen:
    """What each handler must see, whatever an earlier one fired on the same context."""

    __slots__ = ("_data", "_event", "_origin", "_scope")

    def __init__(self, event_type: str, fl_ctx: FLContext) -> None:
        self._event = event_type
        self._data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
        self._origin = fl_ctx.get_prop(FLContextKey.EVENT_ORIGIN)
        self._scope = fl_ctx.get_prop(FLContextKey.EVENT_SCOPE, EventScope.LOCAL)

    def put_back(self, fl_ctx: FLContext) -> None:
        if fl_ctx.get_prop(FLContextKey.EVENT_ID) != self._event:
            fl_ctx.set_prop(FLContextKey.EVENT_ID, self._event, private=True, sticky=False)
        if fl_ctx.get_prop(FLContextKey.EVENT_DATA) is not self._data:
            fl_ctx.set_prop(FLContextKey.EVENT_DATA, self._data, private=True, sticky=False)
        if fl_ctx.get_prop(FLContextKey.EVENT_ORIGIN) != self._origin:
            fl_ctx.set_prop(FLContextKey.EVENT_ORIGIN, self._origin, private=True, sticky=False)
        if fl_ctx.get_prop(FLContextKey.EVENT_SCOPE) != self._scope:
            fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, self._scope, private=True, sticky=False)
