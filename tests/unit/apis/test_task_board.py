from __future__ import annotations

from hansa.apis.bcast_manager import BcastTaskManager
from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, SendOrder, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.send_manager import SendTaskManager
from hansa.apis.shareable import Shareable
from hansa.apis.task_board import TaskBoard
from hansa.apis.task_events import (
    BeingHandedOut,
    Finished,
    HandedOut,
    HandOut,
    HandOutSettled,
    TaskPosted,
    TaskRequested,
    Tick,
)
from hansa.apis.task_manager import Tally, TaskCheckStatus, TaskManager
from unit.apis.drill import PERIOD, Drill

CTX = FLContext()


def new_task() -> Task:
    return Task("train", Shareable())


class EveryOther(TaskManager):
    """An application's own: over after two passes; it cannot say when."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_at: list[float] = []

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        self.asked_at.append(self.now())
        return len(self.asked_at) >= 2, TaskCompletionStatus.OK


class Stricter(BcastTaskManager):
    """Has other exits than the class whose `next_change` it inherits."""

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        return self.now() >= 1003.0, TaskCompletionStatus.OK


def test_a_foreign_manager_is_asked_each_period() -> None:
    drill, manager = Drill(), EveryOther()
    drill.workflow._schedule_task(drill.task(), drill.ctx, manager, None)
    drill.waiter.advance(10.0)
    assert manager.asked_at == [1000.0 + PERIOD, 1000.0 + 2 * PERIOD]
    assert drill.done == ["train:ok"]


def test_events_do_not_put_a_foreign_manager_off() -> None:
    drill, manager = Drill(), EveryOther()
    drill.workflow._schedule_task(drill.task(), drill.ctx, manager, None)
    for _ in range(4):
        drill.ask("a")
        drill.waiter.advance(PERIOD * 0.4)
    assert len(manager.asked_at) == 1


def test_a_subclass_with_other_exits_is_foreign_too() -> None:
    drill = Drill()
    task = drill.task()
    drill.workflow._schedule_task(task, drill.ctx, Stricter(task, 1), None)
    drill.serve("a")
    drill.waiter.advance(2.9)
    assert drill.standing == 1
    drill.waiter.advance(0.2)
    assert drill.done == ["train:ok"]


def test_an_open_offer_makes_the_next_request_wait_for_it() -> None:
    board, task = TaskBoard(PERIOD), new_task()
    task.targets = ["a", "b"]
    board.handle(TaskPosted(0.0, task, SendTaskManager(task, SendOrder.ANY, 0), 0.0))
    (offer,) = board.handle(TaskRequested(1.0, Client("a", ""), CTX))
    assert isinstance(offer, HandOut)
    assert board.handle(TaskRequested(1.0, Client("b", ""), CTX)) == (BeingHandedOut(task),)
    assert board.handle(HandOutSettled(2.0, offer.client_task)) == (HandedOut(offer.client_task),)
    assert board.handle(TaskRequested(3.0, Client("b", ""), CTX)) == ()


def test_times_are_those_of_the_events() -> None:
    board, task = TaskBoard(PERIOD), new_task()
    board.handle(TaskPosted(50.0, task, BcastTaskManager(task), 3.0))
    assert (task.create_time, task.schedule_time, board.now()) == (47.0, 50.0, 50.0)


def test_a_status_set_before_scheduling_ends_it_with_the_first_pass() -> None:
    board, task = TaskBoard(PERIOD), new_task()
    task.completion_status = TaskCompletionStatus.IGNORED
    board.handle(TaskPosted(0.0, task, BcastTaskManager(task), 0.0))
    assert board.next_due() == 0.0
    assert list(board.handle(Tick(0.0))) == [Finished(task)]


def test_managers_decide_from_the_task_alone_without_a_board() -> None:
    task = new_task()
    manager = BcastTaskManager(task, min_responses=1)
    part = ClientTask(Client("a", ""), task)
    assert manager.check_task_send(part, CTX) is TaskCheckStatus.SEND
    assert manager.check_task_exit(task)[0] is False
    task.client_tasks.append(part)
    task.last_client_task_map["a"] = part
    assert manager.check_task_send(part, CTX) is TaskCheckStatus.NO_BLOCK
    part.result_received_time = 5.0
    assert manager.check_task_exit(task) == (True, TaskCompletionStatus.OK)
    assert Tally.of(task) == Tally(1, [5.0])


def test_the_plain_manager() -> None:
    task = new_task()
    assert TaskManager().check_task_exit(task) == (False, TaskCompletionStatus.IGNORED)
    assert [status.value for status in TaskCheckStatus] == [1, 2, 3]


def test_a_submission_costs_the_same_whatever_the_number_of_parts() -> None:
    """Looks into `client_tasks` are counted: none per answer."""
    looks: list[int] = []

    class Counted(list[ClientTask]):
        def __iter__(self):  # type: ignore[no-untyped-def]  # as the list's own
            looks.append(len(self))
            return super().__iter__()

    drill = Drill()
    task = drill.task()
    task.client_tasks = Counted()
    drill.workflow.broadcast(task, drill.ctx, targets=[f"s{number}" for number in range(300)], min_responses=300)
    for number in range(299):
        drill.serve(f"s{number}")
    assert looks == []
