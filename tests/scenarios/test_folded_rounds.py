"""ScatterAndGather with results that are folded near their sites: the workflow's side of it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from federation import Federation, trained
from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.controller_spec import Task
from hansa.apis.dxo import DXO
from hansa.apis.engine import RoundKey
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldedPart, FoldPlan, PlansFolding, SourceFold
from hansa.apis.model import ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from hansa.components.workflows.intake import Intake
from hansa.errors import RuleError
from pump import ServerEngine
from sides import Side

THREE = ("site-1", "site-2", "site-3")


def standing(fed: Federation, site: str = "site-1") -> Task:
    task = fed.workflow.task_of(fed.sites.given[site][1])
    assert task is not None
    return task


def planned(fed: Federation, task: Task | None = None) -> FoldPlan | None:
    with fed.engine.new_context() as fl_ctx:
        return fed.workflow.fold_plan(standing(fed) if task is None else task, fl_ctx)


def taken(fed: Federation, part: FoldedPart) -> None:
    with fed.engine.new_context() as fl_ctx:
        fed.workflow.accept_part(part, fl_ctx)


class Holder:
    """A process that holds some of the sites: it folds what they send, and passes on the sum and the rest of them."""

    def __init__(self, fed: Federation, *held: str) -> None:
        self.fed = fed
        plan = planned(fed)
        assert plan is not None
        self.plan = plan
        rule = InTimeAccumulateWeightedAggregator(**plan.rule.args)
        self.source: SourceFold = rule.source_fold(plan, held, allocate=lambda size: np.empty(size, np.uint8))

    def send(self, results: dict[str, DXO]) -> None:
        rests = {}
        for site, dxo in results.items():
            whole = dxo.to_shareable()
            whole.set_cookie_jar(dict(self.fed.sites.given[site][2].get_cookie_jar() or {}))
            refusal = self.source.add(site, whole)
            rest = rests[site] = DXO(dxo.data_kind, {}, dxo.meta).to_shareable()
            rest.set_header(RoundKey.FOLDED, refusal or "")
        for part in self.source.ready():
            taken(self.fed, part)
        for site, rest in rests.items():
            self.fed.sites.answer(site, rest)()


RESULTS = {
    "site-1": trained(0.1, 2, steps=1, metric=0.5),
    "site-2": trained(0.2, float("nan"), steps=2),
    "site-3": trained(0.7, 4, steps=5),
}


def test_a_round_of_sums_is_the_round_of_its_results() -> None:
    whole, summed = (Federation(*THREE, min_clients=3) for _ in range(2))
    whole.script(
        whole.sites.ask(*THREE),
        *[whole.sites.answer(site, dxo) for site, dxo in RESULTS.items()],
    )
    summed.script(summed.sites.ask(*THREE), lambda: Holder(summed, *THREE).send(RESULTS))
    whole.run()
    summed.run()
    assert isinstance(summed.workflow, PlansFolding)
    np.testing.assert_array_equal(summed.persistor.saved, whole.persistor.saved)
    # weights 1 and 5 of 6; site-2 does not count
    np.testing.assert_allclose(summed.persistor.saved, [[(0.1 + 5 * 0.7) / 6, (2 + 5 * 4) / 6]])
    assert summed.engine.history.calls == whole.engine.history.calls
    assert summed.events == whole.events
    assert [site for _, site in summed.counted] == ["site-1", "site-3"]


def test_the_plan_is_about_the_open_round() -> None:
    fed = Federation(*THREE, min_clients=3, start_round=4)
    plans: list[Any] = []

    def plan() -> None:
        plans.append(planned(fed))
        bare = FLContext()  # knows nothing of the round
        plans.append(fed.workflow.fold_plan(standing(fed), bare))
        assert bare.get_prop(AppConstants.GLOBAL_MODEL) is fed.persistor.model

    fed.script(fed.sites.ask(*THREE), plan, *[fed.sites.answer(name, trained(1, 1)) for name in THREE])
    fed.run()
    for made in plans:
        assert (made.round_number, made.targets) == (4, list(THREE))
        assert [(spec.name, spec.shape) for spec in made.model] == [("w", (2,))]


def test_a_site_that_joins_sends_its_result_whole_and_counts() -> None:
    fed = Federation("site-1", "site-3", min_clients=2)

    def fold() -> None:
        early = Holder(fed, "site-1", "site-2", "site-3")
        fed.sites.ask("site-2")()  # joins after the plan was made
        late = Holder(fed, "site-1", "site-2", "site-3")  # of a plan that was made after it joined
        for holder in (early, late):
            assert holder.plan.targets == ["site-1", "site-3"]
            assert holder.source.needs_whole("site-2")
        early.send({"site-1": trained(1, 1), "site-3": trained(2, 2)})

    fed.script(fed.sites.ask("site-1", "site-3"), fold, fed.sites.answer("site-2", trained(6, 6)))
    fed.run()
    np.testing.assert_array_equal(fed.persistor.saved, [[3, 3]])
    assert [site for _, site in fed.counted] == ["site-1", "site-3", "site-2"]


class Whole(InTimeAccumulateWeightedAggregator):
    """Makes no plan."""

    def fold_plan(self, fl_ctx: FLContext) -> FoldPlan | None:
        return None


class Plain(Aggregator):
    """An application's own, which knows nothing of folding; the last result wins."""

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        self.last = shareable
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        return self.last


