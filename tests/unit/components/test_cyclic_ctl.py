"""CyclicController by hand, on a clock in the hand: who gets what, who is passed over, what a restart finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation import MemoryPersistor, failed, trained
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind
from hansa.apis.engine import UNDECIDED
from hansa.apis.sampling import shuffled
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from hansa.components.workflows.cyclic_ctl import CyclicController
from pump import KnowsSites, Sites, run


class Decides(KnowsSites):
    """Keeps decisions, as a server with a journal does."""

    def __init__(self, components: dict[str, object]) -> None:
        super().__init__(components)
        self.decisions: dict[str, Any] = {}

    def decided(self, key: str) -> Any:
        return self.decisions.get(key, UNDECIDED)

    def decide(self, key: str, value: Any) -> None:
        self.decisions.setdefault(key, value)

    def seed_for(self, text: str) -> int:
        return 7


class Cycle:
    """A server with a cyclic workflow, and sites that are there; `**arguments` are the workflow's."""

    def __init__(self, *live: str, decisions: dict[str, Any] | None = None, **arguments: Any) -> None:
        self.persistor = MemoryPersistor()
        parts = {"persistor": self.persistor, "shareable_generator": FullModelShareableGenerator()}
        self.engine = Decides(parts)
        self.engine.decisions.update(decisions or {})
        self.engine.live = list(live)
        self.workflow = CyclicController(**{"num_rounds": 1, "order": "fixed", **arguments})
        self.sites = Sites(self.engine, self.workflow)

    def run(self, *steps: Any) -> None:
        self.engine.waiter.script.extend(steps)
        run(self.engine, self.workflow)

    def got(self, site: str) -> list[float]:
        data = self.sites.given[site][2]
        values: list[float] = data["DXO"]["data"]["w"].tolist()
        return values

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        return [call for call in self.engine.history.calls if call[0] in ("counted", "refused", "closed")]


def test_each_site_trains_on_what_the_one_before_has_made() -> None:
    cycle = Cycle("b", "a")
    sites = cycle.sites
    cycle.run(
        sites.ask("b", "a"), sites.answer("a", trained(1, 1)), sites.ask("b"), sites.answer("b", trained(3, 4, steps=2))
    )
    assert sites.idle == ["b"]  # it was not its turn
    assert (cycle.got("a"), cycle.got("b")) == ([0, 0], [1, 1])
    assert cycle.persistor.saved[-1].tolist() == [3, 4]
    assert cycle.calls == [("counted", 0, "a", 1.0), ("counted", 0, "b", 2.0), ("closed", 0)]
    assert cycle.engine.commits == [{"next_round": 1}]
    fired = cycle.engine.fired
    assert fired.count(AppEventType.AFTER_SHAREABLE_TO_LEARNABLE) == fired.count(AppEventType.BEFORE_TRAIN_TASK) == 2
    assert AppEventType.BEFORE_AGGREGATION not in fired


def test_differences_are_added_and_a_failed_site_is_passed_over() -> None:
    cycle = Cycle("a", "b", "c")
    sites = cycle.sites
    step = DXO(DataKind.WEIGHT_DIFF, {"w": np.array([1.0, 2.0])})
    cycle.run(
        sites.ask("a"), sites.answer("a", step), sites.ask("b"), sites.answer("b", failed()),
        sites.ask("c"), sites.answer("c", step),
    )  # fmt: skip
    assert (cycle.got("b"), cycle.got("c")) == ([1, 2], [1, 2])
    assert cycle.persistor.saved[-1].tolist() == [2, 4]
    assert ("refused", 0, "b", "EXECUTION_EXCEPTION ValueError: bad label") in cycle.calls


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (DXO(DataKind.WEIGHTS, {"w": np.array([1.0, np.nan])}), "'w'"),
        (DXO(DataKind.WEIGHTS, {"w": np.zeros(3)}), "shape (3,)"),
        (DXO(DataKind.WEIGHTS, {"v": np.zeros(2)}), "'v'"),
        (DXO(DataKind.METRICS, {"w": 1.0}), "METRICS"),
    ],
)
def test_what_is_no_model_goes_no_further(bad: DXO, says: str) -> None:
    cycle = Cycle("a", "b", names="exact")
    sites = cycle.sites
    cycle.run(sites.ask("a"), sites.answer("a", bad), sites.ask("b"), sites.answer("b", trained(5, 5)))
    assert cycle.got("b") == [0, 0]
    [refusal] = [call for call in cycle.calls if call[0] == "refused"]
    assert refusal[2] == "a"
    assert says in refusal[3]
    assert cycle.persistor.saved[-1].tolist() == [5, 5]


