"""The sites of one process: when they are made, what comes of their tasks, and how results are folded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldPlan, TensorSpec
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.apis.signal import Signal
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from hansa.jobs.build import Builder, ClientApp
from hansa.jobs.class_policy import ClassPolicy
from hansa.runtime.assignments import Assignment, Delivery, TaskBody, failed_reply
from hansa.runtime.host import MOST_EAGER, HostSettings, SiteHost, copy_plain
from hansa.runtime.memory_link import MemoryLink
from hansa.runtime.participants import Place, RunParts, make_site
from hansa.runtime.phases import Phases
from hansa.runtime.site_factory import FoldRules, SiteApp, deploy
from hansa.runtime.site_side import SiteSettings, SiteSide
from hansa.runtime.user_code import Failure, Mishap
from hansa.wire.blobs import fresh
from hansa.wire.codec import Encoder, Message, decode

Work = Callable[[str, Shareable, FLContext, Signal], Shareable]


class Trainer(Executor):
    """Does what the test says, and keeps what it was told."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.events: list[str] = []
        self.tasks = 0

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.events.append(event_type)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        self.tasks += 1
        return self.work(fl_ctx.get_identity_name(), shareable, fl_ctx, abort_signal)


class Remembers(Trainer):
    """Its state is the number of its tasks."""

    def state(self) -> Mapping[str, Any]:
        return {"tasks": self.tasks}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.tasks = state["tasks"]


class Reader(Trainer):
    """Keeps nothing that matters between tasks."""

    stateless = True


def number_of(site: str) -> int:
    return int(site.rpartition("-")[2])


def adds(site: str, data: Shareable, fl_ctx: FLContext, signal: Signal) -> Shareable:
    """Adds the number of the site; site-3 reports 3 steps."""
    received = from_shareable(data).data
    trained = {name: value + np.float32(number_of(site)) for name, value in received.items()}
    return DXO(DataKind.WEIGHTS, trained, {MetaKey.NUM_STEPS_CURRENT_ROUND: number_of(site)}).to_shareable()


class House:
    """A host, its trainers, and what went wrong in it."""

    def __init__(self, folder: Path, num_sites: int = 4, work: Work = adds, kind: type[Trainer] = Trainer) -> None:
        self.names = sorted(f"site-{number}" for number in range(1, num_sites + 1))
        self.trainers: dict[str, list[Trainer]] = {}
        self.failures: list[str] = []
        self.skipped: list[int] = []
        self.abort = Signal()
        self.broken: set[str] = set()
        builder = Builder(ClassPolicy.simulator())
        shared = RunParts(MemoryLink(self._failed), self.abort, builder)

        def make(name: str, spare: SiteSide | None = None) -> SiteSide:
            if name in self.broken:
                raise ValueError("no data here")
            trainer = kind(work)
            self.trainers.setdefault(name, []).append(trainer)
            app = ClientApp({}, {}, {}, [trainer], {"train": trainer})
            settings = SiteSettings(name, 0, self._failed, Phases(), keeps_nothing=kind.stateless)
            return make_site(settings, app, lambda site: Place.of(folder, site), shared=shared)

        self.host = SiteHost(
            self.names,
            make,
            open_fold=FoldRules(builder).open,
            settings=HostSettings(0, self.abort, fresh, self._failed, keep_states=True),
        )
        self.host.on_skip = self.skipped.append

    def _failed(self, mishap: Mishap, failure: Failure) -> None:
        self.failures.append(f"{mishap.site}, {mishap.where}: {failure.cause}")

    def open(self) -> House:
        self.host.make_all()
        self.host.start()
        return self

    def run(self, body: TaskBody, sites: Iterable[str] | None = None, first: int = 1) -> list[Delivery]:
        batch = [
            Assignment(site, f"0/train/1/{site}/1", body, number)
            for number, site in enumerate(self.names if sites is None else sites, first)
        ]
        return list(self.host.run(batch))


def task(plan: FoldPlan | None = None, done: frozenset[str] = frozenset(), **weights: Any) -> TaskBody:
    data = DXO(DataKind.WEIGHTS, weights or {"w": np.zeros(3, np.float32)}).to_shareable()
    data.set_header(ReservedHeaderKey.TASK_NAME, "train")
    data.set_cookie_jar({"ticket": 7, AppConstants.CONTRIBUTION_ROUND: 0})
    return TaskBody("train", Encoder().encode(data), plan, done=done)


