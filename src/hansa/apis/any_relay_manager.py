"""Relay in any order: one site at a time gets the task."""

from __future__ import annotations

from collections import Counter

from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.seq_relay_manager import mark_if_late
from hansa.apis.shareable import Shareable
from hansa.apis.task_manager import TaskCheckStatus, TaskManager


class AnyRelayTaskManager(TaskManager):
    """Any target gets the task as often as it is listed, one holder at a time; the others wait.

    It ends when each place was handed out and answered. A holder whose time is up is passed over by the next one who
    asks, and gets its turn back.

    Args:
        task: The task.
        task_result_timeout: Seconds that a holder has before another may take over; 0: for ever.
        dynamic_targets: Whether a site that asks and is not in the list is appended.
    """

    def __init__(self, task: Task, task_result_timeout: int, dynamic_targets: bool) -> None:
        super().__init__()
        self.task_result_timeout = task_result_timeout
        self.dynamic_targets = dynamic_targets
        self._used: Counter[str] = Counter()
        self._num_used = 0
        self._offered: tuple[ClientTask, ClientTask | None] | None = None

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        """SEND to a target with a turn left if nobody holds the task, BLOCK while somebody does."""
        task, name = client_task.task, client_task.client.name
        if task.targets is None:
            task.targets = []
        if not self._is_target(task, name):
            if not self.dynamic_targets:
                return TaskCheckStatus.NO_BLOCK
            task.targets.append(name)
        self._count_turns(task)
        holder = task.client_tasks[-1] if task.client_tasks else None
        late = None
        if holder is not None and holder.result_received_time is None:
            if not self._time_is_up(holder):
                return TaskCheckStatus.BLOCK
            late = holder
        if self._used[name] >= task.targets.count(name):
            return TaskCheckStatus.BLOCK if late is not None else TaskCheckStatus.NO_BLOCK
        self._offered = (client_task, late)
        return TaskCheckStatus.SEND

    def candidates(self, task: Task) -> list[str] | None:
        """Those with a turn left unless somebody holds the task; with dynamic targets anybody."""
        if self.dynamic_targets:
            return None
        self._count_turns(task)
        holder = task.client_tasks[-1] if task.client_tasks else None
        if holder is not None and holder.result_received_time is None and not self._time_is_up(holder):
            return []
        return list(Counter(task.targets or ()) - self._used)

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        """OK when all places were handed out and all answered."""
        if self._all_answered(task):
            return True, TaskCompletionStatus.OK
        return False, TaskCompletionStatus.IGNORED

    def check_task_result(self, result: Shareable, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Mark what comes from another than the latest holder."""
        self._count_turns(client_task.task)  # before the answer of somebody passed over looks like one in time
        mark_if_late(result, client_task)

    def next_change(self, task: Task) -> float | None:
        """When all have answered, or when the holder's time is up."""
        if not task.client_tasks:
            return None
        holder = task.client_tasks[-1]
        if holder.result_received_time is not None:
            return holder.result_received_time if self._all_answered(task) else None
        if not self.task_result_timeout or holder.task_sent_time is None or self._time_is_up(holder):
            return None
        return holder.task_sent_time + self.task_result_timeout

    def _time_is_up(self, holder: ClientTask) -> bool:
        if not self.task_result_timeout or holder.task_sent_time is None:
            return False
        return self.now() >= holder.task_sent_time + self.task_result_timeout

    def _all_answered(self, task: Task) -> bool:
        self._count_turns(task)
        if not task.client_tasks or self._num_used < len(task.targets or ()):
            return False
        return task.client_tasks[-1].result_received_time is not None

    def _count_turns(self, task: Task) -> None:
        # An offer counts once it was handed out, so one that a callback called off costs no turn.
        if self._offered is None or not task.client_tasks or task.client_tasks[-1] is not self._offered[0]:
            return
        taker, late = self._offered
        self._offered = None
        self._used[taker.client.name] += 1
        self._num_used += 1
        if late is not None and late.result_received_time is None:
            self._used[late.client.name] -= 1
            self._num_used -= 1
