"""Relay in order: one site after another gets the task."""

from __future__ import annotations

from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.apis.task_manager import TaskCheckStatus, TaskManager, whole_periods


class SequentialRelayTaskManager(TaskManager):
    """The task goes along the list of targets; a name may stand in it several times.

    A window of places may take it. It begins behind the last place handed out, opens when that holder has answered
    or its time is up, and widens by one place each assignment timeout, as far as the list goes.

    Args:
        task: The task.
        task_assignment_timeout: Seconds after which the next place may take it, too; 0: never.
        task_result_timeout: Seconds that a holder has to answer; 0: for ever.
        dynamic_targets: Whether a site that asks and is not in the list is appended.
    """

    def __init__(
        self, task: Task, task_assignment_timeout: int, task_result_timeout: int, dynamic_targets: bool
    ) -> None:
        super().__init__()
        self.task_assignment_timeout = task_assignment_timeout
        self.task_result_timeout = task_result_timeout
        self.dynamic_targets = dynamic_targets
        self._place = -1
        self._offered: tuple[ClientTask, int] | None = None

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        """SEND to a target in the window, BLOCK for all targets while a result is pending."""
        task, name = client_task.task, client_task.client.name
        targets = _targets_of(task)
        if not self._is_target(task, name):
            if not self.dynamic_targets:
                return TaskCheckStatus.NO_BLOCK
            targets.append(name)
        opened = self._window_opened(task)
        if opened is None:
            return TaskCheckStatus.BLOCK
        begin = self._last_place(task) + 1
        for place in range(begin, min(begin + self._width(opened), len(targets))):
            if targets[place] == name:
                self._offered = (client_task, place)
                return TaskCheckStatus.SEND
        return TaskCheckStatus.NO_BLOCK

    def candidates(self, task: Task) -> list[str] | None:
        """The sites of the window; with dynamic targets anybody."""
        if self.dynamic_targets:
            return None
        opened = self._window_opened(task)
        if opened is None:
            return []
        begin = self._last_place(task) + 1
        return _targets_of(task)[begin : begin + self._width(opened)]

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        """OK or TIMEOUT, depending on whether the latest holder answered, when there is nothing left to wait for."""
        end = self._end(task)
        if end is None or self.now() < end:
            return False, TaskCompletionStatus.IGNORED
        answered = bool(task.client_tasks) and task.client_tasks[-1].result_received_time is not None
        return True, TaskCompletionStatus.OK if answered else TaskCompletionStatus.TIMEOUT

    def check_task_result(self, result: Shareable, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Mark what comes from another than the latest holder."""
        mark_if_late(result, client_task)

    def next_change(self, task: Task) -> float | None:
        """The end, or before that the time when the window opens or widens."""
        times = []
        end = self._end(task)
        if end is not None:
            times.append(end)
        opened = self._window_opened(task)
        if opened is None:
            latest = task.client_tasks[-1]
            if self.task_result_timeout and latest.task_sent_time is not None:
                times.append(latest.task_sent_time + self.task_result_timeout)
        elif self.task_assignment_timeout:
            width = self._width(opened)
            if width < self._places_left(task):
                times.append(opened + width * self.task_assignment_timeout)
        return min(times, default=None)

    def _end(self, task: Task) -> float | None:
        """When it ends if nothing more happens; None if it does not."""
        places_left = self._places_left(task)
        opened = self._window_opened(task)
        latest = task.client_tasks[-1] if task.client_tasks else None
        if latest is not None and opened is None:
            if places_left or not self.task_result_timeout or latest.task_sent_time is None:
                return None
            return latest.task_sent_time + self.task_result_timeout
        if opened is None:
            return None
        if latest is not None and places_left == 0:
            return opened
        if not self.task_assignment_timeout:
            return None
        return opened + (places_left + 1) * self.task_assignment_timeout

    def _window_opened(self, task: Task) -> float | None:
        """Since when the next place may take the task; None while a result is pending."""
        if not task.client_tasks:
            return task.schedule_time if task.schedule_time is not None else task.create_time
        latest = task.client_tasks[-1]
        if latest.result_received_time is not None:
            if not self.task_result_timeout or latest.task_sent_time is None:
                return latest.result_received_time
            return min(latest.result_received_time, latest.task_sent_time + self.task_result_timeout)
        if not self.task_result_timeout or latest.task_sent_time is None:
            return None
        over = latest.task_sent_time + self.task_result_timeout
        return over if self.now() >= over else None

    def _width(self, opened: float) -> int:
        if not self.task_assignment_timeout:
            return 1
        return whole_periods(self.now() - opened, self.task_assignment_timeout) + 1

    def _places_left(self, task: Task) -> int:
        return len(_targets_of(task)) - self._last_place(task) - 1

    def _last_place(self, task: Task) -> int:
        # An offer counts once it was handed out, so one that a callback called off leaves no gap.
        if self._offered is not None and task.client_tasks and task.client_tasks[-1] is self._offered[0]:
            self._place = self._offered[1]
            self._offered = None
        return self._place


def mark_if_late(result: Shareable, client_task: ClientTask) -> None:
    """Set the header REPLY_IS_LATE on a result that is not the latest holder's."""
    client_tasks = client_task.task.client_tasks
    if client_tasks and client_tasks[-1] is not client_task:
        result.set_header(ReservedHeaderKey.REPLY_IS_LATE, True)


def _targets_of(task: Task) -> list[str]:
    if task.targets is None:
        task.targets = []
    return task.targets
