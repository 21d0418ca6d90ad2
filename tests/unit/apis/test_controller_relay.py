from __future__ import annotations

import pytest

from hansa.apis.controller_spec import SendOrder, TaskCompletionStatus
from hansa.apis.shareable import ReservedHeaderKey
from unit.apis.drill import NOTHING, Drill


@pytest.fixture
def drill() -> Drill:
    return Drill()


def test_one_after_another_then_ok(drill: Drill) -> None:
    drill.workflow.relay(drill.task(), drill.ctx, targets=["a", "b", "a"], dynamic_targets=False)
    assert drill.gets("b") == ""
    for name in ("a", "b", "a"):
        assert drill.standing == 1
        drill.serve(name)
    assert (drill.done, drill.heard) == (["train:ok"], ["a", "b", "a"])


def test_while_a_result_is_pending_every_other_target_waits(drill: Drill) -> None:
    drill.workflow.relay(drill.task("one"), drill.ctx, targets=["a", "b", "c"], dynamic_targets=False)
    drill.workflow.broadcast(drill.task("two"), drill.ctx)
    held = drill.ask("a")
    assert drill.ask("b") == NOTHING
    assert drill.gets("x") == "two"
    drill.answer("a", held)
    assert drill.gets("c") == "two"  # outside the window: nothing here, but later tasks are looked at


def test_the_window_widens_and_skipped_places_are_lost(drill: Drill) -> None:
    drill.workflow.relay(
        drill.task(), drill.ctx, targets=["a", "b", "c", "a"], task_assignment_timeout=4, dynamic_targets=False
    )
    assert drill.gets("c") == ""
    drill.waiter.advance(8.0)  # int(8 / 4) + 1 = 3 places: a, b, c
    drill.serve("c")
    assert drill.gets("b") == ""  # skipped for good
    drill.serve("a")  # the last place
    assert drill.done == ["train:ok"]


def test_the_window_opens_again_when_the_holder_answers(drill: Drill) -> None:
    drill.workflow.relay(
        drill.task(), drill.ctx, targets=["a", "b", "c"], task_assignment_timeout=4, dynamic_targets=False
    )
    held = drill.ask("a")
    drill.waiter.advance(100.0)
    drill.answer("a", held)
    drill.waiter.advance(3.9)
    assert drill.gets("c") == ""
    drill.waiter.advance(0.1)
    assert drill.gets("c") == "train"


@pytest.mark.parametrize(("answered", "status"), [(True, "ok"), (False, "timeout")])
def test_ends_when_nobody_takes_it(drill: Drill, answered: bool, status: str) -> None:
    drill.workflow.relay(
        drill.task(), drill.ctx, targets=["a", "b", "c"], task_assignment_timeout=4, dynamic_targets=False
    )
    if answered:
        drill.serve("a")
    left = 2 if answered else 3
    drill.waiter.advance((left + 1) * 4 - 0.1)
    assert drill.standing == 1
    drill.waiter.advance(0.1)
    assert drill.done == [f"train:{status}"]


