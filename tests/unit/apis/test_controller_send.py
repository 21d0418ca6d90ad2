from __future__ import annotations

import pytest

from hansa.apis.controller_spec import SendOrder, TaskCompletionStatus
from unit.apis.drill import NOTHING, Drill


@pytest.fixture
def drill() -> Drill:
    return Drill()


def test_only_the_first_target_without_assignment_timeout(drill: Drill) -> None:
    drill.workflow.send(drill.task(), drill.ctx, targets=["a", "b"])
    drill.waiter.advance(1e6)
    assert drill.gets("b") == ""
    assert drill.gets("a") == "train"


def test_the_window_widens_by_one_target_each_timeout_counted_from_creation(drill: Drill) -> None:
    task = drill.task()
    task.create_time -= 4.0  # created four seconds before it is scheduled
    drill.workflow.send(task, drill.ctx, targets=["a", "b", "c"], task_assignment_timeout=5)
    drill.waiter.advance(0.9)
    assert drill.gets("b") == ""  # 4.9 s
    drill.waiter.advance(5.0)
    assert drill.gets("c") == ""  # 9.9 s: int(9.9 / 5) + 1 = 2 targets
    drill.waiter.advance(0.2)
    assert drill.gets("c") == "train"  # 10.1 s


def test_a_target_outside_the_window_waits_and_others_do_not(drill: Drill) -> None:
    drill.workflow.send(drill.task("one"), drill.ctx, targets=["a", "b"])
    drill.workflow.broadcast(drill.task("two"), drill.ctx)
    assert drill.ask("b") == NOTHING  # nothing from this task or any later one
    assert drill.gets("x") == "two"


def test_a_target_that_waits_is_not_even_resent_an_earlier_task(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task("one"), drill.ctx)
    assert drill.gets("b") == "one"
    drill.workflow.send(drill.task("two"), drill.ctx, targets=["a", "b"])
    assert drill.ask("b") == NOTHING


def test_once_somebody_has_it_nobody_else_gets_it_nor_waits(drill: Drill) -> None:
    drill.workflow.send(drill.task("one"), drill.ctx, targets=["a", "b"])
    drill.workflow.broadcast(drill.task("two"), drill.ctx)
    held = drill.ask("a")
    assert drill.gets("b") == "two"
    drill.answer("a", held)
    assert drill.done == ["one:ok"]


def test_any_order_takes_the_first_target_that_asks(drill: Drill) -> None:
    drill.workflow.send(drill.task(), drill.ctx, targets=["a", "b"], send_order=SendOrder.ANY)
    assert drill.gets("x") == ""
    held = drill.ask("b")
    assert drill.gets("a") == ""
    drill.answer("b", held)
    assert drill.done == ["train:ok"]


def test_the_holder_is_resent_the_same_part(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.send(task, drill.ctx, targets=["a"])
    assert drill.ask("a")[1] == drill.ask("a")[1]
    assert task.client_tasks[0].task_send_count == 2


def test_timeout(drill: Drill) -> None:
    task = drill.task(timeout=3)
    drill.workflow.send(task, drill.ctx, targets=["a"], task_assignment_timeout=3)
    drill.waiter.advance(3.0)
    assert task.completion_status is TaskCompletionStatus.TIMEOUT


def test_the_board_is_due_each_time_another_target_may_take_it(drill: Drill) -> None:
    drill.workflow.send(drill.task(), drill.ctx, targets=["a", "b", "c"], task_assignment_timeout=5)
    dues = []
    while (due := drill.waiter.next_due()) is not None:
        dues.append(round(due - 1000.0))
        drill.waiter.advance(due - drill.waiter.now())
    assert dues == [5, 10]  # then all three may take it


def test_an_offer_called_off_by_a_callback_of_another_thread_leaves_it_to_the_next(drill: Drill) -> None:
    def refuse(client_task: object, fl_ctx: object) -> None:
        first.completion_status = TaskCompletionStatus.CANCELLED

    first = drill.task("one", before_task_sent_cb=refuse)
    drill.workflow.send(first, drill.ctx, targets=["a"])
    assert drill.ask("a") == NOTHING
    assert first.client_tasks == []
    assert first.last_client_task_map == {}
