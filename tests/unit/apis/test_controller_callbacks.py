from __future__ import annotations

import logging
from typing import Any

import pytest

from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.fl_constant import FLContextKey, ReservedTopic
from hansa.apis.fl_context import FLContext
from hansa.apis.fl_exception import WorkflowError
from hansa.apis.shareable import Shareable
from unit.apis.drill import NOTHING, PERIOD, Drill


@pytest.fixture
def drill() -> Drill:
    return Drill()


def boom(**_: Any) -> None:
    raise KeyError("boom")


def test_callbacks_are_called_by_keyword_and_in_their_order(drill: Drill) -> None:
    calls: list[tuple[str, list[str]]] = []

    def note(name: str) -> Any:
        return lambda **arguments: calls.append((name, sorted(arguments)))

    names = ("before_task_sent_cb", "after_task_sent_cb", "result_received_cb", "task_done_cb")
    drill.workflow.broadcast(Task("train", Shareable(), None, 0, **{name: note(name) for name in names}), drill.ctx)
    drill.serve("a")
    of_part, of_task = ["client_task", "fl_ctx"], ["fl_ctx", "task"]
    assert calls == [(names[0], of_part), (names[1], of_part), (names[2], of_part), (names[3], of_task)]


def test_the_data_is_the_tasks_own_as_it_is_after_the_before_callback(drill: Drill) -> None:
    other = Shareable()

    def swap(client_task: ClientTask, fl_ctx: FLContext) -> None:
        client_task.task.data = other

    def clear(client_task: ClientTask, fl_ctx: FLContext) -> None:
        assert client_task.task_send_count == 0
        client_task.task.data = Shareable()

    drill.workflow.broadcast(drill.task(before_task_sent_cb=swap, after_task_sent_cb=clear), drill.ctx)
    assert drill.ask("a")[2] is other
    assert dict(other) == dict(Shareable())  # nothing was added