def plan_over(targets: Iterable[str], shape: tuple[int, ...] = (3,)) -> FoldPlan:
    rule = InTimeAccumulateWeightedAggregator(expected_data_kind=DataKind.WEIGHTS).rule()
    return FoldPlan(rule, 0, sorted(targets), [TensorSpec("w", "<f4", shape)])


def value_of(message: Message | dict[str, Any]) -> Shareable:
    value = decode(message, arrays="own") if isinstance(message, Message) else message
    result = Shareable()
    result.update(value)
    return result


def codes(deliveries: Iterable[Delivery]) -> dict[str, str]:
    return {
        answer.assignment.site: value_of(answer.message).get_return_code(ReturnCode.OK)
        for delivery in deliveries
        for answer in delivery.answers
    }


# -- when sites are made ----------------------------------------------------------------------------------------------


def test_a_few_sites_are_all_made_before_the_run(tmp_path: Path) -> None:
    house = House(tmp_path, MOST_EAGER)
    house.host.make_all()
    assert sorted(house.trainers) == house.names
    assert house.trainers["site-1"][0].events == []
    house.host.start()
    for site in house.names:
        assert house.trainers[site][0].events == [EventType.ABOUT_TO_START_RUN, EventType.START_RUN]


def test_of_many_only_the_first_is_made_and_others_with_their_first_task(tmp_path: Path) -> None:
    house = House(tmp_path, MOST_EAGER + 1).open()
    assert list(house.trainers) == ["site-1"]
    for _ in range(2):
        house.run(task(), ["site-7", "site-65"])
    assert sorted(house.trainers) == ["site-1", "site-65", "site-7"]
    [trainer] = house.trainers["site-7"]  # one object for both tasks
    assert trainer.tasks == 2
    assert trainer.events.count(EventType.START_RUN) == 1
    assert trainer.events.index(EventType.START_RUN) < trainer.events.index(EventType.BEFORE_TASK_EXECUTION)


def test_sites_that_were_never_made_hear_of_no_end(tmp_path: Path) -> None:
    house = House(tmp_path, MOST_EAGER + 1).open()
    house.run(task(), ["site-7"])
    house.host.end()
    assert sorted(house.trainers) == ["site-1", "site-7"]
    assert [each[0].events[-1] for each in house.trainers.values()] == [EventType.END_RUN] * 2


def test_who_keeps_nothing_is_put_away_after_each_task(tmp_path: Path) -> None:
    house = House(tmp_path, MOST_EAGER + 1, kind=Reader).open()
    house.run(task(), ["site-7", "site-8"])
    house.run(task(), ["site-7"])
    assert {side.name for side in house.host.present()} <= {"site-1"}
    starts = [trainer.events.count(EventType.START_RUN) for trainer in house.trainers["site-7"]]
    assert sum(starts) == 1  # a site's run begins once, however often it is made


def test_a_site_that_cannot_be_made_in_time_fails_its_task_alone(tmp_path: Path) -> None:
    house = House(tmp_path, MOST_EAGER + 1).open()
    house.broken.add("site-7")
    deliveries = house.run(task(), ["site-6", "site-7", "site-8"])
    assert codes(deliveries) == {
        "site-6": ReturnCode.OK, "site-7": ReturnCode.EXECUTION_EXCEPTION, "site-8": ReturnCode.OK,
    }  # fmt: skip
    [failure] = house.failures
    assert failure.startswith("site-7, building: ValueError: no data here")


def test_the_first_site_shows_before_the_run_what_cannot_be_made(tmp_path: Path) -> None:
    house = House(tmp_path, MOST_EAGER + 1)
    house.broken.add("site-1")
    with pytest.raises(ValueError, match="no data here"):
        house.host.make_all()


