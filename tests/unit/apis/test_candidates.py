"""Whom it is worth asking: `Controller.candidates`. That nobody else gets anything is a law of the board's."""

from __future__ import annotations

import pytest

from hansa.apis.bcast_manager import BcastTaskManager
from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, SendOrder, Task
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.task_manager import TaskCheckStatus, TaskManager
from unit.apis.drill import NOTHING, PERIOD, Drill, Workflow

TEN_THOUSAND = [f"site-{number}" for number in range(10_000)]


def test_where_nothing_stands_nobody_is_asked() -> None:
    assert Drill().workflow.candidates() == []


def test_a_broadcast_is_for_targets_that_have_not_answered() -> None:
    drill = Drill()
    drill.workflow.broadcast(drill.task(), drill.ctx, ["c", "a", "b"], min_responses=3)
    assert drill.workflow.candidates() == ["a", "b", "c"]  # by code point
    given = drill.ask("b")
    assert drill.workflow.candidates() == ["a", "b", "c"]  # b gets it once more, as a re-send
    drill.answer("b", given)
    assert drill.workflow.candidates() == ["a", "c"]
    drill.serve("a")
    drill.serve("c")
    assert drill.workflow.candidates() == []


def test_one_of_ten_thousand_is_one_candidate() -> None:
    drill = Drill()
    drill.workflow.broadcast(drill.task(), drill.ctx, ["site-9"], min_responses=1)
    candidates = drill.workflow.candidates()
    assert candidates == ["site-9"]
    assert [drill.ask(name) for name in TEN_THOUSAND[:9]] == [NOTHING] * 9


def test_a_broadcast_for_whoever_asks_is_for_anybody() -> None:
    drill = Drill()
    drill.workflow.broadcast(drill.task("one"), drill.ctx, ["a"])
    drill.workflow.broadcast(drill.task("two"), drill.ctx)
    assert drill.workflow.candidates() is None


def test_a_broadcast_for_ever_stays_for_all_its_targets() -> None:
    drill = Drill()
    drill.workflow.broadcast_forever(drill.task(), drill.ctx, ["b", "a"])
    drill.serve("a")
    assert drill.workflow.candidates() == ["a", "b"]


def test_candidates_of_several_tasks_are_put_together() -> None:
    drill = Drill()
    drill.workflow.broadcast(drill.task("one"), drill.ctx, ["a", "c"], min_responses=2)
    drill.workflow.broadcast(drill.task("two"), drill.ctx, ["b", "c"], min_responses=2)
    drill.serve("c")  # task one; it may still have task two
    assert drill.workflow.candidates() == ["a", "b", "c"]


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_task_that_is_over_is_for_nobody(how: str) -> None:
    drill = Drill()
    task = drill.task(timeout=3)
    drill.workflow.broadcast(task, drill.ctx, ["a"])
    drill.ask("a")
    if how == "cancelled":
        drill.workflow.cancel_task(task)
    else:
        drill.waiter.advance(3.0)
    assert drill.workflow.candidates() == []


def test_a_send_is_for_those_whose_turn_it_is_and_then_for_its_holder() -> None:
    drill = Drill()
    drill.workflow.send(drill.task(), drill.ctx, ["c", "b", "a"], SendOrder.SEQUENTIAL, task_assignment_timeout=2)
    assert drill.workflow.candidates() == ["c"]
    drill.waiter.advance(2.0)
    assert drill.workflow.candidates() == ["b", "c"]
    drill.ask("b")
    assert drill.workflow.candidates() == ["b"]


def test_a_send_in_any_order_is_for_all_targets() -> None:
    drill = Drill()
    drill.workflow.send(drill.task(), drill.ctx, ["b", "a"], SendOrder.ANY)
    assert drill.workflow.candidates() == ["a", "b"]


def test_a_relay_goes_from_one_to_the_next() -> None:
    drill = Drill()
    drill.workflow.relay(drill.task(), drill.ctx, ["b", "a", "b"], dynamic_targets=False)
    seen = []
    for name in ("b", "a", "b"):
        seen.append(drill.workflow.candidates())
        given = drill.ask(name)
        assert drill.workflow.candidates() == [name]  # the holder; nobody else while it works
        drill.answer(name, given)
    assert seen == [["b"], ["a"], ["b"]]


def test_a_relay_passes_over_who_does_not_take_or_answer_it() -> None:
    drill = Drill()
    drill.workflow.relay(drill.task(), drill.ctx, ["a", "b", "c"], SendOrder.SEQUENTIAL, 2, 3, dynamic_targets=False)
    drill.waiter.advance(2.0)
    assert drill.workflow.candidates() == ["a", "b"]
    drill.ask("a")
    assert drill.workflow.candidates() == ["a"]
    drill.waiter.advance(3.0)
    assert drill.workflow.candidates() == ["a", "b"]  # a has not answered, b is next


def test_a_relay_in_any_order_is_for_those_with_a_turn_left() -> None:
    drill = Drill()
    relay = drill.workflow.relay
    relay(drill.task(), drill.ctx, ["a", "b", "a"], SendOrder.ANY, task_result_timeout=3, dynamic_targets=False)
    drill.serve("a")
    drill.serve("b")
    assert drill.workflow.candidates() == ["a"]
    drill.ask("a")
    drill.waiter.advance(3.0)
    assert drill.workflow.candidates() == ["a"]  # nobody else has a turn


@pytest.mark.parametrize("order", [SendOrder.ANY, SendOrder.SEQUENTIAL])
def test_a_relay_that_takes_up_whoever_asks_is_for_anybody(order: SendOrder) -> None:
    drill = Drill()
    drill.workflow.relay(drill.task(), drill.ctx, ["a"], order)
    assert drill.workflow.candidates() is None


class Choosy(TaskManager):
    """An application's own, which hands out in its own way."""

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        return TaskCheckStatus.SEND


class ChoosyBroadcast(BcastTaskManager):
    """Likewise, below a manager that knows its candidates."""

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        return TaskCheckStatus.SEND


class Candid(Choosy):
    """Hands out in its own way, and says to whom."""

    def candidates(self, task: Task) -> list[str] | None:
        return ["z"]


def test_a_manager_of_the_applications_own_may_have_something_for_anybody() -> None:
    for manager in (Choosy(), ChoosyBroadcast(Task("t", Shareable()))):
        drill = Drill()
        drill.workflow._schedule_task(drill.task(), drill.ctx, manager, ["a"])
        assert drill.workflow.candidates() is None
        assert drill.gets("stranger") == "train"


def test_unless_it_says_for_whom() -> None:
    drill = Drill()
    drill.workflow._schedule_task(drill.task(), drill.ctx, Candid(), ["a"])
    assert drill.workflow.candidates() == ["z"]


def test_a_workflow_that_answers_requests_in_its_own_way_is_asked_for_everybody() -> None:
    class Own(Workflow):
        def process_task_request(self, client: Client, fl_ctx: FLContext) -> tuple[str, str, Shareable | None]:
            return super().process_task_request(client, fl_ctx)

    class Told(Own):
        def candidates(self) -> list[str] | None:
            return super().candidates()

    assert Own(PERIOD).candidates() is None
    assert Told(PERIOD).candidates() == []