def test_a_site_that_does_not_come_is_passed_over_and_stays_so_after_a_restart() -> None:
    cycle = Cycle("a", "b", "c", task_assignment_timeout=10)
    sites = cycle.sites

    def later() -> None:
        cycle.engine.waiter.time += 11
        sites.ask("c")()

    cycle.run(sites.ask("a"), sites.answer("a", trained(1, 1)), later, sites.answer("c", trained(2, 2)))
    reason = "did not take the task within 10 s (task_assignment_timeout)"
    assert ("refused", 0, "b", reason) in cycle.calls
    assert cycle.engine.decisions["0/relay/0/skipped/b"] == reason
    again = Cycle("a", "b", "c", decisions=cycle.engine.decisions)
    sites = again.sites
    again.run(sites.ask("a"), sites.answer("a", trained(1, 1)), sites.ask("b", "c"), sites.answer("c", trained(2, 2)))
    assert "b" not in sites.given
    assert ("refused", 0, "b", reason) in again.calls


def test_a_site_that_works_for_too_long_is_passed_over_and_its_result_is_dropped() -> None:
    cycle = Cycle("a", "b", task_result_timeout=5)
    sites = cycle.sites

    def later() -> None:
        cycle.engine.waiter.time += 6
        sites.ask("b")()

    cycle.run(sites.ask("a"), later, sites.answer("a", trained(9, 9)), sites.answer("b", trained(1, 2)))
    assert cycle.got("b") == [0, 0]
    assert ("refused", 0, "a", "no result within 5 s (task_result_timeout)") in cycle.calls
    assert cycle.persistor.saved[-1].tolist() == [1, 2]


def test_the_last_site_may_fail_to_come_too() -> None:
    cycle = Cycle("a", "b", task_assignment_timeout=3)
    cycle.run(cycle.sites.ask("a"), cycle.sites.answer("a", trained(1, 1)))
    assert [call[2] for call in cycle.calls if call[0] == "refused"] == ["b"]
    assert ("closed", 0) in cycle.calls


def test_too_few_results_end_the_run() -> None:
    cycle = Cycle("a", "b", min_counted=2, task_assignment_timeout=3)
    cycle.run(cycle.sites.ask("a"), cycle.sites.answer("a", trained(1, 1)))
    assert cycle.engine.panics == [
        "round 0: 1 of 2 results counted, 2 needed: b: did not take the task within 3 s (task_assignment_timeout)"
    ]
    assert cycle.engine.commits == []
    assert cycle.persistor.saved[-1].tolist() == [1, 1]  # what there is, is saved at the stop


def test_the_order_is_drawn_from_the_seed_for_each_round() -> None:
    sites = [f"site-{number}" for number in range(1, 6)]
    cycle = Cycle(*sites, order="random", num_rounds=2)
    taken: list[str] = []

    def turn() -> None:
        for name in sites:
            cycle.sites.ask(name)()
            if name in cycle.sites.given:
                cycle.sites.answer(name, trained(1, 1))()
                del cycle.sites.given[name]
                taken.append(name)

    cycle.run(*[turn] * 20)
    assert taken == [*shuffled(sites, seed="7/0/order/0"), *shuffled(sites, seed="7/0/order/1")]
    assert taken[:5] != taken[5:]


def test_a_restored_workflow_goes_on_with_its_round() -> None:
    cycle = Cycle("a", num_rounds=3)
    cycle.workflow.restore({"next_round": 2})
    cycle.run(cycle.sites.ask("a"), cycle.sites.answer("a", trained(4, 4)))
    assert cycle.calls == [("counted", 2, "a", 1.0), ("closed", 2)]
    assert cycle.workflow.state() == {"next_round": 3}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"num_rounds": 1.0}, TypeError),
        ({"num_rounds": -1}, ValueError),
        ({"task_assignment_timeout": -1}, ValueError),
        ({"persistor_id": 3}, TypeError),
        ({"task_name": None}, TypeError),
        ({"order": "backwards"}, ValueError),
        ({"names": "none"}, ValueError),
        ({"min_clients": 0}, ValueError),
    ],
)
def test_arguments_are_checked(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CyclicController(**given)


def test_without_its_parts_it_ends_the_run() -> None:
    cycle = Cycle("a", persistor_id="nowhere")
    cycle.run()
    assert cycle.engine.panics == [
        "CyclicController: component 'nowhere' must be a LearnablePersistor, but there is none"
    ]