def test_the_next_hand_out_takes_replaced_data(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast(task, drill.ctx, min_responses=2)
    held = drill.ask("a")
    task.data = drill.answer("a", held)
    assert drill.ask("b")[2] is task.data


@pytest.mark.parametrize("which", ["before_task_sent_cb", "after_task_sent_cb"])
def test_a_status_set_in_a_sent_callback_stops_the_hand_out(drill: Drill, which: str) -> None:
    calls: list[str] = []

    def cancel(client_task: ClientTask, fl_ctx: FLContext) -> None:
        drill.workflow.cancel_task(client_task.task)

    def note(client_task: ClientTask, fl_ctx: FLContext) -> None:
        calls.append("other")

    both: dict[str, Any] = {"before_task_sent_cb": note, "after_task_sent_cb": note, which: cancel}
    task = drill.task(**both)
    drill.workflow.broadcast(task, drill.ctx)
    assert drill.ask("a") == NOTHING
    assert (calls, task.client_tasks) == (["other"], [])  # the other one ran, whichever it is


@pytest.mark.parametrize("which", ["before_task_sent_cb", "after_task_sent_cb"])
def test_an_exception_in_a_sent_callback(drill: Drill, which: str, caplog: pytest.LogCaptureFixture) -> None:
    task = drill.task(**{which: boom})
    drill.workflow.broadcast(task, drill.ctx)
    with caplog.at_level(logging.ERROR):
        assert drill.ask("a") == NOTHING
    assert task.completion_status is TaskCompletionStatus.ERROR
    assert isinstance(task.exception, KeyError)
    assert "train" in caplog.text
    assert "a raised KeyError" in caplog.text
    drill.waiter.advance(PERIOD)
    assert drill.done == ["train:error"]


def test_after_callback_follows_a_failed_before_callback(drill: Drill) -> None:
    calls: list[str] = []
    task = drill.task(before_task_sent_cb=boom, after_task_sent_cb=lambda **_: calls.append("after"))
    drill.workflow.broadcast(task, drill.ctx)
    drill.ask("a")
    assert calls == ["after"]


def test_an_exception_in_the_result_callback_lets_the_submission_return(drill: Drill) -> None:
    task = drill.task(result_received_cb=boom)
    drill.workflow.broadcast(task, drill.ctx, min_responses=1)
    drill.serve("a")
    assert task.completion_status is TaskCompletionStatus.ERROR  # not OK, though enough have answered


def test_an_exception_in_the_done_callback(drill: Drill) -> None:
    task = drill.task(task_done_cb=boom)
    drill.workflow.broadcast(task, drill.ctx)
    drill.serve("a")
    assert task.completion_status is TaskCompletionStatus.ERROR
    assert drill.standing == 0


def test_whatever_a_callback_raises_costs_that_task_only(drill: Drill) -> None:
    def leave(**_: Any) -> None:
        raise SystemExit(3)

    task = drill.task(result_received_cb=leave)
    drill.workflow.broadcast(task, drill.ctx)
    drill.serve("a")
    assert task.completion_status is TaskCompletionStatus.ERROR


@pytest.mark.parametrize("which", ["before_task_sent_cb", "result_received_cb"])
def test_keyboard_interrupt_passes_and_leaves_the_board_in_order(drill: Drill, which: str) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    drill.workflow.broadcast(drill.task(**{which: interrupt}), drill.ctx)
    with pytest.raises(KeyboardInterrupt):
        drill.serve("a")
    drill.workflow._check_tasks()
    assert drill.done == ["train:aborted"]


def test_a_workflow_error_asks_the_engine_to_stop(drill: Drill) -> None:
    stops: list[str] = []
    drill.engine.ask_to_stop = lambda: stops.append("stop")  # type: ignore[attr-defined]  # what this engine offers, too

    def fail(**_: Any) -> None:
        raise WorkflowError("no way")

    drill.workflow.broadcast(drill.task("one", result_received_cb=boom), drill.ctx)
    drill.serve("a")
    assert stops == []
    for name in ("before_task_sent_cb", "result_received_cb", "task_done_cb"):
        drill.workflow.broadcast(drill.task(**{name: fail}), drill.ctx)
        given = drill.ask("a")
        if given != NOTHING:
            drill.answer("a", given)
    assert stops == ["stop"] * 3


def test_a_resend_keeps_the_part_and_says_so(drill: Drill) -> None:
    sent: list[tuple[int, float | None]] = []

    def note(client_task: ClientTask, fl_ctx: FLContext) -> None:
        sent.append((client_task.task_send_count, client_task.task_sent_time))
        marks.append(fl_ctx.get_prop(FLContextKey.IS_CLIENT_TASK_RESEND))

    marks: list[object] = []
    task = drill.task(before_task_sent_cb=note)
    drill.workflow.broadcast(task, drill.ctx)
    ctx = FLContext()
    site = Client("a", "")
    first = drill.workflow.process_task_request(site, ctx)
    drill.waiter.advance(7.0)
    second = drill.workflow.process_task_request(Client("a", "another token"), ctx)
    assert first == second
    assert sent == [(0, None), (1, 1000.0)]
    assert (task.client_tasks[0].task_send_count, task.client_tasks[0].task_sent_time) == (2, 1007.0)
    assert marks == [None, True]
    detail = ctx.get_prop_detail(FLContextKey.IS_CLIENT_TASK_RESEND)
    assert detail == {"value": True, "private": True, "sticky": False}
    assert len(task.client_tasks) == 1
    drill.workflow.broadcast(drill.task("two"), drill.ctx)
    assert drill.workflow.process_task_request(site, ctx)[0] == "two"
    assert not ctx.get_prop(FLContextKey.IS_CLIENT_TASK_RESEND)  # the same context, but no re-send


def test_the_result_is_the_submitted_object_and_may_be_changed(drill: Drill) -> None:
    seen: list[object] = []

    def take(client_task: ClientTask, fl_ctx: FLContext) -> None:
        seen.extend((client_task.result, client_task.result_received_time))
        client_task.result = None

    task = drill.task(result_received_cb=take)
    drill.workflow.broadcast(task, drill.ctx)
    result = drill.serve("a")
    assert seen[0] is result
    assert seen[1] == 1000.0
    assert task.client_tasks[0].result is None
    assert dict(result) == dict(Shareable())
    assert drill.done == ["train:ok"]  # it has answered all the same


def test_callbacks_may_schedule_and_cancel(drill: Drill) -> None:
    second = drill.task("two")

    def chain(client_task: ClientTask, fl_ctx: FLContext) -> None:
        drill.workflow.broadcast(second, fl_ctx)
        drill.workflow.cancel_task(third)

    third = drill.task("three")
    drill.workflow.broadcast(third, drill.ctx, targets=["x"])
    drill.workflow.broadcast(drill.task("one", result_received_cb=chain), drill.ctx)
    drill.serve("a")
    assert drill.gets("b") == "two"
    assert third.completion_status is TaskCompletionStatus.CANCELLED


def test_a_done_callback_may_schedule_and_is_not_counted_with_its_own_task(drill: Drill) -> None:
    counts: list[int] = []

    def chain(task: Task, fl_ctx: FLContext) -> None:
        counts.append(drill.standing)
        drill.workflow.broadcast(drill.task("two"), fl_ctx)

    drill.workflow.broadcast(drill.task("one", task_done_cb=chain), drill.ctx)
    drill.serve("a")
    assert (counts, drill.standing, drill.gets("a")) == ([0], 1, "two")


def test_cancel_sets_the_status_at_once_and_the_rest_follows_with_a_pass(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast(task, drill.ctx, min_responses=2)
    held = drill.ask("a")
    drill.workflow.cancel_task(task)
    assert task.completion_status is TaskCompletionStatus.CANCELLED
    assert (drill.standing, drill.done) == (1, [])
    assert drill.ask("b") == NOTHING
    drill.answer("a", held)  # still listed: dropped silently
    assert (drill.heard, drill.workflow.unknown, task.client_tasks[0].result) == ([], [], None)
    drill.waiter.advance(PERIOD)
    assert (drill.standing, drill.done) == (0, ["train:cancelled"])
    drill.answer("a", held)
    assert [entry[:3] for entry in drill.workflow.unknown] == [("a", *held[:2])]


def test_cancel_all_and_a_status_of_ones_own(drill: Drill) -> None:
    one, two = drill.task("one"), drill.task("two")
    drill.workflow.broadcast(one, drill.ctx)
    drill.workflow.broadcast(two, drill.ctx)
    drill.workflow.cancel_task(one, TaskCompletionStatus.ABORTED)
    drill.workflow.cancel_all_tasks(TaskCompletionStatus.IGNORED)
    drill.workflow._check_tasks()
    assert drill.done == ["one:aborted", "two:ignored"]


def test_an_assigned_status_is_never_overwritten_by_ok_or_timeout(drill: Drill) -> None:
    def assign(client_task: ClientTask, fl_ctx: FLContext) -> None:
        client_task.task.completion_status = TaskCompletionStatus.IGNORED

    drill.workflow.broadcast(drill.task("one", timeout=1, result_received_cb=assign), drill.ctx)
    drill.serve("a")
    drill.waiter.advance(5.0)
    assert drill.done == ["one:ignored"]


def test_a_pass_within_a_callback_does_not_nest_the_done_callback_of_the_same_task(drill: Drill) -> None:
    trace: list[str] = []

    def end(client_task: ClientTask, fl_ctx: FLContext) -> None:
        trace.append("in")
        drill.workflow.cancel_task(client_task.task)
        drill.workflow._check_tasks()
        trace.append("out")

    task = drill.task(result_received_cb=end, task_done_cb=lambda **_: trace.append("done"))
    drill.workflow.broadcast(task, drill.ctx)
    drill.serve("a")
    assert trace == ["in", "out", "done"]


def test_a_request_within_a_sent_callback_of_the_same_task_gets_nothing(drill: Drill) -> None:
    inner: list[str] = []
    task = drill.task(before_task_sent_cb=lambda **_: inner.append(drill.gets("b")))
    drill.workflow.broadcast(task, drill.ctx)
    assert drill.gets("a") == "train"
    assert inner == [""]


def test_a_second_answer_counts_once(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=2)
    held = drill.ask("a")
    drill.answer("a", held)
    drill.answer("a", held)
    assert (drill.heard, drill.standing, drill.workflow.unknown) == (["a"], 1, [])


def test_unknown_ids_and_other_sites_parts_go_to_the_workflow_and_its_errors_to_the_caller(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx)
    held = drill.ask("a")
    drill.answer("a", ("train", "no such id", None))
    drill.answer("thief", held)
    assert [entry[0] for entry in drill.workflow.unknown] == ["a", "thief"]

    def refuse(*_: object) -> None:
        raise OSError("not mine")

    drill.workflow.process_result_of_unknown_task = refuse  # type: ignore[method-assign]  # the subclass's right
    with pytest.raises(OSError, match="not mine"):
        drill.answer("a", ("train", "no such id", None))


def test_a_name_that_does_not_fit_the_id(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task(), drill.ctx)
    held = drill.ask("a")
    with pytest.raises(ValueError, match="validate"):
        drill.answer("a", ("validate", held[1], None))


def test_handle_exception_cancels_the_task(drill: Drill) -> None:
    task = drill.task()
    drill.workflow.broadcast(task, drill.ctx)
    drill.workflow.handle_exception("no such id", drill.ctx)
    drill.workflow.handle_exception(drill.ask("a")[1], drill.ctx)
    assert task.completion_status is TaskCompletionStatus.CANCELLED


def test_life_of_a_run(drill: Drill) -> None:
    drill.workflow.broadcast(drill.task("one"), drill.ctx)
    assert drill.workflow.calls == ["start"]
    drill.workflow.finalize_run(drill.ctx)
    assert (drill.done, drill.workflow.calls) == (["one:cancelled"], ["start", "stop"])
    assert drill.waiter.next_due() is None


def test_works_with_a_bare_context_and_without_a_run() -> None:
    drill = Drill(run=False)
    ctx = FLContext()
    drill.workflow = type(drill.workflow)()
    drill.workflow.broadcast(drill.task(), ctx)
    name, part, _ = drill.workflow.process_task_request(Client("a", ""), ctx)
    drill.workflow.process_submission(Client("a", ""), name, part, Shareable(), ctx)
    assert drill.done == ["train:ok"]


class Aux:
    """What engines offer beside contexts and events."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[str], str, list[str], float]] = []

    def send_aux_request(
        self, targets: list[str], topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> dict[str, Shareable]:
        assert isinstance(timeout, float)
        self.sent.append((targets, topic, request["task_names"], timeout))
        return {}


def test_abort_ends_the_task_and_asks_the_holders_to_stop(drill: Drill) -> None:
    aux = Aux()
    drill.engine.send_aux_request = aux.send_aux_request  # type: ignore[attr-defined]  # what this engine offers, too
    one, two = drill.task("one"), drill.task("two")
    drill.workflow.broadcast(one, drill.ctx, min_responses=5)
    drill.serve("a")
    drill.ask("b")
    drill.workflow.abort_task(one, drill.ctx)
    assert one.completion_status is TaskCompletionStatus.ABORTED
    assert aux.sent == [(["b"], ReservedTopic.ABORT_ASK, ["one"], 0.0)]
    drill.workflow.broadcast(two, drill.ctx)
    drill.workflow.abort_task(two, drill.ctx)  # nobody holds it, and no targets would mean all
    assert len(aux.sent) == 1


def test_abort_all_without_aux_messages(drill: Drill) -> None:
    one, two = drill.task("one"), drill.task("two")
    for task in (one, two):
        drill.workflow.broadcast(task, drill.ctx)
        drill.ask("a")
    drill.workflow.abort_all_tasks(drill.ctx)
    assert one.completion_status is two.completion_status is TaskCompletionStatus.ABORTED


def test_commit_goes_to_an_engine_that_keeps(drill: Drill) -> None:
    assert drill.workflow.commit(drill.ctx, {"round": 1}) is None
    kept: list[object] = []

    def commit(workflow_state: object) -> int:
        kept.append(workflow_state)
        return 7

    drill.engine.commit = commit  # type: ignore[attr-defined]  # what this engine offers, too
    assert drill.workflow.commit(drill.ctx, {"round": 1}) == 7
    assert kept == [{"round": 1}]


def test_statistics(drill: Drill) -> None:
    told: list[tuple[str, object]] = []

    class Collector:
        def set_info(self, group_name: str, info: dict[str, object]) -> None:
            told.append((group_name, info))

    drill.workflow.broadcast(drill.task(), drill.ctx)
    drill.ask("a")
    ctx = FLContext()
    ctx.set_prop("info_collector.stats_collector", Collector())
    drill.workflow.handle_event("info_collector.get_stats", ctx)
    assert told == [("Workflow", {"tasks": {"train": ["a"]}})]