def test_nobody_is_found_who_is_not_there(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    assert house.host.find("site-9") is None
    found = house.host.find("site-2")
    assert found is not None
    assert house.host.props("site-2")[ReservedKey.IDENTITY_NAME] == "site-2"


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_each_result_goes_out_as_soon_as_it_is_there(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    batch = [Assignment(site, site, task(), number) for number, site in enumerate(house.names, 1)]
    for count, delivery in enumerate(house.host.run(batch), 1):
        [answer] = delivery.answers
        assert answer.assignment is batch[count - 1]
        assert delivery.parts == ()
        assert sum(each[0].tasks for each in house.trainers.values()) == count
        result = value_of(answer.message)
        assert from_shareable(result).data["w"].tolist() == [count] * 3
        assert result.get_cookie("ticket") == 7


def test_what_one_site_does_to_its_task_the_next_does_not_see(tmp_path: Path) -> None:
    seen = []

    def spoils(site: str, data: Shareable, fl_ctx: FLContext, signal: Signal) -> Shareable:
        weights = from_shareable(data).data
        seen.append((weights["w"].tolist(), len(data.get_cookie_jar())))
        weights["w"] += 5
        data.get_cookie_jar().clear()
        return data

    house = House(tmp_path, work=spoils).open()
    answers = [delivery.answers[0] for delivery in house.run(task())]
    assert seen == [([0, 0, 0], 2)] * 4
    assert [value_of(each.message).get_cookie("ticket") for each in answers] == [7] * 4


def test_a_task_that_is_aborted_before_its_turn_does_not_begin(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    house.host.abort_task("site-3", 3)
    assert codes(house.run(task())) == {
        site: ReturnCode.TASK_ABORTED if site == "site-3" else ReturnCode.OK for site in house.names
    }
    assert house.trainers["site-3"][0].tasks == 0
    assert codes(house.run(task(), first=11)) == dict.fromkeys(house.names, ReturnCode.OK)


def test_a_task_that_is_aborted_while_it_runs_hears_of_it(tmp_path: Path) -> None:
    def work(site: str, data: Shareable, fl_ctx: FLContext, signal: Signal) -> Shareable:
        if site == "site-2":
            house.host.abort_task("site-2", 2)
        assert signal.triggered is (site == "site-2")
        return data

    house = House(tmp_path, work=work).open()
    house.host.abort_task("site-1", 0)  # an old one
    assert codes(house.run(task()))["site-2"] == ReturnCode.TASK_ABORTED
    assert EventType.ABORT_TASK in house.trainers["site-2"][0].events


def test_when_the_run_is_aborted_the_rest_is_skipped(tmp_path: Path) -> None:
    def work(site: str, data: Shareable, fl_ctx: FLContext, signal: Signal) -> Shareable:
        if site == "site-2":
            house.abort.trigger("enough")
            assert signal.triggered
        return data

    house = House(tmp_path, work=work).open()
    assert codes(house.run(task())) == {"site-1": ReturnCode.OK, "site-2": ReturnCode.TASK_ABORTED}
    assert house.skipped == [3, 4]


def test_a_site_that_gave_up_gets_no_more_tasks(tmp_path: Path) -> None:
    def work(site: str, data: Shareable, fl_ctx: FLContext, signal: Signal) -> Shareable:
        if site == "site-2":
            house.trainers[site][0].system_panic("the disk is broken", fl_ctx)
        return data

    house = House(tmp_path, work=work).open()
    assert codes(house.run(task()))["site-2"] == ReturnCode.TASK_ABORTED
    assert house.host.ended == {"site-2": "the disk is broken"}
    assert codes(house.run(task(), first=11)) == dict.fromkeys(["site-1", "site-3", "site-4"], ReturnCode.OK)
    assert house.skipped == [12]
    house.host.end()
    assert house.trainers["site-2"][0].events.count(EventType.END_RUN) == 1


# -- state ------------------------------------------------------------------------------------------------------------


def state_of(message: Message | None) -> Any:
    assert message is not None
    return decode(message)


def test_each_answer_brings_what_the_site_knows_now_and_another_process_goes_on_from_there(tmp_path: Path) -> None:
    house = House(tmp_path, kind=Remembers).open()
    for turn in (1, 2):
        answers = [delivery.answers[0] for delivery in house.run(task())]
        assert [state_of(each.state) for each in answers] == [{"0": {"tasks": turn}}] * 4
    early, late = House(tmp_path, kind=Remembers), House(tmp_path, kind=Remembers).open()
    for each in (early, late):  # before its sites begin, and when they have begun
        each.host.restore("site-1", answers[0].state)  # type: ignore[arg-type]  # there is one
    early.open()
    for each in (early, late):
        assert [trainers[0].tasks for trainers in each.trainers.values()] == [2, 0, 0, 0]


def test_who_keeps_nothing_has_no_state(tmp_path: Path) -> None:
    assert [delivery.answers[0].state for delivery in House(tmp_path).open().run(task())] == [None] * 4


def test_a_state_that_cannot_be_taken_costs_no_result(tmp_path: Path) -> None:
    class Fails(Remembers):
        def state(self) -> Mapping[str, Any]:
            raise RuntimeError("half written")

    house = House(tmp_path, 2, kind=Fails).open()
    deliveries = house.run(task())
    assert codes(deliveries) == dict.fromkeys(house.names, ReturnCode.OK)
    assert [delivery.answers[0].state for delivery in deliveries] == [None, None]
    assert [line.split(" (")[0] for line in house.failures] == [
        f"{site}, state: RuntimeError: half written" for site in house.names
    ]


# -- folding ----------------------------------------------------------------------------------------------------------


def parts(deliveries: Iterable[Delivery]) -> list[Any]:
    return [part for delivery in deliveries for part in delivery.parts]


def test_where_a_plan_allows_it_sums_go_out_and_results_stay(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    deliveries = house.run(task(plan_over(house.names)))
    [part] = parts(deliveries)
    assert (tuple(part.span), part.sites) == ((0, 4), house.names)
    # site-n sends n with n steps: 1 + 4 + 9 + 16
    assert part.regions[0].view(np.float64 if part.regions[0].nbytes == 24 else np.float32).tolist() == [30.0] * 3
    answers = [answer for delivery in deliveries for answer in delivery.answers]
    assert [answer.assignment.site for answer in answers] == house.names
    for answer in answers:
        assert answer.folded
        light = from_shareable(value_of(answer.message))
        assert (light.data, light.data_kind) == ({}, DataKind.WEIGHTS)
        assert light.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND) == number_of(answer.assignment.site)
        assert value_of(answer.message).get_cookie("ticket") == 7


def test_answers_wait_for_the_sum_that_they_are_in(tmp_path: Path) -> None:
    # Of 4 blocks this process holds 1 to 3: the nodes (0, 2) and (2, 3) can be completed here.
    house = House(tmp_path, 3).open()
    deliveries = house.run(task(plan_over([*house.names, "site-4"])))
    assert [[answer.assignment.site for answer in delivery.answers] for delivery in deliveries] == [
        ["site-1", "site-2"], ["site-3"],
    ]  # fmt: skip
    assert [tuple(part.span) for part in parts(deliveries)] == [(0, 2), (2, 3)]


def test_a_site_that_fails_or_sends_something_else_leaves_a_gap(tmp_path: Path) -> None:
    def work(site: str, data: Shareable, fl_ctx: FLContext, signal: Signal) -> Shareable:
        result = adds(site, data, fl_ctx, signal)
        if site == "site-1":
            raise ValueError("no luck")
        if site == "site-2":
            from_shareable(result).data["w"][0] = np.nan
        if site == "site-3":
            return DXO(DataKind.METRICS, {"loss": 1.0}).to_shareable()
        return result

    house = House(tmp_path, 5, work=work).open()
    deliveries = house.run(task(plan_over(house.names)))
    folded = {answer.assignment.site: answer.folded for delivery in deliveries for answer in delivery.answers}
    assert folded == {site: site in ("site-4", "site-5") for site in house.names}
    whole = {answer.assignment.site: answer for delivery in deliveries for answer in delivery.answers}
    assert np.isnan(from_shareable(value_of(whole["site-2"].message)).data["w"][0])  # so that the server can refuse it
    assert sorted(site for part in parts(deliveries) for site in part.sites) == house.names
    assert "".join(part.head["counted"] for part in parts(deliveries)).count("1") == 2


def test_targets_without_a_task_are_not_waited_for(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    deliveries = house.run(task(plan_over(house.names)), ["site-1", "site-4"])
    assert [part.head["counted"] for part in parts(deliveries)] == ["1001"]


def test_what_is_no_target_goes_whole(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    deliveries = house.run(task(plan_over(["site-1", "site-2"])))
    folded = {answer.assignment.site: answer.folded for delivery in deliveries for answer in delivery.answers}
    assert folded == {"site-1": True, "site-2": True, "site-3": False, "site-4": False}


def test_sums_that_were_received_are_not_made_again(tmp_path: Path) -> None:
    # In the place of a process that died: the sum of site-1 and site-2 has come.
    house = House(tmp_path).open()
    body = task(plan_over(house.names), frozenset({"site-1", "site-2"}))
    assert [tuple(part.span) for part in parts(house.run(body, ["site-3", "site-4"]))] == [(2, 4)]


def test_a_plan_holds_for_one_batch(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    plan = plan_over(house.names)
    assert len(parts(house.run(task(plan), ["site-1", "site-2"]))) == 1
    late = house.run(task(plan), ["site-3", "site-4"], first=11)
    assert [(delivery.answers[0].folded, list(delivery.parts)) for delivery in late] == [(False, [])] * 2
    assert len(parts(house.run(task(plan_over(house.names)), first=21))) == 1  # the next round's


def test_two_bodies_in_one_batch_have_a_fold_each(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    bodies = [task(plan_over(house.names[:2])), task(plan_over(house.names[2:]))]
    batch = [Assignment(site, site, bodies[index // 2], index + 1) for index, site in enumerate(house.names)]
    assert [part.sites for part in parts(house.host.run(batch))] == [["site-1", "site-2"], ["site-3", "site-4"]]


# -- small things -----------------------------------------------------------------------------------------------------


def test_a_reply_in_place_of_a_result_is_one(tmp_path: Path) -> None:
    message = failed_reply(Assignment("site-2", "the id", task(), 4), ReturnCode.EXECUTION_EXCEPTION, "it died")
    reply = value_of(message)
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert reply.get_header(RoundKey.ERROR) == "it died"
    assert reply.get_header(ReservedHeaderKey.TASK_NAME) == "train"
    assert reply.get_header(ReservedHeaderKey.TASK_ID) == "the id"
    assert reply.get_cookie("ticket") == 7
    assert reply.get_peer_prop(ReservedKey.IDENTITY_NAME, None) == "site-2"


KEYS = st.text(max_size=3) | st.integers(0, 3)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.builds(np.float32, st.floats(width=32)) | st.builds(np.float64, st.floats()) | st.just((1, 2)) | st.just(b"x")
)  # fmt: skip
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3))


@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_plain_is_only_what_comes_back_from_json_as_it_is(value: dict[Any, Any]) -> None:
    copied = copy_plain(value)
    if copied is not None:
        assert repr(json.loads(json.dumps(copied))) == repr(copied) == repr(value)


@pytest.mark.parametrize("value", [{}, {"a": {"b": [1].__len__(), "c": None}}, {"x": -0.0, "y": 1e300, "z": "text"}])
def test_what_results_without_tensors_are_made_of_is_plain(value: dict[str, Any]) -> None:
    copied = copy_plain(value)
    assert copied == value
    assert copied is not value


def test_what_is_to_be_left_out_is_not_looked_at() -> None:
    value = {"DXO": {"kind": "WEIGHTS", "data": {"w": np.zeros(2)}, "meta": {"n": 1}}}
    assert copy_plain(value, without=("DXO", "data")) == {"DXO": {"kind": "WEIGHTS", "data": {}, "meta": {"n": 1}}}
    assert copy_plain(value) is None


@pytest.mark.parametrize("linked", [False, True])
def test_files_that_a_killed_process_has_left_half_are_deployed_anew(tmp_path: Path, linked: bool) -> None:
    source, target = tmp_path / "app", tmp_path / "site-1" / "run_1" / "app_site-1"
    (source / "custom").mkdir(parents=True)
    (source / "custom" / "part.py").write_text("x = 1\n")
    half = target.with_name(".app_site-1")
    half.mkdir(parents=True)
    (half / "half").touch()
    app = SiteApp(source, {}, "config", linked=linked)
    deploy(app, target)
    assert [path.name for path in target.parent.iterdir()] == ["app_site-1"]
    assert [path.name for path in target.iterdir()] == ["custom"]
    (target / "mine").touch()
    deploy(app, target)  # it is there
    assert (target / "mine").exists()
    assert (target / "custom" / "part.py").read_text() == "x = 1\n"
