"""How a task decides: who may take it, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from hansa.apis.clock import process_clock
from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class TaskCheckStatus(Enum):
    """The answer to a site that asks for a task."""

    SEND = 1
    """Hand it out."""
    BLOCK = 2
    """Make the site wait: nothing from this task, nor from a later one."""
    NO_BLOCK = 3
    """Nothing from this task; look at later ones."""


@dataclass
class Tally:
    """Hand-outs and answers of a task, counted as they happen, so that nobody has to look through them."""

    given: int = 0
    answered_at: list[float] = field(default_factory=list)
    """When the answers came, in seconds, in their order."""

    @property
    def num_outstanding(self) -> int:
        """Hand-outs without an answer."""
        return self.given - len(self.answered_at)

    @classmethod
    def of(cls, task: Task) -> Tally:
        """Count from the task's own lists, for a task that stands on no board."""
        times = [part.result_received_time for part in task.client_tasks if part.result_received_time is not None]
        return cls(len(task.client_tasks), sorted(times))


def foresees(kind: type, method: str, *, foresight: str) -> bool:
    """Whether a class's `foresight` is about its own `method`: no subclass has replaced that one alone."""
    for cls in kind.__mro__:
        if foresight in vars(cls):
            return True
        if method in vars(cls):
            return False
    return False


def whole_periods(elapsed_s: float, period_s: float) -> int:
    """How many whole periods have gone by; a microsecond short of one counts as one, against rounding."""
    return int((elapsed_s + 1e-6) / period_s)


class TaskManager:
    """Decides for one task. The board sets `now`, `task_check_period` and `tally` when the task is posted.

    A subclass that overrides `check_task_exit` and has no `next_change(task) -> float | None` of its own, the next
    time at which an answer may change without an event, is asked once per check period. One that overrides
    `check_task_send` and has no `candidates(task)` of its own is taken to have something for anybody.
    """

    now: Callable[[], float] = staticmethod(process_clock)
    """Seconds on the clock of the board."""
    task_check_period: float = 0.5
    """How long the board takes its time, in seconds."""
    tally: Tally | None = None
    """The board's count; None without a board."""
    keeps_history = True
    """Whether `task.client_tasks` must keep answered parts that are not a site's latest."""
    holds_back = True
    """Whether an answer of one site may be what another one waits for."""

    _names: frozenset[str] = frozenset()
    _names_from: list[str] | None = None
    _num_names = -1

    def __init__(self) -> None:
        pass

    def check_task_send(self, client_task: ClientTask, fl_ctx: FLContext) -> TaskCheckStatus:
        """Whether a site may have the task now: any target, once.

        Args:
            client_task: The part that the site would get; it is not in `task.client_tasks` yet.
            fl_ctx: The context of the request.
        """
        task, name = client_task.task, client_task.client.name
        if name in task.last_client_task_map or not self._is_target(task, name):
            return TaskCheckStatus.NO_BLOCK
        return TaskCheckStatus.SEND

    def candidates(self, task: Task) -> list[str] | None:
        """Who might be handed the task now if they asked: nobody else would be; None: anybody."""
        if task.targets is None:
            return None
        return [name for name in task.targets if name not in task.last_client_task_map]

    def check_task_exit(self, task: Task) -> tuple[bool, TaskCompletionStatus]:
        """Whether the task is over, and how. Its timeout is not the manager's affair."""
        return False, TaskCompletionStatus.IGNORED

    def check_task_result(self, result: Shareable, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """A result came; a manager may mark it.

        Args:
            result: What the site sent.
            client_task: The part it belongs to; its `result` is not set yet.
            fl_ctx: The context of the submission.
        """

    def _tally_of(self, task: Task) -> Tally:
        return self.tally if self.tally is not None else Tally.of(task)

    def _is_target(self, task: Task, name: str) -> bool:
        targets = task.targets
        if targets is None:
            return True
        # A list of 10,000 names is turned into a set once, not searched for each request.
        if targets is not self._names_from or len(targets) != self._num_names:
            self._names, self._names_from, self._num_names = frozenset(targets), targets, len(targets)
        return name in self._names
