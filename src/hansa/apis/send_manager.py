"""Send: one of several sites gets the task."""

from __future__ import annotations

from hansa.apis.controller_spec import ClientTask, SendOrder, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.task_manager import TaskCheckStatus, TaskManager, whole_periods


class SendTaskManager(TaskManager):
    """One target gets the task, and its answer ends it.

    Args:
        task: The task.
        send_order: ANY: whoever asks first. SEQUENTIAL: t seconds after the task was created, the first
            `int(t / task_assignment_timeout) + 1` targets may take it, and the others of the list wait.
        task_assignment_timeout: In seconds; 0: only the first target may take it, for ever.
    """

    def __init__(self, task: Task, send_order: SendOrder, task_assignment_timeout: int) -> None:
        super().__init__()
        self.send_order = send_order
        self.task_assignment_timeout = task_assignment_timeout

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        """SEND to a target whose turn it is, BLOCK for one whose turn will come."""
        task, name = client_task.task, client_task.client.name
        if task.client_tasks or not self._is_target(task, name):
            return TaskCheckStatus.NO_BLOCK
        if self.send_order is SendOrder.ANY or task.targets is None:
            return TaskCheckStatus.SEND
        in_window = task.targets.index(name) < self._window(task)
        return TaskCheckStatus.SEND if in_window else TaskCheckStatus.BLOCK

    def candidates(self, task: Task) -> list[str] | None:
        """The targets whose turn it is, until one has it."""
        if task.client_tasks:
            return []
        if self.send_order is SendOrder.ANY or task.targets is None:
            return task.targets
        return task.targets[: self._window(task)]

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        """OK with the first result."""
        if self._tally_of(task).answered_at:
            return True, TaskCompletionStatus.OK
        return False, TaskCompletionStatus.IGNORED

    def next_change(self, task: Task) -> float | None:
        """When the answer came, or when the next target may take the task."""
        answered_at = self._tally_of(task).answered_at
        if answered_at:
            return answered_at[0]
        waits = self.send_order is SendOrder.SEQUENTIAL and self.task_assignment_timeout and not task.client_tasks
        if not waits or self._window(task) >= len(task.targets or ()):
            return None
        return task.create_time + self._window(task) * self.task_assignment_timeout

    def _window(self, task: Task) -> int:
        if not self.task_assignment_timeout:
            return 1
        return whole_periods(self.now() - task.create_time, self.task_assignment_timeout) + 1
