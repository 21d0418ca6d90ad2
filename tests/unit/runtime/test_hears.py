"""Which events reach a component that says what it hears."""

from __future__ import annotations

import pytest

from hansa.apis.app_event_type import AppEventType
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.components.handlers.intime_model_selection_handler import IntimeModelSelectionHandler
from hansa.components.widgets.convert_to_fed_event import ConvertToFedEvent
from hansa.components.widgets.history_receiver import HistoryReceiver
from hansa.runtime.events import EventFirer


class Picky(FLComponent):
    """Hears `a` and `b`."""

    hears = frozenset("ab")

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.told.append(event_type)


class Curious(Picky):
    """Has a handle_event of its own, and says nothing."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        super().handle_event(event_type, fl_ctx)


class Renamed(Picky):
    """Inherits both."""


class Choosy(Curious):
    """Says again what it hears, here by a property."""

    @property
    def hears(self) -> frozenset[str]:  # type: ignore[override]  # the class above has a plain attribute
        return frozenset("c")


class HearsAll(Picky):
    """Takes back what the class above says."""

    hears = None  # type: ignore[assignment]  # what the base allows


def fire(component: FLComponent, *events: str, scope: str = EventScope.LOCAL) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, scope, private=True, sticky=False)
    firer = EventFirer([component], lambda *failure: pytest.fail(str(failure)))
    for event in events:
        firer.fire(event, fl_ctx)
    return fl_ctx


@pytest.mark.parametrize(
    ("kind", "told"),
    [(Picky, "ab"), (Renamed, "ab"), (Curious, "abc"), (Choosy, "c"), (HearsAll, "abc")],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_a_component_is_told_what_the_class_of_its_handler_hears(kind: type[Picky], told: str) -> None:
    component = kind()
    fire(component, *"abc")
    assert component.told == list(told)


def test_a_federated_event_reaches_everybody() -> None:
    component = Picky()
    fire(component, "x", scope=EventScope.FEDERATION)
    assert component.told == ["x"]


def test_an_event_that_nobody_hears_leaves_the_context_as_it_is() -> None:
    assert fire(Picky(), "x").get_prop(FLContextKey.EVENT_ID) is None
    assert fire(Picky(), "a").get_prop(FLContextKey.EVENT_ID) == "a"


def test_parts_that_are_told_events_by_name_hear_these() -> None:
    assert ConvertToFedEvent(["x", "y"]).hears == {"x", "y"}
    assert HistoryReceiver(["z"]).hears == {EventType.START_RUN, EventType.END_RUN, AppEventType.ROUND_STARTED, "z"}
    assert EventType.BEFORE_TASK_EXECUTION not in IntimeModelSelectionHandler().hears
