"""Errors and figures of components, and calls to them by name."""

from __future__ import annotations

from hansa.apis.controller import Controller
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.components.widgets.comp_caller import CallInfo, ComponentCaller
from hansa.components.widgets.info_collector import GroupInfoCollector, InfoCollector
from sides import Side


class Counter(FLComponent):
    """Tells how far it has counted, and is set anew when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 3

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == InfoCollector.EVENT_TYPE_GET_STATS:
            collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR)
            collector.set_info(group_name="Counter", info={"old": 1})
            collector.set_info(group_name="Counter", info={"count": self.count})
            collector.add_info(group_name="Counter", info={"step": 1})
        elif event_type == ComponentCaller.EVENT_TYPE_CALL_COMPONENT:
            call: CallInfo = fl_ctx.get_prop(ComponentCaller.CTX_KEY_CALL_INFO)
            if call.target == "counter" and call.action == "set":
                self.count = call.params["to"]
                call.record_result("counter")


def test_the_last_error_of_each_component_is_kept_until_the_next_run() -> None:
    collector, counter = InfoCollector(), Counter()
    side = Side("site-1", [collector, counter])
    side.fire(EventType.START_RUN)
    assert collector.get_errors() is None
    with side.new_context() as fl_ctx:
        for text in ("first", "second"):
            counter.log_error(fl_ctx, text)
        counter.log_warning(fl_ctx, "careful")
        counter.log_error(fl_ctx, "quiet", fire_event=False)
    errors = collector.get_errors()
    assert errors is not None
    assert list(errors) == ["Counter"]
    assert {key: text.rpartition(" ")[2] for key, text in errors["Counter"].items()} == {
        "log/error": "second",
        "log/warning": "careful",
    }
    errors["Counter"].clear()  # a copy
    assert collector.get_group(InfoCollector.CATEGORY_ERROR, "Counter")
    collector.reset_group(InfoCollector.CATEGORY_ERROR, "Counter")
    assert collector.get_errors() == {}
    collector.set_info(InfoCollector.CATEGORY_STATS, "mine", {"a": 1})
    collector.add_info(InfoCollector.CATEGORY_STATS, "mine", "b", 2)
    collector.reset_errors()
    assert collector.get_category(InfoCollector.CATEGORY_STATS) == {"mine": {"a": 1, "b": 2}}
    side.fire(EventType.START_RUN)
    assert collector.get_category(InfoCollector.CATEGORY_STATS) is None


def test_components_tell_their_figures_when_asked() -> None:
    collector = InfoCollector()
    assert collector.get_run_stats() == {}  # no run is on
    side = Side("site-1", [collector, Counter()])
    side.fire(EventType.START_RUN)
    assert collector.get_run_stats() == {"Counter": {"count": 3, "step": 1}}
    assert InfoCollector.EVENT_TYPE_GET_STATS in Controller.hears  # workflows tell theirs
    assert GroupInfoCollector().info == {}


def test_a_call_reaches_whom_it_is_meant_for() -> None:
    caller, counter = ComponentCaller(), Counter()
    assert caller.call_components("counter", "set", {"to": 7}) == {}  # no run is on
    side = Side("site-1", [caller, counter])
    side.fire(EventType.START_RUN)
    assert caller.call_components("counter", "set", {"to": 7}) == {"counter": "OK"}
    assert counter.count == 7
    assert caller.call_components("nobody", "set", {"to": 8}) == {}
    assert counter.count == 7