def test_a_result_timeout_passes_it_on_and_what_comes_then_is_late(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.relay(task, drill.ctx, targets=["a", "b"], task_result_timeout=5, dynamic_targets=False)
    first = drill.ask("a")
    drill.waiter.advance(4.9)
    assert drill.gets("b") == ""
    drill.waiter.advance(0.1)
    second = drill.ask("b")
    late = drill.answer("a", first)
    assert late.get_header(ReservedHeaderKey.REPLY_IS_LATE) is True
    assert task.client_tasks[0].result is late
    assert (drill.heard, drill.standing) == (["a"], 1)  # the wait for b goes on
    timely = drill.answer("b", second)
    assert timely.get_header(ReservedHeaderKey.REPLY_IS_LATE) is None
    assert drill.done == ["train:ok"]


def test_an_answer_after_the_result_timeout_does_not_open_the_window_anew(drill: Drill) -> None:
    drill.workflow.relay(
        drill.task(),
        drill.ctx,
        targets=["a", "b", "c"],
        task_assignment_timeout=4,
        task_result_timeout=5,
        dynamic_targets=False,
    )
    held = drill.ask("a")
    drill.waiter.advance(8.0)
    drill.answer("a", held)  # nobody has taken over, so it is not late; the window is open since 5 s
    drill.waiter.advance(1.0)
    assert drill.gets("c") == "train"  # 9 s: int(4 / 4) + 1 = 2 places


def test_the_last_place_ends_it_when_its_result_timeout_passes(drill: Drill) -> None:
    drill.workflow.relay(drill.task(), drill.ctx, targets=["a"], task_result_timeout=5, dynamic_targets=False)
    drill.ask("a")
    drill.waiter.advance(4.0)
    drill.ask("a")  # a re-send renews the time
    drill.waiter.advance(4.9)
    assert drill.standing == 1
    drill.waiter.advance(0.1)
    assert drill.done == ["train:timeout"]


def test_without_targets_it_ends_after_the_first_answer(drill: Drill) -> None:
    drill.workflow.relay(drill.task(), drill.ctx)
    drill.serve("a")
    assert drill.done == ["train:ok"]


def test_who_asks_meanwhile_is_appended_though_he_gets_nothing(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.relay(task, drill.ctx)
    held = drill.ask("a")
    assert drill.ask("b") == NOTHING
    assert task.targets == ["a", "b"]
    drill.answer("a", held)
    drill.serve("b")
    assert drill.done == ["train:ok"]
    drill.ask("c")
    assert task.targets == ["a", "b"]  # not once it is over


def test_any_order_as_often_as_listed_one_holder_at_a_time(drill: Drill) -> None:
    drill.workflow.relay(
        drill.task(), drill.ctx, targets=["a", "b", "b"], send_order=SendOrder.ANY, dynamic_targets=False
    )
    held = drill.ask("b")
    assert drill.ask("a") == NOTHING
    drill.answer("b", held)
    drill.serve("b")
    assert drill.gets("b") == ""
    drill.serve("a")
    assert (drill.done, drill.heard) == (["train:ok"], ["b", "b", "a"])


def test_any_order_the_next_asker_takes_over_and_the_late_one_gets_its_turn_back(drill: Drill) -> None:
    drill.workflow.relay(
        drill.task(),
        drill.ctx,
        targets=["a", "b"],
        send_order=SendOrder.ANY,
        task_result_timeout=5,
        dynamic_targets=False,
    )
    first = drill.ask("a")
    drill.waiter.advance(5.0)
    assert drill.standing == 1  # result timeouts alone never end it
    second = drill.ask("b")
    assert drill.answer("a", first).get_header(ReservedHeaderKey.REPLY_IS_LATE) is True
    assert drill.ask("a") == NOTHING
    drill.answer("b", second)
    assert drill.standing == 1  # a's place is open again
    drill.serve("a")
    assert (drill.done, drill.heard) == (["train:ok"], ["a", "b", "a"])


def test_any_order_an_answer_after_the_time_but_before_a_takeover_counts(drill: Drill) -> None:
    drill.workflow.relay(
        drill.task(), drill.ctx, targets=["a"], send_order=SendOrder.ANY, task_result_timeout=5, dynamic_targets=False
    )
    held = drill.ask("a")
    drill.waiter.advance(50.0)
    assert drill.answer("a", held).get_header(ReservedHeaderKey.REPLY_IS_LATE) is None
    assert drill.done == ["train:ok"]


def test_any_order_with_dynamic_targets(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.relay(task, drill.ctx, send_order=SendOrder.ANY)
    drill.waiter.advance(1000.0)
    assert drill.standing == 1  # an empty list is not a list that is through
    held = drill.ask("a")
    drill.ask("b")
    drill.answer("a", held)
    assert drill.standing == 1
    drill.serve("b")
    assert drill.done == ["train:ok"]


def test_the_task_timeout_ends_a_relay(drill: Drill) -> None:
    task = drill.task(timeout=9)
    drill.workflow.relay(task, drill.ctx, targets=["a", "b"])
    drill.serve("a")
    drill.waiter.advance(9.0)
    assert task.completion_status is TaskCompletionStatus.TIMEOUT


def test_duplicates_stay_in_the_list(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.relay(task, drill.ctx, targets=["a", "a"])
    assert task.targets == ["a", "a"]
