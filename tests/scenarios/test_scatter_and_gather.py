"""ScatterAndGather in whole federations, driven by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation import GRACE, PERIOD, Federation, MemoryPersistor, failed, trained
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DataKind, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey, make_model_learnable
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from hansa.components.workflows.scatter_and_gather import ScatterAndGather
from pump import KnowsSites, ServerEngine
from sides import Listener

# FedAvg on three sites by hand. Round 0: weights are the steps 1, 2, 1 of 4:
#   (1*1 + 2*3 + 1*5) / 4 = 3     (1*2 + 2*6 + 1*4) / 4 = 4.5
# Round 1, equal steps: (0 + 3 + 6) / 3 = 3     (3 + 3 + 3) / 3 = 3
THREE = ("site-1", "site-2", "site-3")


def fed_avg(
    engine: type[ServerEngine] = KnowsSites, order: tuple[int, ...] = (0, 1, 2), **arguments: Any
) -> Federation:
    fed = Federation(*THREE, engine=engine, min_clients=3, num_rounds=2, **arguments)
    first = [trained(1, 2, steps=1, metric=0.5), trained(3, 6, steps=2, metric=0.25), trained(5, 4, steps=1)]
    second = [trained(0, 3), trained(3, 3), trained(6, 3)]
    for results in (first, second):
        answers = [fed.sites.answer(THREE[i], results[i]) for i in order]
        fed.script(fed.sites.ask(*THREE), *answers, fed.engine.waiter.pass_time)
    fed.run()
    return fed


@pytest.mark.parametrize("engine", [KnowsSites, ServerEngine])
def test_fed_avg_on_three_sites(engine: type[ServerEngine]) -> None:
    fed = fed_avg(engine)
    np.testing.assert_array_equal(fed.persistor.saved, [[3, 4.5], [3, 3]])
    assert fed.persistor.seen == [(0, 2)]
    assert fed.counted == [(0, "site-1"), (0, "site-2"), (0, "site-3"), (1, "site-1"), (1, "site-2"), (1, "site-3")]
    assert fed.engine.commits == [{"next_round": 1}, {"next_round": 2}]


def test_the_result_does_not_depend_on_the_order_of_arrival() -> None:
    np.testing.assert_array_equal(fed_avg(order=(2, 0, 1)).persistor.saved, fed_avg().persistor.saved)


def test_with_named_targets_a_round_ends_when_all_have_answered() -> None:
    assert fed_avg().elapsed == 0


def test_where_anyone_may_come_a_round_stands_for_the_whole_grace() -> None:
    assert fed_avg(ServerEngine).elapsed == pytest.approx(2 * (GRACE + PERIOD))


def test_events_come_in_the_promised_order() -> None:
    handed_out = [AppEventType.BEFORE_TRAIN_TASK] * 3
    accepted = [AppEventType.BEFORE_CONTRIBUTION_ACCEPT, AppEventType.AFTER_CONTRIBUTION_ACCEPT] * 3
    one_round = [
        AppEventType.ROUND_STARTED,
        *handed_out,
        *accepted,
        AppEventType.BEFORE_AGGREGATION,
        AppEventType.AFTER_AGGREGATION,
        AppEventType.BEFORE_SHAREABLE_TO_LEARNABLE,
        AppEventType.AFTER_SHAREABLE_TO_LEARNABLE,
        AppEventType.BEFORE_LEARNABLE_PERSIST,
        AppEventType.AFTER_LEARNABLE_PERSIST,
        AppEventType.ROUND_DONE,
    ]
    begin = [AppEventType.INITIAL_MODEL_LOADED, AppEventType.TRAINING_STARTED]
    assert fed_avg().events == [*begin, *one_round, *one_round]


def test_contexts_hold_what_each_event_is_about() -> None:
    fed = fed_avg()
    at = fed.watch.at
    assert at(AppEventType.INITIAL_MODEL_LOADED)[0][AppConstants.GLOBAL_MODEL] is fed.persistor.model
    assert at(AppEventType.TRAINING_STARTED)[0][AppConstants.NUM_ROUNDS] == 2
    assert [props[AppConstants.CURRENT_ROUND] for props in at(AppEventType.ROUND_STARTED)] == [0, 1]
    assert all(AppConstants.TRAIN_SHAREABLE in props for props in at(AppEventType.BEFORE_TRAIN_TASK))
    before, after = at(AppEventType.BEFORE_CONTRIBUTION_ACCEPT)[0], at(AppEventType.AFTER_CONTRIBUTION_ACCEPT)[0]
    assert (before[AppConstants.CURRENT_ROUND], before[AppConstants.CONTRIBUTION_ROUND]) == (0, 0)
    assert from_shareable(before[AppConstants.TRAINING_RESULT]).data_kind == DataKind.WEIGHTS
    assert AppConstants.AGGREGATION_ACCEPTED not in before
    assert after[AppConstants.AGGREGATION_ACCEPTED] is True
    assert AppConstants.AGGREGATION_RESULT not in at(AppEventType.BEFORE_AGGREGATION)[0]
    assert isinstance(at(AppEventType.AFTER_AGGREGATION)[0][AppConstants.AGGREGATION_RESULT], Shareable)
    with fed.engine.new_context() as fl_ctx:  # what is sticky reaches later contexts
        assert fl_ctx.get_prop(AppConstants.GLOBAL_MODEL) is fed.persistor.model
        assert fl_ctx.get_prop(RoundKey.TARGETS) == list(THREE)
        assert fl_ctx.get_prop(AppConstants.START_ROUND) == 0
        assert fl_ctx.get_prop(AppConstants.CURRENT_ROUND) is None


def test_sites_get_one_and_the_same_model_with_headers_and_cookie() -> None:
    fed = fed_avg(start_round=7)
    data = [fed.sites.given[name][2] for name in THREE]
    assert data[0] is data[1] is data[2]
    assert data[0].get_header(AppConstants.CURRENT_ROUND) == 8
    assert data[0].get_header(AppConstants.NUM_ROUNDS) == 2
    assert data[0].get_cookie(AppConstants.CONTRIBUTION_ROUND) == 8
    assert fed.persistor.seen == [(7, 2)]


def test_the_history_has_targets_weights_and_metrics() -> None:
    fed = fed_avg()
    assert fed.engine.history.calls[:7] == [
        ("opened", 0, list(THREE)),
        ("counted", 0, "site-1", 1.0),
        ("scalar", 0, "site-1", "initial_metrics", 0.5, None),
        ("counted", 0, "site-2", 2.0),
        ("scalar", 0, "site-2", "initial_metrics", 0.25, None),
        ("counted", 0, "site-3", 1.0),
        ("closed", 0),
    ]


class TestQuorum:
    EIGHT = tuple(f"site-{i}" for i in range(1, 9))

    def test_one_lost_site_of_eight_costs_the_grace_and_no_more(self) -> None:
        fed = Federation(*self.EIGHT, min_clients=6)
        fed.script(fed.sites.ask(*self.EIGHT), *[fed.sites.answer(name, trained(1, 1)) for name in self.EIGHT[:7]])
        fed.run()
        assert fed.elapsed == pytest.approx(GRACE + PERIOD)
        assert len(fed.counted) == 7

    def test_a_round_does_not_open_before_enough_sites_are_live(self) -> None:
        fed = Federation("site-2", min_clients=2)
        opened: list[int] = []

        def join() -> None:
            opened.append(len(fed.engine.history.calls))
            fed.engine.live.append("site-10")

        fed.script(
            join,
            fed.sites.ask("site-10", "site-2"),
            fed.sites.answer("site-2", trained(1, 1)),
            fed.sites.answer("site-10", trained(3, 3)),
        )
        fed.run()
        assert opened == [0]
        assert fed.engine.history.calls[0] == ("opened", 0, ["site-10", "site-2"])  # by code point
        np.testing.assert_array_equal(fed.persistor.saved, [[2, 2]])

    def test_a_site_that_comes_before_enough_have_answered_joins_and_a_later_one_does_not(self) -> None:
        fed = Federation("site-1", "site-2", min_clients=2, wait_time_after_min_received=GRACE)
        fed.script(
            fed.sites.ask("site-1", "site-2"),
            fed.sites.answer("site-1", trained(1, 1)),
            fed.sites.ask("early"),
            fed.sites.answer("site-2", trained(1, 1)),
            fed.sites.ask("late"),
            fed.sites.answer("early", trained(4, 4)),
        )
        fed.run()
        # (1 + 1 + 4) / 3 = 2; over as soon as all three have answered
        np.testing.assert_array_equal(fed.persistor.saved, [[2, 2]])
        assert fed.sites.idle == ["late"]
        assert fed.elapsed == 0
        assert fed.engine.history.calls[0] == ("opened", 0, ["site-1", "site-2"])

    def test_who_joins_is_a_target_of_the_next_round(self) -> None:
        fed = Federation("site-1", num_rounds=3)

        def late_comer() -> None:
            fed.sites.ask("site-2")()
            fed.engine.live.append("site-2")

        fed.script(
            fed.sites.ask("site-1"),
            fed.sites.answer("site-1", trained(1, 1)),
            fed.sites.ask("site-1"),
            late_comer,
            fed.sites.answer("site-1", trained(1, 1)),
            fed.sites.answer("site-2", trained(1, 1)),
            fed.sites.ask("site-1", "site-2"),
            fed.sites.answer("site-1", trained(1, 1)),
            fed.sites.answer("site-2", trained(1, 1)),
        )
        fed.run()
        # it came while round 1 had no answer yet: it joins that one, and is a target of round 2
        opened = [call for call in fed.engine.history.calls if call[0] == "opened"]
        assert opened == [("opened", 0, ["site-1"]), ("opened", 1, ["site-1"]), ("opened", 2, ["site-1", "site-2"])]
        assert fed.counted[1:3] == [(1, "site-1"), (1, "site-2")]

    def test_a_timeout_ends_a_round_whoever_has_answered(self) -> None:
        fed = Federation("site-1", "site-2", min_clients=2, train_timeout=60)
        fed.script(fed.sites.ask("site-1", "site-2"), fed.sites.answer("site-1", trained(1, 1)))
        fed.run()
        assert fed.elapsed == pytest.approx(60)
        np.testing.assert_array_equal(fed.persistor.saved, [[1, 1]])


class TestRefusals:
    def test_a_failure_is_an_answer_that_does_not_count(self) -> None:
        fed = Federation("site-1", "site-2", min_clients=2)
        fed.script(
            fed.sites.ask("site-1", "site-2"),
            fed.sites.answer("site-1", failed()),
            fed.sites.answer("site-2", trained(1, 1)),
        )
        fed.run()
        np.testing.assert_array_equal(fed.persistor.saved, [[1, 1]])
        assert fed.refused == [(0, "site-1", "EXECUTION_EXCEPTION ValueError: bad label")]
        assert fed.events.count(AppEventType.BEFORE_CONTRIBUTION_ACCEPT) == 1

    def test_or_it_ends_the_run_at_once_and_says_who_what_and_when(self) -> None:
        fed = Federation("site-1", "site-2", min_clients=2, ignore_result_error=False, num_rounds=3)
        fed.script(fed.sites.ask("site-1", "site-2"), fed.sites.answer("site-1", failed()))
        fed.run()
        assert fed.engine.panics == ["site-1: task train, round 0: EXECUTION_EXCEPTION ValueError: bad label"]
        assert fed.persistor.saved == []
        assert fed.elapsed == 0

    def test_the_aggregators_reason_is_kept(self) -> None:
        fed = Federation("site-1", "site-2", min_clients=2)
        fed.script(
            fed.sites.ask("site-1", "site-2"),
            fed.sites.answer("site-1", trained(1, float("nan"))),
            fed.sites.answer("site-2", trained(1, 1)),
        )
        fed.run()
        ((round_number, site, reason),) = fed.refused
        assert (round_number, site) == (0, "site-1")
        assert "w" in reason
        assert fed.watch.at(AppEventType.AFTER_CONTRIBUTION_ACCEPT)[0][AppConstants.AGGREGATION_ACCEPTED] is False

    def test_a_result_of_the_last_round_is_offered_refused_as_stale_and_kept_as_late(self) -> None:
        fed = Federation("site-1", "site-2", num_rounds=2)
        fed.script(
            fed.sites.ask("site-1", "site-2"),
            fed.sites.answer("site-1", trained(1, 1)),
        )

        def second_round() -> None:
            # the board was idle until the grace of round 0 was over; now round 1 stands
            fed.script(
                fed.sites.answer("site-2", trained(9, 9)),
                fed.sites.ask("site-1", "site-2"),
                fed.sites.answer("site-1", trained(3, 3)),
                fed.sites.answer("site-2", trained(5, 5)),
            )

        hear(fed, AppEventType.ROUND_STARTED, second_round, nth=2)
        fed.run()
        np.testing.assert_array_equal(fed.persistor.saved, [[1, 1], [4, 4]])
        ((round_number, site, reason),) = fed.refused
        assert (round_number, site) == (0, "site-2")
        assert reason.startswith("late, came in round 1: ")

    def test_a_result_after_the_training_is_kept_as_late_and_not_offered(self) -> None:
        fed = Federation("site-1", "site-2")
        fed.script(fed.sites.ask("site-1", "site-2"), fed.sites.answer("site-1", trained(1, 1)))
        fed.run()
        fed.sites.answer("site-2", trained(9, 9))()
        assert fed.refused == [(0, "site-2", "late, came in round 0: the training was over")]
        assert fed.events.count(AppEventType.BEFORE_CONTRIBUTION_ACCEPT) == 1

    def test_a_result_for_another_task_is_ignored(self, caplog: pytest.LogCaptureFixture) -> None:
        fed = fed_avg()
        fed.workflow.process_result_of_unknown_task(
            fed.engine.get_clients()[0],  # type: ignore[attr-defined]  # this engine knows its sites
            "sing",
            "id",
            failed(),
            fed.engine.new_context(),
        )
        assert "a result for task sing is ignored" in caplog.text
        assert fed.refused == []

    def test_too_few_counted_ends_the_run_and_names_the_first_refusals(self) -> None:
        names = tuple(f"site-{i}" for i in range(1, 9))
        fed = Federation(*names, min_clients=6, min_counted=6, num_rounds=2)
        bad = [fed.sites.answer(name, failed(error=f"ValueError: {name}")) for name in names[:6]]
        fed.script(fed.sites.ask(*names), *bad, *[fed.sites.answer(name, trained(1, 1)) for name in names[6:]])
        fed.run()
        (reason,) = fed.engine.panics
        assert reason == (
            "round 0: 2 of 8 results counted, 6 needed: site-1: EXECUTION_EXCEPTION ValueError: site-1; "
            "site-2: EXECUTION_EXCEPTION ValueError: site-2; site-3: EXECUTION_EXCEPTION ValueError: site-3; "
            "3 more refused"
        )
        assert AppEventType.BEFORE_AGGREGATION not in fed.events
        assert fed.persistor.saved == []

    def test_nothing_counted_leaves_the_model_and_the_round_counts(self) -> None:
        fed = Federation("site-1")
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", failed()))
        fed.run()
        np.testing.assert_array_equal(fed.persistor.saved, [[0, 0]])
        assert fed.events[-1] == AppEventType.ROUND_DONE

    def test_an_aggregator_that_raises_fails_the_workflow(self) -> None:
        class Broken(InTimeAccumulateWeightedAggregator):
            def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
                raise ZeroDivisionError("mine")

        fed = Federation("site-1", parts={"aggregator": Broken()})
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(1, 1)))
        with pytest.raises(ZeroDivisionError, match="mine"):
            fed.run()
        assert fed.persistor.saved == []


def hear(fed: Federation, event: str, action: Any, *, nth: int = 1) -> None:
    """Do something when an event is fired for the n-th time."""

    class Ear(Listener):
        count = 0

        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            self.count += event_type == event
            if event_type == event and self.count == nth:
                action()

    fed.engine.handlers.append(Ear())


class TestAbort:
    @pytest.mark.parametrize(
        ("event", "last"),
        [
            (AppEventType.TRAINING_STARTED, AppEventType.TRAINING_STARTED),
            (AppEventType.AFTER_AGGREGATION, AppEventType.AFTER_AGGREGATION),
            (AppEventType.AFTER_SHAREABLE_TO_LEARNABLE, AppEventType.AFTER_SHAREABLE_TO_LEARNABLE),
            (AppEventType.AFTER_LEARNABLE_PERSIST, AppEventType.AFTER_LEARNABLE_PERSIST),
            (AppEventType.AFTER_CONTRIBUTION_ACCEPT, AppEventType.AFTER_CONTRIBUTION_ACCEPT),
        ],
    )
    def test_a_run_stops_between_phases(self, event: str, last: str) -> None:
        fed = Federation("site-1")
        hear(fed, event, lambda: fed.engine.abort_signal.trigger("stop"))
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(1, 1)))
        fed.run()
        assert fed.events[-1] == last
        assert fed.engine.commits == []

    def test_a_run_stops_while_it_waits_for_answers_or_for_sites(self) -> None:
        for live in ((), ("site-1",)):
            fed = Federation(*live)
            fed.script(lambda fed=fed: fed.engine.abort_signal.trigger("stop"))
            fed.run()
            assert fed.persistor.saved == []
            assert fed.workflow.get_num_standing_tasks() == 0


class GivesNothing(MemoryPersistor):
    """Has no initial model and says so with None."""

    def load_model(self, fl_ctx: FLContext) -> Any:
        return None


class TestStart:
    @pytest.mark.parametrize("component", ["aggregator", "persistor", "shareable_generator"])
    @pytest.mark.parametrize("wrong", [None, object()])
    def test_a_wrong_component_ends_the_run(self, component: str, wrong: object) -> None:
        fed = Federation("site-1", parts={component: wrong})
        fed.run()
        assert len(fed.engine.panics) == 1
        assert f"component '{component}' must be a " in fed.engine.panics[0]
        assert fed.events == [EventType.FATAL_SYSTEM_ERROR]

    @pytest.mark.parametrize("none", [MemoryPersistor(make_model_learnable({}, {})), GivesNothing()])
    def test_without_any_model_the_run_ends(self, none: MemoryPersistor) -> None:
        fed = Federation("site-1", parts={"persistor": none})
        fed.run()
        assert "no initial model" in fed.engine.panics[0]

    def test_what_is_no_model_ends_the_run(self) -> None:
        fed = Federation("site-1", parts={"persistor": MemoryPersistor({"w": 1})})
        fed.run()
        assert "must load a ModelLearnable, but gave a dict" in fed.engine.panics[0]

    @pytest.mark.parametrize("none", [MemoryPersistor(make_model_learnable({}, {})), GivesNothing()])
    def test_a_model_that_a_workflow_before_left_is_taken(self, none: MemoryPersistor) -> None:
        fed = Federation("site-1", parts={"persistor": none})
        left = make_model_learnable({"w": np.ones(2)}, {})
        with fed.engine.new_context() as fl_ctx:
            fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, left, private=True, sticky=True)
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(2, 2)))
        fed.run()
        np.testing.assert_array_equal(left[ModelLearnableKey.WEIGHTS]["w"], [2, 2])

    def test_the_control_flow_needs_no_context_of_the_one_before(self) -> None:
        fed = Federation("site-1")
        fed.workflow.initialize_run(fed.engine.new_context())  # nobody hands its sticky properties on
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(2, 2)))
        fed.workflow.control_flow(Signal(), fed.engine.new_context())
        np.testing.assert_array_equal(fed.persistor.saved, [[2, 2]])

    def test_a_restored_workflow_goes_on_where_it_was(self) -> None:
        fed = Federation("site-1", num_rounds=3)
        fed.workflow.restore({"next_round": 2})
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(1, 1)))
        fed.run()
        assert fed.counted == [(2, "site-1")]
        assert fed.workflow.state() == {"next_round": 3}

    def test_who_collects_statistics_is_told(self) -> None:
        class Collector:
            def __init__(self) -> None:
                self.info: dict[str, Any] = {}

            def set_info(self, group_name: str, info: dict[str, Any]) -> None:
                self.info[group_name] = dict(info)

            def add_info(self, group_name: str, info: dict[str, Any]) -> None:
                self.info.setdefault(group_name, {}).update(info)

        fed, collector = fed_avg(), Collector()
        fl_ctx = fed.engine.new_context()
        fl_ctx.set_prop("info_collector.stats_collector", collector, private=True, sticky=False)
        fed.workflow.handle_event("info_collector.get_stats", fl_ctx)
        assert collector.info["ScatterAndGather"] == {
            "tasks": {},
            "phase": AppConstants.PHASE_FINISHED,
            "current_round": 1,
            "num_rounds": 2,
        }

    @pytest.mark.parametrize(
        ("argument", "value", "error"),
        [
            ("min_clients", 0, ValueError),
            ("min_clients", 1.0, TypeError),
            ("num_rounds", -1, ValueError),
            ("num_rounds", "5", TypeError),
            ("start_round", -1, ValueError),
            ("wait_time_after_min_received", 0.5, TypeError),
            ("train_timeout", -1, ValueError),
            ("min_counted", -1, ValueError),
            ("aggregator_id", 3, TypeError),
            ("persistor_id", None, TypeError),
            ("shareable_generator_id", 3, TypeError),
            ("train_task_name", 3, TypeError),
        ],
    )
    def test_arguments_are_checked(self, argument: str, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match=argument):
            ScatterAndGather(**{argument: value})
