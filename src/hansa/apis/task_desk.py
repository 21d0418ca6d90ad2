"""The shell around the task board: its lock, the callbacks, and those who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hansa.apis.client import Client
from hansa.apis.clock import process_clock
from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.engine import OffersProblems, OffersWaiter, Waiter, port
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.fl_exception import WorkflowError
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.apis.task_board import TaskBoard
from hansa.apis.task_events import (
    BeingHandedOut,
    Changed,
    Deliver,
    DeliveryBegun,
    DeliveryEnded,
    Dropped,
    Effect,
    Event,
    Finished,
    HandedOut,
    HandOut,
    HandOutSettled,
    ResultSubmitted,
    StatusSet,
    TaskPosted,
    TaskRequested,
    Tick,
    UnknownResult,
)
from hansa.apis.task_manager import TaskManager
from hansa.apis.thread_waiter import ThreadWaiter

Assignment = tuple[str, str, Shareable | None]
NOTHING: Assignment = ("", "", None)


class TaskDesk:
    """Turns calls from any thread into events of the board, and carries out what follows.

    The board's lock is held for an event only, never while a callback runs. Callbacks of one task are serialised by
    `task.cb_lock`; who holds that may take the board's lock, never the other way round.

    Args:
        owner: The component that logs.
        task_check_period: See `TaskBoard`; seconds.
    """

    def __init__(self, owner: FLComponent, task_check_period: float) -> None:
        self.board = TaskBoard(task_check_period)
        self.engine: Any = None  # Any: see FLContext.get_engine
        self._owner = owner
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._finishing: dict[Task, int] = {}
        self._inside = threading.local()
        self._waiter: Waiter | None = None
        self._num_watches = 0
        self._act: Callable[[], None] | None = None
        self._passing = False

    def begin_run(self, fl_ctx: FLContext) -> None:
        """Take engine and waiter anew from the context of a run."""
        self.engine = fl_ctx.get_engine()
        if not self._num_watches and not self.board.num_standing():
            self._waiter = _waiter_of(self.engine)

    def meet(self, fl_ctx: FLContext) -> None:
        """Outside a run: take engine and waiter from the first context that comes along."""
        if self.engine is None:
            self.engine = fl_ctx.get_engine()
        if self._waiter is None:
            self._waiter = _waiter_of(self.engine)

    @property
    def waiter(self) -> Waiter:
        """Time, and the place to wait."""
        if self._waiter is None:
            self._waiter = ThreadWaiter()
        return self._waiter

    def watch(self) -> None:
        """From now on run passes when they are due. Counted: each call wants its `unwatch`."""
        with self._lock:
            self._num_watches += 1
            if self._act is not None:
                return
            # An object of its own each time, so that a late `unwatch` never takes a newer watch away.
            act = self._act = partial(self._run_due)
        self.waiter.watch(self._due, act)

    def unwatch(self, *, patient: bool = False) -> None:
        """Undo one `watch`.

        Args:
            patient: Also wait for a pass that is running. Without it the pass itself ends the watch: it may be in a
                callback that waits for the caller.
        """
        with self._lock:
            self._num_watches -= 1
            if self._num_watches or (self._passing and not patient):
                return
            act, self._act = self._act, None
        if act is not None:
            self.waiter.unwatch(act)

    def post(self, task: Task, manager: TaskManager, *, fl_ctx: FLContext) -> None:
        """Put a task on the board; `task.targets` is set."""
        self.meet(fl_ctx)
        age_s = max(0.0, process_clock() - task.create_time)
        task.report_to(self._status_assigned)
        self.board.workflow_index = getattr(self._owner, "workflow_index", 0)
        self._apply(TaskPosted(self.waiter.now(), task, manager, age_s))

    def request(self, client: Client, fl_ctx: FLContext) -> Assignment:
        """Answer a site that asks for work."""
        self.meet(fl_ctx)
        while True:
            for effect in self._apply(TaskRequested(self.waiter.now(), client, fl_ctx)):
                if isinstance(effect, HandOut):
                    answer = self._hand_out(effect, fl_ctx)
                    if answer is not None:
                        return answer
                    break
                if isinstance(effect, BeingHandedOut):
                    if self._calling(effect.task):
                        return NOTHING  # asked from within that very callback
                    with effect.task.cb_lock:
                        break
            else:
                return NOTHING

    def submit(
        self, client: Client, result: Shareable, *, task_name: str, client_task_id: str, fl_ctx: FLContext
    ) -> bool:
        """Take a result; False if nothing on the board has that id."""
        self.meet(fl_ctx)
        arrived_at = self.waiter.now()
        for effect in self._apply(ResultSubmitted(arrived_at, client, task_name, client_task_id)):
            if isinstance(effect, UnknownResult):
                return False
            if isinstance(effect, Dropped):
                self._log_dropped(effect, fl_ctx)
            elif isinstance(effect, Deliver):
                self._deliver(DeliveryBegun(arrived_at, effect.client_task, result, fl_ctx), fl_ctx)
        return True

    def set_status(self, task: Task, status: TaskCompletionStatus) -> None:
        """End a task from outside, unless it is over; removal and task_done_cb follow with the next pass."""
        self._apply(StatusSet(self.waiter.now(), task, status, keep=True))

    def check(self) -> None:
        """One pass over all tasks; those that are over are off the board, their task_done_cb has run."""
        self._apply(Tick(self.waiter.now(), everything=True))
        if getattr(self._inside, "tasks", None):
            return  # in a callback: others may wait for this very thread
        with self._idle:
            over = {*self.board.departing(), *self._finishing}
            self._idle.wait_for(lambda: not any(task in self._finishing or task.is_standing for task in over))

    def wait(self, task: Task, abort_signal: Signal | None) -> None:
        """Block until the task is over; it ends with ABORTED when the signal is triggered."""
        waiter = self.waiter
        board = self.board
        self.watch()
        if abort_signal is not None:
            abort_signal.subscribe(waiter.notify)
        try:
            waiter.wait_until(lambda: board.is_over(task) or (abort_signal is not None and abort_signal.triggered))
            if task.completion_status is None:
                self.set_status(task, TaskCompletionStatus.ABORTED)
        finally:
            if abort_signal is not None:
                abort_signal.unsubscribe(waiter.notify)
            self.unwatch()

    def num_standing(self) -> int:
        """How many tasks are on the board, or off it with their task_done_cb still running in another thread."""
        me = threading.get_ident()
        with self._lock:
            return self.board.num_standing() + sum(1 for thread in self._finishing.values() if thread != me)

    def tasks(self) -> list[Task]:
        """The tasks on the board, in the order of their scheduling."""
        with self._lock:
            return self.board.tasks()

    def candidates(self) -> list[str] | None:
        """Who might be given something now; see `TaskBoard.candidates`."""
        with self._lock:
            return self.board.candidates(self.waiter.now()) if self.board.num_standing() else []

    def sites_of_tasks(self) -> dict[str, list[str]]:
        """The names of the sites that each standing task was handed to."""
        with self._lock:
            return {task.name: [part.client.name for part in task.client_tasks] for task in self.board.tasks()}

    def part(self, client_task_id: str) -> ClientTask | None:
        """The part with that id, if its task is on the board."""
        with self._lock:
            return self.board.part(client_task_id)

    def _due(self) -> float | None:
        with self._lock:
            return self.board.next_due()

    def _run_due(self) -> None:
        self._passing = True
        try:
            self._apply(Tick(self.waiter.now()))
        finally:
            with self._lock:
                self._passing = False
                act = None
                if not self._num_watches:
                    act, self._act = self._act, None
        if act is not None:
            self.waiter.unwatch(act)
        self.waiter.notify()

    def _status_assigned(self, task: Task, status: TaskCompletionStatus | None) -> None:
        self._apply(StatusSet(self.waiter.now(), task, status))

    def _apply(self, event: Event) -> Sequence[Effect]:
        board = self.board
        wake = False
        finished: list[Task] = []
        with self._lock:
            alarm = board.alarm
            effects = board.handle(event)
            for effect in effects:
                if isinstance(effect, Finished):
                    finished.append(effect.task)
                    self._finishing[effect.task] = threading.get_ident()
                    wake = True
                elif isinstance(effect, Changed):
                    wake = True
            wake = wake or board.alarm != alarm
        if wake:
            self.waiter.notify()
        for task in finished:
            self._finish(task)
        return effects

    def _hand_out(self, effect: HandOut, fl_ctx: FLContext) -> Assignment | None:
        """Run the callbacks; None if the task was over before, and the request is to be looked at again."""
        part = effect.client_task
        task = part.task
        effects: Sequence[Effect] = ()
        with task.cb_lock:
            over_before = task.completion_status is not None
            data: Shareable | None = None
            try:
                if not over_before:
                    _mark_resend(effect.resend, fl_ctx)
                    self._call(task, task.before_task_sent_cb, part, client_task=part, fl_ctx=fl_ctx)
                    data = task.data
                    self._call(task, task.after_task_sent_cb, part, client_task=part, fl_ctx=fl_ctx)
            finally:
                effects = self._apply(HandOutSettled(self.waiter.now(), part))
        if over_before:
            return None
        if any(isinstance(effect, HandedOut) for effect in effects):
            return (task.name, part.id, data)
        return NOTHING

    def _deliver(self, begun: DeliveryBegun, fl_ctx: FLContext) -> None:
        part = begun.client_task
        task = part.task
        try:
            with task.cb_lock:
                for effect in self._apply(begun):
                    if isinstance(effect, Dropped):
                        self._log_dropped(effect, fl_ctx)
                    else:
                        self._call(task, task.result_received_cb, part, client_task=part, fl_ctx=fl_ctx)
        finally:
            self._apply(DeliveryEnded(self.waiter.now(), part))

    def _finish(self, task: Task) -> None:
        try:
            with task.cb_lock:
                if task.task_done_cb is not None:
                    with self._new_context() as fl_ctx:
                        self._call(task, task.task_done_cb, None, task=task, fl_ctx=fl_ctx)
        finally:
            with self._idle:
                del self._finishing[task]
                task.report_to(None)
                self._idle.notify_all()
            self.waiter.notify()

    def _new_context(self) -> FLContext:
        fl_ctx: FLContext = FLContext() if self.engine is None else self.engine.new_context()
        return fl_ctx

    def _calling(self, task: Task) -> bool:
        return task in getattr(self._inside, "tasks", ())

    def _call(
        self, task: Task, callback: Callable[..., Any] | None, part: ClientTask | None, /, **arguments: Any
    ) -> None:
        """The boundary to the application's callbacks: whatever one raises costs its task, and nothing else."""
        if callback is None:
            return
        inside: list[Task] | None = getattr(self._inside, "tasks", None)
        if inside is None:
            inside = self._inside.tasks = []
        inside.append(task)
        try:
            callback(**arguments)
        except KeyboardInterrupt:  # the dispatcher's alone: the workflow, on its thread, must not meet it
            self._stop_run(arguments["fl_ctx"])
            task.completion_status = TaskCompletionStatus.ABORTED
            raise
        except BaseException as error:
            task.exception = error
            task.completion_status = TaskCompletionStatus.ERROR
            fl_ctx = arguments["fl_ctx"]
            site = f" for {part.client.name}" if part is not None else ""
            name = getattr(callback, "__name__", type(callback).__name__)
            _report(self._owner, f"task {task.name}, callback {name}{site}", error, fl_ctx)
            if isinstance(error, WorkflowError):
                self._stop_run(fl_ctx)
        finally:
            inside.pop()

    def _stop_run(self, fl_ctx: FLContext) -> None:
        engine = self.engine if self.engine is not None else fl_ctx.get_engine()
        ask_to_stop = getattr(engine, "ask_to_stop", None)
        if ask_to_stop is not None:
            ask_to_stop()

    def _log_dropped(self, effect: Dropped, fl_ctx: FLContext) -> None:
        part = effect.client_task
        self._owner.log_info(fl_ctx, f"task {part.task.name}: result of {part.client.name} dropped: {effect.reason}")


def _mark_resend(resend: bool, fl_ctx: FLContext) -> None:
    # Said only where it differs: a driver may use one context for many requests.
    if resend or fl_ctx.get_prop(FLContextKey.IS_CLIENT_TASK_RESEND):
        fl_ctx.set_prop(FLContextKey.IS_CLIENT_TASK_RESEND, resend, private=True, sticky=False)


def _report(owner: FLComponent, where: str, error: BaseException, fl_ctx: FLContext) -> None:
    owner.log_exception(fl_ctx, f"{where} raised {error!r}")
    keeper = port(fl_ctx.get_engine(), OffersProblems)
    if keeper is not None:
        keeper.problem(where, error)


def _waiter_of(engine: object) -> Waiter:
    offer = port(engine, OffersWaiter)
    waiter = offer.waiter if offer is not None else None
    # A stand-in that has every attribute is not an engine that tells the time.
    if isinstance(waiter, Waiter) and isinstance(waiter.now(), float | int):
        return waiter
    return ThreadWaiter()
