"""Federated events: fired on this side, heard on the other."""

from __future__ import annotations

from typing import Any

from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import EventScope, FedEventHeader, FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.widget import Widget

FED_EVENT_TOPIC = "fed.event"

_OUT = "out"
_IN = "in"


class FedEventRunner(Widget):
    """Sends the federated events of this side as aux messages, and fires those that arrive.

    A part of the runtime, told after all other handlers. An event leaves in the thread that fired it and before
    `fire_fed_event` returns; one that arrives is fired in the thread that brought it.

    Args:
        topic: The topic of the aux messages.
    """

    reads_tensors = False
    hears = frozenset((EventType.START_RUN, EventType.END_RUN))

    def __init__(self, topic: str = FED_EVENT_TOPIC) -> None:
        super().__init__()
        self.topic = topic
        self.engine: Any = None  # Any: a server's engine, a site's, or a test's own
        self._ended = False

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Take the engine at the run's start; send on what is federated and comes from here."""
        if event_type == EventType.START_RUN:
            self._ended = False
            self.engine = fl_ctx.get_engine()
            self.engine.register_aux_message_handler(self.topic, self._receive)
            return
        if event_type == EventType.END_RUN:
            self._ended = True
        if fl_ctx.get_prop(FLContextKey.EVENT_SCOPE, EventScope.LOCAL) == EventScope.FEDERATION:
            self._send(event_type, fl_ctx)

    def _send(self, event_type: str, fl_ctx: FLContext) -> None:
        data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
        if not isinstance(data, Shareable):
            self.log_error(fl_ctx, f"event {event_type} has a {type(data).__name__} as its data, not a Shareable")
            return
        if data.get_header(FedEventHeader.DIRECTION, _OUT) != _OUT or self.engine is None:
            return
        data.set_header(FedEventHeader.EVENT_TYPE, event_type)
        data.set_header(FedEventHeader.ORIGIN, fl_ctx.get_identity_name())
        self.fire_and_forget_request(data, fl_ctx, data.get_header(FedEventHeader.TARGETS))

    def fire_and_forget_request(self, request: Shareable, fl_ctx: FLContext, targets: list[str] | None = None) -> None:
        """Send an event to the other side; the sides differ in how."""

    def _receive(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Fire an event that arrived; `fl_ctx` is this message's own."""
        event_type = request.get_header(FedEventHeader.EVENT_TYPE)
        if not isinstance(event_type, str) or not event_type:
            return make_reply(ReturnCode.BAD_REQUEST_DATA)
        if not self._ended:
            request.set_header(FedEventHeader.DIRECTION, _IN)
            fl_ctx.set_prop(FLContextKey.EVENT_DATA, request, private=True, sticky=False)
            fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.FEDERATION, private=True, sticky=False)
            self.engine.fire_event(event_type, fl_ctx)
        return make_reply(ReturnCode.OK)


class ServerFedEventRunner(FedEventRunner):
    """Sends the server's federated events to sites."""

    def fire_and_forget_request(self, request: Shareable, fl_ctx: FLContext, targets: list[str] | None = None) -> None:
        """Send an event to these sites, or to all."""
        self.engine.fire_and_forget_aux_request(targets=targets, topic=self.topic, request=request, fl_ctx=fl_ctx)


class ClientFedEventRunner(FedEventRunner):
    """Sends a site's federated events to the server."""

    def fire_and_forget_request(self, request: Shareable, fl_ctx: FLContext, targets: list[str] | None = None) -> None:
        """Send an event to the server."""
        self.engine.fire_and_forget_aux_request(topic=self.topic, request=request, fl_ctx=fl_ctx)
