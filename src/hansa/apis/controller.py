"""The base of workflows: a task board, and the methods that put tasks on it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any

from hansa.apis.any_relay_manager import AnyRelayTaskManager
from hansa.apis.argument_checks import (
    check_count,
    check_dynamic_targets,
    check_min_responses,
    check_send_order,
    check_submission,
    check_task,
    check_type,
    check_unused,
    check_within_timeout,
    names_of,
)
from hansa.apis.bcast_manager import BcastForeverTaskManager, BcastTaskManager
from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, ControllerSpec, SendOrder, Task, TaskCompletionStatus
from hansa.apis.engine import OffersCommit, RoundKey, port
from hansa.apis.fl_constant import ReservedTopic
from hansa.apis.fl_context import FLContext
from hansa.apis.responder import Responder
from hansa.apis.send_manager import SendTaskManager
from hansa.apis.seq_relay_manager import SequentialRelayTaskManager
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.apis.task_desk import TaskDesk
from hansa.apis.task_manager import TaskManager, foresees

__all__ = ["Client", "ClientTask", "Controller", "SendOrder", "Task", "TaskCompletionStatus"]

# The words of the widget that collects statistics; apis cannot import it.
_GET_STATS = "info_collector.get_stats"
_STATS_COLLECTOR = "info_collector.stats_collector"


class Controller(Responder, ControllerSpec, ABC):
    """The base of workflows, which work by scheduling tasks.

    A subclass implements `start_controller`, `control_flow`, `stop_controller` and `process_result_of_unknown_task`.
    Every method may be called from any thread, also from a callback, with any engine that offers `new_context` and
    `fire_event`, and with a bare context. Several tasks may stand at once; a site that asks gets the first one that is
    due for it and that it does not hold yet, in the order of scheduling; else the last of those that it holds without
    having answered, as a re-send.

    Arguments are checked before the task is touched, so that a task that was refused may be offered again: TypeError
    for a wrong type, ValueError for what is out of range and for a task that was used before.

    Args:
        task_check_period: The patience of the board, in seconds: see `TaskBoard`. Nothing polls at this rate.
    """

    hears = frozenset((_GET_STATS,))

    def __init__(self, task_check_period: float = 0.5) -> None:
        super().__init__()
        self._task_check_period = task_check_period
        self._desk = TaskDesk(self, task_check_period)
        self._running = False

    def initialize_run(self, fl_ctx: FLContext) -> None:
        """Take the engine from the context, call `start_controller`, then watch the board."""
        self._desk.begin_run(fl_ctx)
        self.start_controller(fl_ctx)
        if not self._running:
            self._running = True
            self._desk.watch()

    def finalize_run(self, fl_ctx: FLContext) -> None:
        """Cancel everything, run the last task_done_cb, end the watch, then call `stop_controller`."""
        self.cancel_all_tasks(fl_ctx=fl_ctx)
        self._check_tasks()
        if self._running:
            self._running = False
            self._desk.unwatch(patient=True)
        self.stop_controller(fl_ctx)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell who collects statistics which sites have which tasks."""
        if event_type == _GET_STATS:
            collector = fl_ctx.get_prop(_STATS_COLLECTOR)
            if collector is not None:
                collector.set_info(group_name=self._name, info={"tasks": self._desk.sites_of_tasks()})

    def process_task_request(self, client: Client, fl_ctx: FLContext) -> tuple[str, str, Shareable | None]:
        """Answer a site that asks for work.

        Returns:
            Task name, id of the site's part, and the task's own data object as it is after before_task_sent_cb;
            `("", "", None)` where there is nothing to do.
        """
        check_type("client", client, Client)
        check_type("fl_ctx", fl_ctx, FLContext)
        return self._desk.request(client, fl_ctx)

    def candidates(self) -> list[str] | None:
        """The sites, by code point, that might be given something if they asked now; None: any site might."""
        if not foresees(type(self), "process_task_request", foresight="candidates"):
            return None  # a subclass answers requests in its own way
        return self._desk.candidates()

    def handle_exception(self, task_id: str, fl_ctx: FLContext) -> None:
        """What was handed out under that id could not be sent: its task is cancelled."""
        part = self._desk.part(task_id)
        if part is not None:
            self.cancel_task(part.task, fl_ctx=fl_ctx)

    def process_submission(
        self, client: Client, task_name: str, task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """Take a site's result; returns when its callback has run.

        An id that is not on the board, or of another site's part, goes to `process_result_of_unknown_task`.

        Raises:
            ValueError: The name does not fit the id.
        """
        check_submission(client, fl_ctx, result)
        if not self._desk.submit(client, result, task_name=task_name, client_task_id=task_id, fl_ctx=fl_ctx):
            self.log_info(fl_ctx, f"result of {client.name} for task {task_name}, which is not on the board")
            self.process_result_of_unknown_task(client, task_name, task_id, result, fl_ctx)

    def broadcast(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        min_responses: int = 1,
        wait_time_after_min_received: int = 0,
    ) -> None:
        """Hand a task to each target once; see `BcastTaskManager` for its end.

        Args:
            task: A task that was not scheduled before.
            fl_ctx: Any context.
            targets: Who may have it; None: whoever asks while it stands.
            min_responses: How many answers are enough; 0: all to whom it was given, and one at least.
            wait_time_after_min_received: Whole seconds that others have after that.
        """
        check_task(task, fl_ctx)
        names = names_of(targets, keep_duplicates=False)
        check_count("min_responses", min_responses)
        check_count("wait_time_after_min_received", wait_time_after_min_received)
        check_min_responses(min_responses, names)
        self._post(task, fl_ctx, BcastTaskManager(task, min_responses, wait_time_after_min_received), names)

    def broadcast_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        min_responses: int = 1,
        wait_time_after_min_received: int = 0,
        abort_signal: Signal | None = None,
    ) -> None:
        """`broadcast`, and wait for the end; when `abort_signal` is triggered the task ends with ABORTED."""
        self.broadcast(task, fl_ctx, targets, min_responses, wait_time_after_min_received)
        self._desk.wait(task, abort_signal)

    def broadcast_forever(self, task: Task, fl_ctx: FLContext, targets: list[Client] | list[str] | None = None) -> None:
        """Hand a task to each target whenever it asks, until its timeout or a cancel.

        `task.client_tasks` is kept bounded: answered parts that are not a site's latest are cleared away in time.
        """
        check_task(task, fl_ctx)
        self._post(task, fl_ctx, BcastForeverTaskManager(), names_of(targets, keep_duplicates=False))

    def send(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
    ) -> None:
        """Hand a task to one of the targets; see `SendTaskManager`.

        Args:
            task: A task that was not scheduled before.
            fl_ctx: Any context.
            targets: Who may have it; not None, not empty.
            send_order: Whether the first who asks gets it, or the first in the list.
            task_assignment_timeout: Whole seconds after which the next in the list may take it, too; 0: never.
        """
        check_task(task, fl_ctx)
        names = names_of(targets, keep_duplicates=False)
        check_count("task_assignment_timeout", task_assignment_timeout)
        check_within_timeout(task, task_assignment_timeout=task_assignment_timeout)
        check_send_order(send_order)
        if not names:
            raise ValueError("Targets must be provided for send")
        self._post(task, fl_ctx, SendTaskManager(task, send_order, task_assignment_timeout), names)

    def send_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
        abort_signal: Signal | None = None,
    ) -> None:
        """`send`, and wait for the end; when `abort_signal` is triggered the task ends with ABORTED."""
        self.send(task, fl_ctx, targets, send_order, task_assignment_timeout)
        self._desk.wait(task, abort_signal)

    def relay(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
        task_result_timeout: int = 0,
        dynamic_targets: bool = True,
    ) -> None:
        """Hand a task to one site after another; see `SequentialRelayTaskManager` and `AnyRelayTaskManager`.

        Args:
            task: A task that was not scheduled before.
            fl_ctx: Any context.
            targets: The places, a name may stand there several times; None: an empty list to begin with.
            send_order: Whether the places are taken in the order of the list.
            task_assignment_timeout: Whole seconds after which the next place may take it, too; 0: never.
            task_result_timeout: Whole seconds that a holder has to answer; 0: for ever.
            dynamic_targets: Whether a site that asks and is not in the list is appended.
        """
        check_task(task, fl_ctx)
        names = names_of(targets, keep_duplicates=True)
        check_count("task_assignment_timeout", task_assignment_timeout)
        check_count("task_result_timeout", task_result_timeout)
        check_within_timeout(
            task, task_assignment_timeout=task_assignment_timeout, task_result_timeout=task_result_timeout
        )
        check_send_order(send_order)
        check_dynamic_targets(dynamic_targets, names)
        manager: TaskManager
        if send_order is SendOrder.ANY:
            manager = AnyRelayTaskManager(task, task_result_timeout, dynamic_targets)
        else:
            manager = SequentialRelayTaskManager(task, task_assignment_timeout, task_result_timeout, dynamic_targets)
        self._post(task, fl_ctx, manager, names if names is not None else [])

    def relay_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
        task_result_timeout: int = 0,
        dynamic_targets: bool = True,
        abort_signal: Signal | None = None,
    ) -> None:
        """`relay`, and wait for the end; when `abort_signal` is triggered the task ends with ABORTED."""
        self.relay(task, fl_ctx, targets, send_order, task_assignment_timeout, task_result_timeout, dynamic_targets)
        self._desk.wait(task, abort_signal)

    def get_num_standing_tasks(self) -> int:
        """How many tasks stand; one that is over counts until a pass has taken it off and its task_done_cb has run."""
        return self._desk.num_standing()

    def cancel_task(
        self,
        task: Task,
        completion_status: TaskCompletionStatus = TaskCompletionStatus.CANCELLED,
        fl_ctx: FLContext | None = None,
    ) -> None:
        """End a task now, unless it is over; it goes, and its task_done_cb runs, with the next pass."""
        check_type("task", task, Task)
        self._desk.set_status(task, completion_status)

    def cancel_all_tasks(
        self,
        completion_status: TaskCompletionStatus = TaskCompletionStatus.CANCELLED,
        fl_ctx: FLContext | None = None,
    ) -> None:
        """End all standing tasks now; see `cancel_task`."""
        for task in self._desk.tasks():
            self._desk.set_status(task, completion_status)

    def abort_task(self, task: Task, fl_ctx: FLContext) -> None:
        """End a task with ABORTED, and ask the sites that work on it to stop.

        They get an aux message with topic `ReservedTopic.ABORT_ASK` and a list of names under `task_names`; an engine
        without aux messages is left alone. What the sites still answer is dropped like any late result.
        """
        check_task(task, fl_ctx)
        _abort(self._desk, [task], fl_ctx)

    def abort_all_tasks(self, fl_ctx: FLContext) -> None:
        """End all standing tasks with ABORTED, and ask the sites that work on them to stop; see `abort_task`."""
        check_type("fl_ctx", fl_ctx, FLContext)
        _abort(self._desk, self._desk.tasks(), fl_ctx)

    def commit(self, fl_ctx: FLContext, state: Mapping[str, Any]) -> int | None:  # Any: the workflow's own affair
        """Make the workflow's progress durable, where the engine can; `RoundKey.MODEL_VERSION` has its number then.

        Args:
            fl_ctx: The context of the control flow.
            state: What the workflow needs to go on from here; must be encodable.

        Returns: The number of the model version, or None where the engine keeps nothing.
        """
        keeper = port(fl_ctx.get_engine(), OffersCommit)
        version = keeper.commit(state) if keeper is not None else None
        if version is not None:
            fl_ctx.set_prop(RoundKey.MODEL_VERSION, version, private=True, sticky=True)
        return version

    @property
    def postings(self) -> dict[str, int]:
        """How many tasks of each name it has posted: by that, tasks are known again after a restart."""
        return self._desk.board.postings

    def task_of(self, client_task_id: str) -> Task | None:
        """The standing task of a client task, or None."""
        part = self._desk.part(client_task_id)
        return part.task if part else None

    def _check_tasks(self) -> None:
        """One pass, from any thread: what is over is off the board after it, a broadcast with enough answers, too."""
        self._desk.check()

    def _schedule_task(
        self, task: Task, fl_ctx: FLContext, manager: TaskManager, targets: list[Client] | list[str] | None
    ) -> None:
        """Put a task with a manager of the subclass's own on the board."""
        check_task(task, fl_ctx)
        self._post(task, fl_ctx, manager, names_of(targets, keep_duplicates=True))

    def _post(self, task: Task, fl_ctx: FLContext, manager: TaskManager, names: list[str] | None) -> None:
        check_unused(task)
        task.targets = names
        self._desk.post(task, manager, fl_ctx=fl_ctx)


def _abort(desk: TaskDesk, tasks: list[Task], fl_ctx: FLContext) -> None:
    for task in tasks:
        desk.set_status(task, TaskCompletionStatus.ABORTED)
    _ask_holders_to_stop(tasks, fl_ctx)


def _ask_holders_to_stop(tasks: list[Task], fl_ctx: FLContext) -> None:
    holders = {part.client.name for task in tasks for part in task.client_tasks if part.result_received_time is None}
    if not holders:  # no targets would mean all sites
        return
    request = Shareable()
    request["task_names"] = sorted({task.name for task in tasks})
    engine = fl_ctx.get_engine()
    arguments = {"targets": sorted(holders), "topic": ReservedTopic.ABORT_ASK, "request": request, "fl_ctx": fl_ctx}
    if hasattr(engine, "fire_and_forget_aux_request"):
        engine.fire_and_forget_aux_request(**arguments)
    elif hasattr(engine, "send_aux_request"):
        engine.send_aux_request(timeout=0.0, **arguments)
