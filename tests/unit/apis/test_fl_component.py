"""FLComponent: events and lines of the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hansa.apis.analytix import AnalyticsData
from hansa.apis.dxo import DataKind, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class Engine:
    """Keeps what was fired, with what handlers would see."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, Any, str, str]] = []

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        data, scope, origin = (
            fl_ctx.get_prop(key)
            for key in (FLContextKey.EVENT_DATA, FLContextKey.EVENT_SCOPE, FLContextKey.EVENT_ORIGIN)
        )
        self.fired.append((event_type, data, scope, origin))


class Part(FLComponent):
    """A component of an application."""


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def fl_ctx(engine: Engine) -> FLContext:
    ctx = FLContext()
    ctx.set_prop(ReservedKey.ENGINE, engine)
    ctx.set_run_number(2)
    return ctx


def test_name_and_logger_are_those_of_the_class() -> None:
    part = Part()

    assert part._name == "Part"
    assert part.logger is logging.getLogger("Part")


def test_a_component_that_ignores_events_can_be_told_from_its_class() -> None:
    Part().handle_event(EventType.START_RUN, FLContext())  # does nothing

    assert Part.handle_event is FLComponent.handle_event


def test_fire_event(engine: Engine, fl_ctx: FLContext) -> None:
    Part().fire_event("my_event", fl_ctx)

    assert engine.fired == [("my_event", None, EventScope.LOCAL, "Part")]


@pytest.mark.parametrize("event_type", [None, 1, b"x"])
def test_fire_event_refuses_other_types(event_type: Any, fl_ctx: FLContext) -> None:
    with pytest.raises(TypeError, match="^expect event_type to be str, but got <class"):
        Part().fire_event(event_type, fl_ctx)
    with pytest.raises(TypeError, match="^expect event_type to be str, but got <class"):
        Part().fire_fed_event(event_type, Shareable(), fl_ctx)


def test_fire_event_refuses_an_empty_type_and_a_foreign_context(fl_ctx: FLContext) -> None:
    with pytest.raises(ValueError, match="^event_type must be specified"):
        Part().fire_event("", fl_ctx)
    with pytest.raises(TypeError, match="^expect fl_ctx to be FLContext, but got <class 'dict'>"):
        Part().fire_event("x", {})  # type: ignore[arg-type]


def test_fire_fed_event_refuses_other_types(fl_ctx: FLContext) -> None:
    with pytest.raises(TypeError, match="^expect fl_ctx to be FLContext, but got <class 'NoneType'>"):
        Part().fire_fed_event("x", Shareable(), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^expect event_data to be Shareable, but got <class 'dict'>"):
        Part().fire_fed_event("x", {}, fl_ctx)  # type: ignore[arg-type]


def test_fire_fed_event(engine: Engine, fl_ctx: FLContext) -> None:
    data = Shareable()

    Part().fire_fed_event("fed.x", data, fl_ctx, targets=["site-1"])

    ((event_type, event_data, scope, origin),) = engine.fired
    assert (event_type, scope, origin) == ("fed.x", "federation", "Part")
    assert event_data is data
    assert data.get_header("_targets") == ["site-1"]


def test_an_event_fired_on_the_context_of_a_federated_one_stays_here(engine: Engine, fl_ctx: FLContext) -> None:
    Part().fire_fed_event("fed.x", Shareable(), fl_ctx)
    Part().fire_event("answer", fl_ctx)

    assert [(fired[0], fired[2]) for fired in engine.fired] == [("fed.x", "federation"), ("answer", "local")]


def test_panics(engine: Engine, fl_ctx: FLContext) -> None:
    Part().system_panic("no model", fl_ctx)
    Part().task_panic("no data", fl_ctx)

    assert engine.fired == [
        ("_fatal_system_error", "no model", "local", "Part"),
        ("_fatal_task_error", "no data", "local", "Part"),
    ]


def test_the_properties_of_an_event_are_private_and_not_sticky(fl_ctx: FLContext) -> None:
    Part().system_panic("no model", fl_ctx)

    for key in (FLContextKey.EVENT_DATA, FLContextKey.EVENT_SCOPE, FLContextKey.EVENT_ORIGIN):
        detail = fl_ctx.get_prop_detail(key)
        assert detail is not None
        assert detail["private"]
        assert not detail["sticky"]


def test_without_an_engine_firing_logs_an_error(caplog: pytest.LogCaptureFixture) -> None:
    part = Part()

    part.fire_event("x", FLContext())
    part.fire_fed_event("fed.x", Shareable(), FLContext())
    part.system_panic("no model", FLContext())
    part.log_warning(FLContext(), "careful")

    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("ERROR", "[run=?]: event x reaches nobody: no engine in fl_ctx"),
        ("ERROR", "[run=?]: event fed.x reaches nobody: no engine in fl_ctx"),
        ("ERROR", "[run=?]: event _fatal_system_error (no model) reaches nobody: no engine in fl_ctx"),
        ("WARNING", "[run=?]: careful"),
        ("ERROR", "[run=?]: event _warning_log_available reaches nobody: no engine in fl_ctx"),
    ]


@pytest.mark.parametrize(
    ("method", "level", "fires"),
    [
        ("log_debug", "DEBUG", False),
        ("log_info", "INFO", False),
        ("log_warning", "WARNING", True),
        ("log_error", "ERROR", True),
        ("log_critical", "CRITICAL", True),
        ("log_exception", "ERROR", False),
    ],
)
def test_lines_and_their_events(
    method: str, level: str, fires: bool, engine: Engine, fl_ctx: FLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log = getattr(Part(), method)

    log(fl_ctx, "hello")
    assert len(engine.fired) == int(fires)
    log(fl_ctx, "hello", fire_event=False)
    assert len(engine.fired) == int(fires)
    log(fl_ctx, "hello", fire_event=True)
    assert len(engine.fired) == int(fires) + 1

    assert [record.levelname for record in caplog.records] == [level] * 3
    assert {record.getMessage() for record in caplog.records} == {"[run=2]: hello"}
    assert {record.filename for record in caplog.records} == {"test_fl_component.py"}
    event_type, data, scope, _ = engine.fired[-1]
    word = method.removeprefix("log_")
    assert event_type == f"_{word}_log_available"
    assert scope == "local"
    assert from_shareable(data).data_kind == DataKind.ANALYTIC
    record = AnalyticsData.from_dxo(from_shareable(data))
    assert (record.tag, record.value) == (f"log/{word}", "[run=2]: hello")


def test_a_level_that_is_off_still_fires_its_event(
    engine: Engine, fl_ctx: FLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    Part().log_info(fl_ctx, "unseen")
    Part().log_info(fl_ctx, "unheard", fire_event=True)

    assert caplog.records == []
    assert [fired[0] for fired in engine.fired] == ["_info_log_available"]


def test_log_exception_shows_where_it_came_from(
    engine: Engine, fl_ctx: FLContext, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        Part().log_exception(fl_ctx, "it failed", fire_event=True)

    assert "KeyError: 'lost'" in caplog.text
    value = AnalyticsData.from_dxo(from_shareable(engine.fired[0][1])).value
    assert value.startswith("[run=2]: it failed\nTraceback")
    assert "KeyError: 'lost'" in value


def test_a_subclass_may_overwrite_name_and_logger(
    engine: Engine, fl_ctx: FLContext, caplog: pytest.LogCaptureFixture
) -> None:
    part = Part()
    part._name = "mine"
    part.logger = logging.getLogger("mine too")

    part.log_warning(fl_ctx, "x")

    assert [record.name for record in caplog.records] == ["mine too"]
    assert engine.fired[0][3] == "mine"
