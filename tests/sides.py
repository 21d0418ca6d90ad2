"""One side of a federation for tests: contexts, events, components, and aux messages to another such side."""

from __future__ import annotations

from typing import Any

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.shareable import Shareable


class FakeHistory:
    """Keeps the calls, as tuples."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def round_opened(self, round_number: int, targets: list[str]) -> None:
        self.calls.append(("opened", round_number, targets))

    def result_counted(self, round_number: int, site: str, weight: float) -> None:
        self.calls.append(("counted", round_number, site, weight))

    def result_refused(self, round_number: int, site: str, reason: str) -> None:
        self.calls.append(("refused", round_number, site, reason))

    def scalar(self, round_number: int | None, site: str, name: str, value: float, step: int | None = None) -> None:
        self.calls.append(("scalar", round_number, site, name, value, step))

    def round_closed(self, round_number: int) -> None:
        self.calls.append(("closed", round_number))

    def evaluated(self, model: str, site: str, metrics: Any, error: str | None = None) -> None:
        self.calls.append(("evaluated", model, site, metrics, error))

    def ended_early(self, round_number: int, reason: str) -> None:
        self.calls.append(("ended early", round_number, reason))


class Side:
    """An engine. Handlers hear in their order; each sees the event's own EVENT_ID, data and scope."""

    def __init__(self, name: str, handlers: list[FLComponent], components: dict[str, object] | None = None) -> None:
        self.name = name
        self.handlers = handlers
        self.components = components or {}
        self.manager = FLContextManager(self, name, 1, {}, {})
        self.aux: dict[str, Any] = {}
        self.others: list[Side] = []
        self.fired: list[str] = []

    def new_context(self) -> FLContext:
        return self.manager.new_context()

    def get_component(self, component_id: str) -> object | None:
        return self.components.get(component_id)

    def get_all_components(self) -> dict[str, object]:
        return dict(self.components)

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.fired.append(event_type)
        data, scope = fl_ctx.get_prop(FLContextKey.EVENT_DATA), fl_ctx.get_prop(FLContextKey.EVENT_SCOPE)
        for handler in self.handlers:
            for key, value in (
                (FLContextKey.EVENT_ID, event_type),
                (FLContextKey.EVENT_DATA, data),
                (FLContextKey.EVENT_SCOPE, scope),
            ):
                fl_ctx.set_prop(key, value, private=True, sticky=False)
            handler.handle_event(event_type, fl_ctx)

    def fire(self, event_type: str, **props: Any) -> FLContext:
        """Fire an event with a new context that holds these private properties."""
        fl_ctx = self.new_context()
        for key, value in props.items():
            fl_ctx.set_prop(key, value, private=True, sticky=False)
        self.fire_event(event_type, fl_ctx)
        return fl_ctx

    def register_aux_message_handler(self, topic: str, message_handle_func: Any) -> None:
        self.aux[topic] = message_handle_func

    def fire_and_forget_aux_request(
        self, *, topic: str, request: Shareable, fl_ctx: FLContext, targets: list[str] | None = None
    ) -> None:
        for other in self.others:
            if targets and other.name not in targets:
                continue
            arrived = Shareable()
            arrived.update(request)
            arrived["__headers__"] = dict(request["__headers__"])
            arrived.set_peer_props({ReservedKey.IDENTITY_NAME: self.name})
            other.aux[topic](topic=topic, request=arrived, fl_ctx=other.new_context())


class ServerSide(Side):
    """A side that keeps a history."""

    def __init__(self, handlers: list[FLComponent], components: dict[str, object] | None = None) -> None:
        super().__init__("project", handlers, components)
        self.history = FakeHistory()


class Listener(FLComponent):
    """Keeps what it heard: event, data, scope, and one more property."""

    def __init__(self, also: str = "") -> None:
        super().__init__()
        self.also = also
        self.heard: list[tuple[str, Any, Any, Any]] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.heard.append(
            (
                event_type,
                fl_ctx.get_prop(FLContextKey.EVENT_DATA),
                fl_ctx.get_prop(FLContextKey.EVENT_SCOPE),
                fl_ctx.get_prop(self.also),
            )
        )
