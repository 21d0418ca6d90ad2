from __future__ import annotations

import pytest

from hansa.apis.client import Client
from hansa.apis.controller_spec import TaskCompletionStatus
from unit.apis.drill import NOTHING, PERIOD, Drill


@pytest.fixture
def drill() -> Drill:
    return Drill()


def test_each_target_gets_it_once_and_others_do_not(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, targets=["a", Client("b", ""), "a"], min_responses=2)
    assert drill.gets("x") == ""
    drill.serve("a")
    assert drill.ask("a") == NOTHING
    drill.serve("b")
    assert drill.done == ["train:ok"]


def test_targets_become_names_without_duplicates_and_none_stays_none(drill: Drill) -> None:
    named, anyone = drill.task(), drill.task()
    drill.workflow.broadcast(named, drill.ctx, targets=[Client("b", ""), Client("a", ""), Client("b", "")])
    drill.workflow.broadcast(anyone, drill.ctx)
    assert named.targets == ["b", "a"]
    assert anyone.targets is None


def test_ends_inside_the_submission_when_all_holders_have_answered(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast(task, drill.ctx, min_responses=2)
    first, second = drill.ask("a"), drill.ask("b")
    drill.answer("a", first)
    assert drill.standing == 1
    drill.answer("b", second)
    assert (drill.standing, drill.done, task.completion_status) == (0, ["train:ok"], TaskCompletionStatus.OK)
    assert not task.is_standing


def test_enough_but_not_all_stays_one_period_more_and_counts_what_comes(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast(task, drill.ctx, min_responses=1)
    first, second, third = drill.ask("a"), drill.ask("b"), drill.ask("c")
    drill.answer("a", first)
    assert task.completion_status is None
    drill.waiter.advance(PERIOD * 0.9)
    drill.answer("b", second)
    assert drill.heard == ["a", "b"]
    drill.waiter.advance(PERIOD * 0.2)  # counted from the first answer, which was enough: now 1.1 periods ago
    assert (drill.standing, drill.done) == (0, ["train:ok"])
    drill.answer("c", third)
    assert [entry[0] for entry in drill.workflow.unknown] == ["c"]


def test_an_explicit_pass_ends_what_has_enough_answers(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=1)
    first, _ = drill.ask("a"), drill.ask("b")
    drill.answer("a", first)
    drill.workflow._check_tasks()
    assert (drill.standing, drill.done) == (0, ["train:ok"])


def test_the_last_holder_ends_the_extra_period(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=1)
    first, second = drill.ask("a"), drill.ask("b")
    drill.answer("a", first)
    drill.answer("b", second)
    assert (drill.standing, drill.heard) == (0, ["a", "b"])


def test_grace_is_a_minimum_and_ends_one_period_late(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=2, wait_time_after_min_received=3)
    drill.serve("a")
    drill.waiter.advance(100.0)
    drill.serve("b")
    drill.waiter.advance(3.0)
    drill.workflow._check_tasks()
    assert drill.standing == 1
    assert drill.ask("a") == NOTHING  # who answered gets nothing meanwhile
    drill.serve("new")  # who is new still gets it
    drill.waiter.advance(PERIOD - 0.01)
    assert drill.standing == 1
    drill.waiter.advance(0.01)
    assert (drill.standing, drill.done, drill.heard) == (0, ["train:ok"], ["a", "b", "new"])


def test_grace_ends_when_all_named_targets_have_answered(drill: Drill) -> None:
    drill.workflow.broadcast(
        drill.task(), drill.ctx, targets=["a", "b"], min_responses=1, wait_time_after_min_received=10
    )
    drill.serve("a")
    assert drill.standing == 1  # b has not even asked
    drill.serve("b")
    assert drill.done == ["train:ok"]


@pytest.mark.parametrize("min_responses", [0, 1, 3])
def test_what_nobody_has_asked_for_stands(drill: Drill, min_responses: int) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=min_responses)
    drill.waiter.advance(1000.0)
    drill.workflow._check_tasks()
    assert drill.standing == 1


def test_min_responses_0_waits_for_those_who_were_given_it(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, targets=["a", "b", "c"], min_responses=0)
    first, second = drill.ask("a"), drill.ask("b")
    drill.answer("a", first)
    drill.waiter.advance(1000.0)
    drill.workflow._check_tasks()
    assert drill.standing == 1  # b holds it
    drill.answer("b", second)
    assert drill.done == ["train:ok"]  # c never asked


def test_min_responses_0_with_grace_waits_for_a_taker_in_the_grace(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=0, wait_time_after_min_received=2)
    drill.serve("a")
    drill.waiter.advance(1.0)
    held = drill.ask("b")
    drill.waiter.advance(100.0)
    assert drill.standing == 1
    drill.answer("b", held)
    drill.waiter.advance(2.0)
    assert drill.standing == 1
    drill.waiter.advance(PERIOD)
    assert drill.standing == 0


def test_timeout_runs_from_scheduling(drill: Drill) -> None:
    task = drill.task(timeout=2)
    drill.workflow.broadcast(task, drill.ctx)
    drill.ask("a")
    drill.waiter.advance(1.999)
    drill.workflow._check_tasks()
    assert task.completion_status is None
    drill.waiter.advance(0.001)
    assert (task.completion_status, drill.done) == (TaskCompletionStatus.TIMEOUT, ["train:timeout"])


def test_nobody_gets_what_is_past_its_timeout_even_before_a_pass() -> None:
    drill = Drill(run=False)
    drill.workflow.broadcast(drill.task(timeout=1), drill.ctx)
    drill.waiter.advance(1.0)
    assert drill.ask("a") == NOTHING
    assert drill.standing == 1


def test_no_timeout_means_never(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx)
    drill.waiter.advance(1e7)
    assert drill.standing == 1


def test_forever_comes_again_after_an_answer_and_is_resent_before(drill: Drill) -> None:
    task = drill.task(timeout=50)
    drill.workflow.broadcast_forever(task, drill.ctx, targets=["a"])
    first = drill.ask("a")
    assert drill.ask("a")[1] == first[1]
    drill.answer("a", first)
    second = drill.ask("a")
    assert second[1] not in ("", first[1])
    assert drill.gets("b") == ""
    drill.answer("a", second)
    assert [part.id for part in task.client_tasks] == [first[1], second[1]]
    assert task.last_client_task_map["a"].id == second[1]
    drill.waiter.advance(50.0)
    assert drill.done == ["train:timeout"]


def test_forever_keeps_a_bounded_list_with_every_unanswered_and_every_latest_part(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast_forever(task, drill.ctx)
    held = drill.ask("slow")
    for _ in range(200):
        drill.serve("a")
        drill.serve("b")
    assert len(task.client_tasks) <= 2 * 3 + 9
    assert held[1] in {part.id for part in task.client_tasks}
    assert all(part in task.client_tasks for part in task.last_client_task_map.values())
    drill.answer("slow", held)
    assert drill.heard[-1] == "slow"
    assert len(drill.heard) == 401


def test_forever_ends_by_cancel(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast_forever(task, drill.ctx)
    drill.serve("a")
    drill.workflow.cancel_task(task)
    assert drill.gets("a") == ""
    drill.waiter.advance(PERIOD)
    assert drill.done == ["train:cancelled"]


def test_standing_tasks_in_their_order_then_the_last_one_again(drill: Drill) -> None:
    for name in "123":
        drill.workflow.broadcast(drill.task(name), drill.ctx)
    assert [drill.gets("a") for _ in range(5)] == ["1", "2", "3", "3", "3"]


def test_a_late_joiner_gets_a_standing_task(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=2)
    drill.serve("a")
    drill.waiter.advance(500.0)
    drill.serve("late")
    assert drill.done == ["train:ok"]
