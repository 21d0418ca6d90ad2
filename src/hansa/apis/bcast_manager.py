"""Broadcast: each of many sites gets the task."""

from __future__ import annotations

from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.task_manager import Tally, TaskCheckStatus, TaskManager


class BcastTaskManager(TaskManager):
    """Each target gets the task once; it ends when enough have answered.

    Args:
        task: The task.
        min_responses: How many answers are enough; 0: one at least, and all to whom it was given.
        wait_time_after_min_received: The grace in seconds that others have from then on.

    Without grace, the task ends at once when all who hold it have answered; while somebody still works on it, it
    stays one check period more, or until somebody calls for a pass. A grace ends one check period late, but at once
    when all named targets have answered.
    """

    holds_back = False

    def __init__(self, task: Task, min_responses: int = 0, wait_time_after_min_received: int = 0) -> None:
        super().__init__()
        self.min_responses = min_responses
        self.wait_time_after_min_received = wait_time_after_min_received

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        """OK when enough have answered and the grace is over."""
        tally = self._tally_of(task)
        since = self._enough_since(tally)
        if since is None:
            return False, TaskCompletionStatus.IGNORED
        if self.wait_time_after_min_received == 0 or self._all_targets_answered(task, tally):
            return True, TaskCompletionStatus.OK
        if self.now() >= self._end_of_grace(since):
            return True, TaskCompletionStatus.OK
        return False, TaskCompletionStatus.IGNORED

    def next_change(self, task: Task) -> float | None:
        """When the board should look whether the task is over; in the past: at once."""
        tally = self._tally_of(task)
        since = self._enough_since(tally)
        if since is None:
            return None
        everybody = tally.num_outstanding == 0 and self.wait_time_after_min_received == 0
        if everybody or self._all_targets_answered(task, tally):
            return tally.answered_at[-1]
        return self._end_of_grace(since)

    def _enough_since(self, tally: Tally) -> float | None:
        answered_at = tally.answered_at
        if self.min_responses == 0:
            return answered_at[-1] if answered_at and tally.num_outstanding == 0 else None
        return answered_at[self.min_responses - 1] if len(answered_at) >= self.min_responses else None

    def _end_of_grace(self, since: float) -> float:
        return since + self.wait_time_after_min_received + self.task_check_period

    def _all_targets_answered(self, task: Task, tally: Tally) -> bool:
        if task.targets is None:
            return False
        self._is_target(task, "")  # brings the set of names up to date
        return len(tally.answered_at) >= len(self._names)


class BcastForeverTaskManager(TaskManager):
    """Each target gets the task whenever it asks; only a timeout or a cancel ends it."""

    keeps_history = False
    holds_back = False

    def __init__(self) -> None:
        super().__init__()

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        """Any target, at any time."""
        is_target = self._is_target(client_task.task, client_task.client.name)
        return TaskCheckStatus.SEND if is_target else TaskCheckStatus.NO_BLOCK

    def candidates(self, task: Task) -> list[str] | None:
        """All targets, always."""
        return task.targets

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        """Never over by itself."""
        return False, TaskCompletionStatus.IGNORED

    def next_change(self, task: Task) -> float | None:
        """Nothing changes as time goes by."""
        return None
