"""Tasks that wait for room on a device: one at a time per worker, as the packing policy allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from hansa.runtime.assignments import Assignment
from hansa.runtime.packing import Decision, FailTask, MemoryRanOut, Packing, StartTask, TaskEnded, TaskReady, WorkerLost


@dataclass(frozen=True, slots=True)
class Send:
    """A worker gets a task."""

    worker: int
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Fail:
    """A task cannot be done: it does not fit on its device."""

    assignment: Assignment
    cause: str


Action = Send | Fail


class TaskQueue:
    """What each worker has still to do, where workers share devices.

    Args:
        packing: Decides who may start.
    """

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._waiting: dict[int, deque[Assignment]] = {}  # the first of each is asked for, or under way
        self._asked: set[int] = set()

    @property
    def is_empty(self) -> bool:
        """Whether everything is done."""
        return not any(self._waiting.values())

    def add(self, worker: int, assignment: Assignment) -> None:
        """A task for a worker."""
        self._waiting.setdefault(worker, deque()).append(assignment)

    def begin(self) -> list[Action]:
        """All workers are free."""
        return [action for worker in sorted(self._waiting) for action in self._ask(worker)]

    def ended(self, worker: int, used_bytes: int | None) -> list[Action]:
        """A worker's task is over."""
        self._drop(worker)
        return [*self._do(self._packing.handle(TaskEnded(worker, used_bytes))), *self._ask(worker)]

    def ran_out(self, worker: int) -> list[Action]:
        """A worker's task ran out of memory; it is tried again when there is room."""
        return self._do(self._packing.handle(MemoryRanOut(worker)))

    def lost(self, worker: int, *, is_over: bool) -> list[Action]:
        """A worker's process died; its task is over, or is tried again in the process that took its place."""
        if is_over:
            self._drop(worker)
        was_asked = worker in self._asked
        self._asked.discard(worker)
        actions = self._do(self._packing.handle(WorkerLost(worker))) if was_asked or is_over else []
        return [*actions, *self._ask(worker)]

    def clear(self) -> None:
        """Nothing more is to be done."""
        self._waiting.clear()
        self._asked.clear()

    def _drop(self, worker: int) -> None:
        self._waiting[worker].popleft()
        self._asked.discard(worker)

    def _ask(self, worker: int) -> list[Action]:
        if worker in self._asked or not self._waiting.get(worker):
            return []
        self._asked.add(worker)
        return self._do(self._packing.handle(TaskReady(worker, self._waiting[worker][0].body.name)))

    def _do(self, decisions: Iterable[Decision]) -> list[Action]:
        actions: list[Action] = []
        for decision in decisions:
            match decision:
                case StartTask(worker):
                    actions.append(Send(worker, self._waiting[worker][0]))
                case FailTask(worker, cause):
                    actions.append(Fail(self._waiting[worker][0], cause))
                    self._drop(worker)
                    actions += self._ask(worker)
        return actions
