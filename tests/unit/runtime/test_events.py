"""Firing events: order, what each handler sees, and what a handler that raises costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.runtime.events import MAX_DEPTH, EventFirer
from hansa.runtime.user_code import Failure

KEYS = (FLContextKey.EVENT_ID, FLContextKey.EVENT_DATA, FLContextKey.EVENT_ORIGIN, FLContextKey.EVENT_SCOPE)


class Hears(FLComponent):
    """Calls a function for each event."""

    def __init__(self, on_event: Callable[[str, FLContext], None]) -> None:
        super().__init__()
        self.on_event = on_event

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.on_event(event_type, fl_ctx)


class Deaf(FLComponent):
    """Does not override handle_event; a call of the default would be seen as the attribute it reads."""


class Engine:
    """An engine that fires to the given components."""

    def __init__(self, *components: FLComponent) -> None:
        self.failures: list[tuple[str, Failure]] = []
        self.firer = EventFirer(components, lambda where, failure: self.failures.append((where, failure)))
        self.manager = FLContextManager(self, "site-1", 1, {}, {})

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.firer.fire(event_type, fl_ctx)

    def new_context(self) -> FLContext:
        return self.manager.new_context()


def seen_of(fl_ctx: FLContext) -> tuple[Any, ...]:
    return tuple(fl_ctx.get_prop(key) for key in KEYS)


def test_handlers_are_told_in_their_order() -> None:
    told: list[str] = []
    engine = Engine(*(Hears(lambda event, _, name=name: told.append(f"{name} {event}")) for name in "bac"))  # type: ignore[misc]
    engine.fire_event("x", engine.new_context())
    assert told == ["b x", "a x", "c x"]


def test_a_component_without_handle_event_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = Deaf()
    told: list[str] = []
    engine = Engine(deaf, Hears(lambda event, _: told.append(event)))
    # an attribute of the instance would be called if anybody called the component at all
    monkeypatch.setattr(deaf, "handle_event", lambda event, fl_ctx: told.append("deaf"), raising=False)
    engine.fire_event("x", engine.new_context())
    assert told == ["x"]


def test_each_handler_sees_its_own_event_though_an_earlier_one_fired_another() -> None:
    seen: list[tuple[str, tuple[Any, ...]]] = []
    data = {"loss": 1.0}

    def meddle(event: str, fl_ctx: FLContext) -> None:
        seen.append((f"first {event}", seen_of(fl_ctx)))
        if event == "outer":
            fl_ctx.set_prop(FLContextKey.EVENT_DATA, "other data", private=True, sticky=False)
            first._name = "meddler"
            first.fire_event("inner", fl_ctx)

    first = Hears(meddle)
    last = Hears(lambda event, fl_ctx: seen.append((f"last {event}", seen_of(fl_ctx))))
    engine = Engine(first, last)
    fl_ctx = engine.new_context()
    for key, value in zip(KEYS[1:], (data, "sender", EventScope.FEDERATION), strict=True):
        fl_ctx.set_prop(key, value, private=True, sticky=False)
    engine.fire_event("outer", fl_ctx)
    outer = ("outer", data, "sender", EventScope.FEDERATION)
    inner = ("inner", "other data", "meddler", EventScope.LOCAL)
    assert seen == [("first outer", outer), ("first inner", inner), ("last inner", inner), ("last outer", outer)]
    assert seen[-1][1][1] is data


def test_a_log_event_in_between_changes_nothing_for_the_next() -> None:
    seen = []
    first = Hears(lambda event, fl_ctx: first.log_warning(fl_ctx, "hm") if event == "outer" else None)
    engine = Engine(first, Hears(lambda event, fl_ctx: seen.append((event, seen_of(fl_ctx)[:2]))))
    engine.fire_event("outer", engine.new_context())
    assert [event for event, _ in seen] == [EventType.WARNING_LOG_AVAILABLE, "outer"]
    assert seen[1][1] == ("outer", None)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), GeneratorExit()], ids=lambda e: type(e).__name__)
def test_a_handler_that_raises_is_reported_and_the_next_is_told(error: BaseException) -> None:
    told: list[str] = []

    def bad(event: str, fl_ctx: FLContext) -> None:
        raise error

    engine = Engine(Hears(bad), Hears(lambda event, _: told.append(event)))
    engine.fire_event("x", engine.new_context())
    assert told == ["x"]
    [(where, failure)] = engine.failures
    assert where == "Hears.handle_event(x)"
    assert failure.error is error
    assert "test_events.py:" in failure.cause


def test_the_keyboard_is_not_caught() -> None:
    def bad(event: str, fl_ctx: FLContext) -> None:
        raise KeyboardInterrupt

    engine = Engine(Hears(bad))
    with pytest.raises(KeyboardInterrupt):
        engine.fire_event("x", engine.new_context())
    assert engine.failures == []


def test_events_that_fire_each_other_end_at_the_depth_limit(caplog: pytest.LogCaptureFixture) -> None:
    depths: list[int] = []

    def again(event: str, fl_ctx: FLContext) -> None:
        depths.append(len(depths) + 1)
        echo.fire_event("again", fl_ctx)

    echo = Hears(again)
    engine = Engine(echo)
    fl_ctx = engine.new_context()
    engine.fire_event("again", fl_ctx)
    assert len(depths) == MAX_DEPTH == 20
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "20 handlers deep" in caplog.text
    engine.fire_event("again", fl_ctx)  # the depth was put back: it goes as deep again
    assert len(depths) == 40


def test_the_depth_is_put_back_when_a_handler_raises() -> None:
    told: list[str] = []

    def bad(event: str, fl_ctx: FLContext) -> None:
        told.append(event)
        raise ValueError

    engine = Engine(Hears(bad))
    fl_ctx = engine.new_context()
    for _ in range(30):
        engine.fire_event("x", fl_ctx)
    assert len(told) == 30


class HearsX(Hears):
    """Says which events it wants."""

    hears = frozenset({"x"})

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        super().handle_event(event_type, fl_ctx)


class HearsAll(HearsX):
    """Says nothing of its own, but has a handle_event of its own."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        super().handle_event(event_type, fl_ctx)


def test_a_component_may_say_which_events_it_hears() -> None:
    told: list[str] = []
    engine = Engine(
        HearsX(lambda event, _: told.append(f"first {event}")), HearsAll(lambda event, _: told.append(f"last {event}"))
    )
    for event in ("x", "y"):
        engine.fire_event(event, engine.new_context())
    assert told == ["first x", "last x", "last y"]


def test_a_federated_event_reaches_everybody() -> None:
    told: list[str] = []
    engine = Engine(HearsX(lambda event, _: told.append(event)))
    fl_ctx = engine.new_context()
    fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.FEDERATION, private=True, sticky=False)
    engine.fire_event("fed.y", fl_ctx)
    assert told == ["fed.y"]


def test_an_event_that_nobody_hears_leaves_the_context_as_it_is() -> None:
    engine = Engine(HearsX(lambda event, _: None))
    fl_ctx = engine.new_context()
    before = fl_ctx.get_all_details()
    engine.fire_event("y", fl_ctx)
    assert fl_ctx.get_all_details() == before