@pytest.mark.parametrize("aggregator", [Whole(expected_data_kind="WEIGHTS"), Plain()], ids=["whole", "plain"])
def test_an_aggregator_without_a_plan_gets_whole_results(aggregator: Aggregator) -> None:
    fed, plans = Federation("site-1", parts={"aggregator": aggregator}), list[Any]()
    fed.script(fed.sites.ask("site-1"), lambda: plans.append(planned(fed)), fed.sites.answer("site-1", trained(1, 1)))
    fed.run()
    assert plans == [None]
    np.testing.assert_array_equal(fed.persistor.saved, [[1, 1]])


def test_where_anyone_may_come_there_is_no_plan() -> None:
    fed, plans = Federation(engine=ServerEngine), list[Any]()
    fed.script(fed.sites.ask("site-1"), lambda: plans.append(planned(fed)), fed.sites.answer("site-1", trained(1, 1)))
    fed.run()
    assert plans == [None]


@pytest.mark.parametrize(
    "callback", ["before_task_sent_cb", "after_task_sent_cb", "result_received_cb", "task_done_cb"]
)
def test_a_task_that_others_look_at_has_no_plan(callback: str) -> None:
    fed, plans = Federation("site-1"), list[Any]()

    def listen() -> None:
        task = standing(fed)
        plans.append(planned(fed))
        before = getattr(task, callback)
        setattr(task, callback, lambda **arguments: None)
        plans.append(planned(fed))
        setattr(task, callback, before)

    fed.script(fed.sites.ask("site-1"), listen, fed.sites.answer("site-1", trained(1, 1)))
    fed.run()
    assert isinstance(plans[0], FoldPlan)
    assert plans[1] is None


def test_another_task_and_one_that_is_over_have_no_plan() -> None:
    fed, plans, tasks = Federation("site-1"), list[Any](), list[Task]()

    def plan() -> None:
        tasks.append(standing(fed))
        plans.append(planned(fed, Task("other", Shareable())))

    fed.script(fed.sites.ask("site-1"), plan, fed.sites.answer("site-1", trained(1, 1)))
    fed.run()
    plans.append(planned(fed, tasks[0]))
    assert plans == [None, None]


def test_a_sum_that_comes_after_its_round_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    fed, holders = Federation("site-1", "site-2", min_clients=2), list[Holder]()
    fed.script(
        fed.sites.ask("site-1", "site-2"),
        lambda: holders.append(Holder(fed, "site-1", "site-2")),
        fed.sites.answer("site-1", trained(1, 1)),
        fed.sites.answer("site-2", trained(3, 3)),
    )
    fed.run()
    for site in ("site-1", "site-2"):
        whole = trained(9, 9).to_shareable()
        whole.add_cookie(AppConstants.CONTRIBUTION_ROUND, 0)
        holders[0].source.add(site, whole)
    for part in holders[0].source.ready():
        taken(fed, part)
    assert "a sum over 2 sites came after its round and is dropped" in caplog.text
    np.testing.assert_array_equal(fed.persistor.model[ModelLearnableKey.WEIGHTS]["w"], [2, 2])


def test_a_sum_of_what_is_counted_already_is_an_error() -> None:
    fed, refusals = Federation("site-1", "site-2", min_clients=2), list[str]()

    def twice() -> None:
        holder = Holder(fed, "site-1", "site-2")
        fed.sites.answer("site-1", trained(1, 1))()
        with pytest.raises(RuleError) as caught:
            holder.send({"site-1": trained(9, 9), "site-2": trained(9, 9)})
        refusals.append(str(caught.value))

    fed.script(fed.sites.ask("site-1", "site-2"), twice, fed.sites.answer("site-2", trained(3, 3)))
    fed.run()
    assert len(refusals) == 1
    np.testing.assert_array_equal(fed.persistor.saved, [[2, 2]])


def test_sums_and_results_are_taken_one_at_a_time() -> None:
    class Slow(InTimeAccumulateWeightedAggregator):
        now = most = total = 0

        def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
            self._call()
            return True

        def accept_part(self, part: FoldedPart, fl_ctx: FLContext) -> None:
            self._call()

        def _call(self) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            self.total += sum(range(2000)) > 0  # long enough for a thread to be switched
            self.now -= 1

    aggregator, side, gate = Slow(), Side("project", []), threading.Barrier(4)
    intake = Intake(aggregator, aggregator, history=None)
    intake.open(0, ["site-1"])
    part = FoldedPart((0, 1), ["site-1"], {}, [])

    def sums() -> None:
        gate.wait()
        for _ in range(50):
            intake.take_part(part, fl_ctx=side.new_context())

    def results() -> None:
        gate.wait()
        for _ in range(50):
            intake.take("site-1", Shareable(), fl_ctx=side.new_context())

    threads = [threading.Thread(target=work) for work in (sums, results) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (aggregator.most, aggregator.total) == (1, 200)


def test_an_aggregator_that_knows_nothing_of_sums_takes_none() -> None:
    intake = Intake(Plain(), Plain(), history=None)
    intake.open(0, ["site-1"])
    with pytest.raises(RuleError, match="Plain takes no sums"):
        intake.take_part(FoldedPart((0, 1), ["site-1"], {}, []), fl_ctx=FLContext())


def test_the_history_has_the_steps_and_metrics_of_results_without_tensors() -> None:
    fed = Federation("site-1")
    fed.script(
        fed.sites.ask("site-1"), lambda: Holder(fed, "site-1").send({"site-1": trained(1, 1, steps=7, metric=0.25)})
    )
    fed.run()
    assert fed.engine.history.calls[1:3] == [
        ("counted", 0, "site-1", 7.0),
        ("scalar", 0, "site-1", "initial_metrics", 0.25, None),
    ]
