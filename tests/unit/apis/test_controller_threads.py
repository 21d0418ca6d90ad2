"""Real threads, a real clock; nothing here waits for time to pass except for a check period of a hundredth."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, SendOrder, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.testing import BareEngine
from unit.apis.drill import NOTHING, Drill, Workflow, in_thread, joined


class Posting(Workflow):
    """Says when a broadcast stands."""

    def __init__(self, task_check_period: float) -> None:
        super().__init__(task_check_period)
        self.posted = threading.Event()

    def broadcast(self, *args: Any, **kwargs: Any) -> None:
        super().broadcast(*args, **kwargs)
        self.posted.set()


class Floor:
    """A workflow on the real clock."""

    def __init__(self, period: float = 0.01) -> None:
        self.engine = BareEngine()
        self.ctx = self.engine.new_context()
        self.workflow = Posting(period)

    def wait(self, task: Task, **options: Any) -> threading.Thread:
        """`broadcast_and_wait` in a thread; returns when the task stands."""
        self.workflow.posted.clear()
        thread = in_thread(lambda: self.workflow.broadcast_and_wait(task, self.ctx, **options))
        assert self.workflow.posted.wait(20.0)
        return thread

    def ask(self, name: str) -> tuple[str, str, Shareable | None]:
        return self.workflow.process_task_request(Client(name, ""), self.engine.new_context())

    def answer(self, name: str, given: tuple[str, str, Shareable | None]) -> None:
        ctx = self.engine.new_context()
        self.workflow.process_submission(Client(name, ""), given[0], given[1], Shareable(), ctx)


@pytest.fixture(params=["in a run", "without a run"])
def floor(request: pytest.FixtureRequest) -> Iterator[Floor]:
    before = set(threading.enumerate())
    floor = Floor()
    if request.param == "in a run":
        floor.workflow.initialize_run(floor.ctx)
    yield floor
    floor.workflow.finalize_run(floor.ctx)
    assert set(threading.enumerate()) <= before


def new_task(**callbacks: Callable[..., Any]) -> Task:
    return Task("train", Shareable(), **callbacks)


def test_a_driver_of_the_old_kind(floor: Floor) -> None:
    task = new_task()
    thread = floor.wait(task, min_responses=2)
    given = {name: floor.ask(name) for name in ("a", "b")}
    assert floor.workflow.get_num_standing_tasks() == 1
    for name, what in given.items():
        floor.answer(name, what)
    floor.workflow._check_tasks()
    assert floor.workflow.get_num_standing_tasks() == 0
    assert joined(thread)
    assert task.completion_status is TaskCompletionStatus.OK


def test_the_own_pass_ends_what_time_ends(floor: Floor) -> None:
    done = threading.Event()
    task = new_task(task_done_cb=lambda **_: done.set())
    thread = floor.wait(task, min_responses=1)
    given = floor.ask("a")
    floor.ask("b")
    floor.answer("a", given)
    assert done.wait(20.0)
    assert joined(thread)


def test_a_timeout_ends_a_wait(floor: Floor) -> None:
    task = Task("train", Shareable(), timeout=1)
    thread = floor.wait(task)
    assert joined(thread)
    assert task.completion_status is TaskCompletionStatus.TIMEOUT


@pytest.mark.parametrize("how", ["assigned", "cancelled", "all cancelled", "signal"])
def test_what_wakes_a_wait(floor: Floor, how: str) -> None:
    task, signal = new_task(), Signal()
    thread = floor.wait(task, abort_signal=signal)
    if how == "assigned":
        task.completion_status = TaskCompletionStatus.IGNORED
    elif how == "cancelled":
        floor.workflow.cancel_task(task)
    elif how == "all cancelled":
        floor.workflow.cancel_all_tasks()
    else:
        signal.trigger("enough")
    assert joined(thread)
    assert (task.completion_status is TaskCompletionStatus.ABORTED) == (how == "signal")
    assert signal._callbacks == []


def test_a_signal_that_was_triggered_before(floor: Floor) -> None:
    task, signal = new_task(), Signal()
    signal.trigger(True)
    assert joined(floor.wait(task, abort_signal=signal))
    assert task.completion_status is TaskCompletionStatus.ABORTED


def test_send_and_relay_wait_too(floor: Floor) -> None:
    for name in ("send_and_wait", "relay_and_wait"):
        task, signal = new_task(), Signal()
        call = getattr(floor.workflow, name)
        thread = in_thread(
            lambda call=call, task=task, signal=signal: call(task, floor.ctx, ["a"], abort_signal=signal)
        )
        signal.trigger(True)
        assert joined(thread)
        assert task.completion_status is TaskCompletionStatus.ABORTED


def test_many_sites_at_once_and_callbacks_that_never_overlap(floor: Floor) -> None:
    inside: list[int] = []
    overlaps: list[int] = []
    total = {"heard": 0, "sent": 0}

    def careful(key: str) -> Callable[..., None]:
        def callback(**_: Any) -> None:
            inside.append(1)
            if len(inside) > 1:
                overlaps.append(1)
            value = total[key]
            floor.engine.new_context().set_prop("x", 1)  # a chance for others to come in between
            total[key] = value + 1
            inside.pop()

        return callback

    task = new_task(
        before_task_sent_cb=careful("sent"), after_task_sent_cb=careful("sent"), result_received_cb=careful("heard")
    )
    waiting = floor.wait(task, min_responses=20)
    start = threading.Barrier(20)

    def site(number: int) -> None:
        start.wait()
        given = floor.ask(f"site-{number}")
        assert given != NOTHING
        floor.answer(f"site-{number}", given)

    threads = [in_thread(lambda number=number: site(number)) for number in range(20)]
    assert all(joined(thread) for thread in threads)
    assert joined(waiting)
    assert (total, overlaps) == ({"heard": 20, "sent": 40}, [])
    assert len(task.client_tasks) == 20
    assert task.completion_status is TaskCompletionStatus.OK


def test_one_taker_only_though_all_ask_at_once(floor: Floor) -> None:
    for _ in range(20):
        names = [f"site-{number}" for number in range(5)]
        only = new_task(before_task_sent_cb=lambda **_: None)
        floor.workflow.send(only, floor.ctx, names, send_order=SendOrder.ANY)
        start = threading.Barrier(5)
        got: list[str] = []

        def ask(name: str, start: threading.Barrier = start, got: list[str] = got) -> None:
            start.wait()
            got.append(floor.ask(name)[0])

        threads = [in_thread(lambda name=name: ask(name)) for name in names]
        assert all(joined(thread) for thread in threads)
        assert sorted(got) == ["", "", "", "", "train"]
        floor.workflow.cancel_task(only)


@pytest.mark.parametrize("which", ["before_task_sent_cb", "after_task_sent_cb", "result_received_cb", "task_done_cb"])
def test_a_callback_may_start_a_thread_that_schedules_and_wait_for_it(floor: Floor, which: str) -> None:
    ends: list[bool] = []
    other = Task("other", Shareable())

    def start(**_: Any) -> None:
        thread = in_thread(lambda: floor.workflow.broadcast(other, floor.ctx))
        ends.append(joined(thread))
        thread = in_thread(lambda: floor.workflow.cancel_task(other))
        ends.append(joined(thread))

    floor.workflow.broadcast(new_task(**{which: start}), floor.ctx)
    floor.answer("a", floor.ask("a"))
    assert ends == [True, True]


def test_a_done_callback_in_the_own_pass_may_wait_for_a_blocking_call(floor: Floor) -> None:
    over = threading.Event()
    ends: list[bool] = []
    other = Task("other", Shareable())

    def chain(**_: Any) -> None:
        thread = floor.wait(other)
        other.completion_status = TaskCompletionStatus.CANCELLED
        ends.append(joined(thread))
        over.set()

    thread = floor.wait(new_task(task_done_cb=chain), min_responses=1)
    given = floor.ask("a")
    floor.ask("b")
    floor.answer("a", given)  # enough but not all: the own pass ends it
    assert over.wait(30.0)
    assert joined(thread)
    assert ends == [True]


def test_a_pass_waits_for_a_done_callback_that_runs_elsewhere(floor: Floor) -> None:
    entered, leave, done = threading.Event(), threading.Event(), []

    def slow(**_: Any) -> None:
        entered.set()
        assert leave.wait(20.0)
        done.append(1)

    floor.workflow.broadcast(new_task(task_done_cb=slow), floor.ctx)
    given = floor.ask("a")
    submission = in_thread(lambda: floor.answer("a", given))
    assert entered.wait(20.0)
    assert floor.workflow.get_num_standing_tasks() == 1
    seen: list[int] = []
    checker = in_thread(lambda: (floor.workflow._check_tasks(), seen.extend(done)))
    leave.set()
    assert joined(checker)
    assert joined(submission)
    assert seen == [1]


def test_a_wait_does_not_end_well_while_a_result_is_in_its_callback() -> None:
    floor = Floor(period=3600.0)
    entered, leave = threading.Event(), threading.Event()

    def slow(client_task: ClientTask, fl_ctx: FLContext) -> None:
        if client_task.client.name == "b":
            entered.set()
            assert leave.wait(20.0)

    task = new_task(result_received_cb=slow)
    waiting = floor.wait(task, min_responses=1)
    first, second = floor.ask("a"), floor.ask("b")
    floor.ask("c")
    floor.answer("a", first)
    submission = in_thread(lambda: floor.answer("b", second))
    assert entered.wait(20.0)
    checking = in_thread(floor.workflow._check_tasks)
    assert joined(checking)
    assert task.completion_status is None  # b's answer is not counted yet, though a's was enough
    leave.set()
    assert joined(submission)
    floor.workflow._check_tasks()
    assert joined(waiting)
    assert task.completion_status is TaskCompletionStatus.OK


def test_no_thread_where_nothing_is_due() -> None:
    floor = Floor(period=0.5)
    floor.workflow.initialize_run(floor.ctx)
    before = threading.active_count()
    floor.workflow.broadcast(new_task(), floor.ctx, min_responses=2)
    given = [floor.ask(name) for name in "ab"]
    for name, what in zip("ab", given, strict=True):
        floor.answer(name, what)
    assert (threading.active_count(), floor.workflow.get_num_standing_tasks()) == (before, 0)
    floor.workflow.finalize_run(floor.ctx)
    assert threading.active_count() == before


def test_finalize_run_within_the_own_pass() -> None:
    floor = Floor()
    floor.workflow.initialize_run(floor.ctx)
    before = set(threading.enumerate())
    over = threading.Event()

    def end(**_: Any) -> None:
        floor.workflow.finalize_run(floor.ctx)
        over.set()

    task = new_task(task_done_cb=end)
    floor.workflow.broadcast(task, floor.ctx)
    task.completion_status = TaskCompletionStatus.CANCELLED
    assert over.wait(20.0)
    assert all(joined(thread) for thread in set(threading.enumerate()) - before)


def test_blocking_calls_on_a_clock_that_jumps() -> None:
    drill = Drill(jump=True)
    task = drill.task(timeout=3600)
    drill.workflow.broadcast_and_wait(task, drill.ctx)
    assert task.completion_status is TaskCompletionStatus.TIMEOUT
    assert drill.waiter.now() == 1000.0 + 3600
    with pytest.raises(RuntimeError, match="waits for ever"):
        drill.workflow.broadcast_and_wait(drill.task(), drill.ctx)
