"""Which worker gets which device, and how many tasks run on one at a time.

Events in, decisions out: no process, no device and no clock is touched here, so every case can be tested as numbers.

A worker keeps its device for life. A task of a name that is new to a device runs alone there first; what it needed
is remembered, and from then on tasks run side by side as far as their needs fit. Where no needs are known, as many
run as there are workers. When memory runs out all the same, the task that lost is tried again with half as many
neighbours, then with a quarter, at last alone; if it fails alone, it does not fit. Meanwhile everybody on that device
is held to that number, which grows again by one after a while of peace, and each time it fails the while is twice as
long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hansa.errors import ConfigError
from hansa.runtime.devices import VISIBLE, Device

HEADROOM = 0.1
"""Part of a device that stays free: fragments, and what idle workers hold."""
FIRST_PEACE = 8
"""Tasks in a row that must go well before one more may run side by side."""
LONGEST_PEACE = 512


# -- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskReady:
    """A worker could start a task now; it has no other.

    Attributes:
        worker: The worker's number.
        task: The task's name: tasks of one name need about as much memory.
    """

    worker: int
    task: str


@dataclass(frozen=True)
class TaskEnded:
    """A worker's task is over, well or with an error of its own.

    Attributes:
        worker: The worker's number.
        used_bytes: The most device memory that its process held meanwhile; None if unknown.
    """

    worker: int
    used_bytes: int | None = None


@dataclass(frozen=True)
class MemoryRanOut:
    """A worker's task failed for lack of device memory, and the worker has given back what it held."""

    worker: int


@dataclass(frozen=True)
class WorkerLost:
    """A worker's process died, or left its task; its device memory is free."""

    worker: int


Event = TaskReady | TaskEnded | MemoryRanOut | WorkerLost

# -- decisions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StartTask:
    """The worker starts its task; after `MemoryRanOut`: once more, from the state before it."""

    worker: int


@dataclass(frozen=True)
class FailTask:
    """The worker's task ran out of memory although it was alone on its device: it is an error of the task."""

    worker: int
    cause: str


Decision = StartTask | FailTask

# -- the policy -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackingLimits:
    """What a job or a user fixes.

    Attributes:
        most_per_device: At most as many tasks at a time on one device; None: as many as fit.
        need_bytes: What a task is expected to need, before one was seen; None: the first runs alone.
    """

    most_per_device: int | None = None
    need_bytes: int | None = None

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"must be an integer >= 1, not {value!r}", key=key)


class Packing:
    """The policy for the workers of one run.

    Args:
        devices: What is there, as seen before the workers start; what is free then is shared out.
        num_workers: They are numbered from 0.
        limits: What is fixed.
    """

    def __init__(self, devices: Iterable[Device], num_workers: int, *, limits: PackingLimits | None = None) -> None:
        limits = limits or PackingLimits()
        found = list(devices)
        self._device_of = {worker: device.id for worker, device in enumerate(spread(found, num_workers))}
        self._lanes: dict[str, _Lane] = {}
        for device in found:
            num_here = sum(1 for chosen in self._device_of.values() if chosen == device.id)
            usable = None if device.free_bytes is None else int(device.free_bytes * (1 - HEADROOM))
            most = min(limits.most_per_device or num_here, num_here)
            self._lanes[device.id] = _Lane(device.id, usable, most, expected=limits.need_bytes)

    def environment(self, worker: int) -> Mapping[str, str]:
        """What a worker's process gets beside its parent's environment; nothing where there is no device."""
        return {VISIBLE: self._device_of[worker]} if worker in self._device_of else {}

    def device(self, worker: int) -> str | None:
        """The id of a worker's device; None where there is none."""
        return self._device_of.get(worker)

    def handle(self, event: Event) -> list[Decision]:
        """Take note of what happened.

        Returns:
            What is to be done now, in this order. A worker that wants to start hears `StartTask` at once or from a
            later call.

        Raises:
            ValueError: The event cannot be: a worker starts a second task, or ends one that does not run.
        """
        device = self._device_of.get(event.worker)
        if device is None:  # nothing to share
            if isinstance(event, TaskReady):
                return [StartTask(event.worker)]
            if isinstance(event, MemoryRanOut):
                return [FailTask(event.worker, "out of device memory, on a device that this run does not share out")]
            return []
        return self._lanes[device].handle(event)


def spread(devices: list[Device], num_workers: int) -> list[Device]:
    """A device for each worker: each time where most free memory per worker is left; of equals, the first."""
    num_here = {device.id: 0 for device in devices}
    chosen = []
    for _ in range(num_workers if devices else 0):
        # Devices that do not tell their memory count as equals of 1 byte.
        best = max(devices, key=lambda device: (device.free_bytes or 1) / (num_here[device.id] + 1))
        num_here[best.id] += 1
        chosen.append(best)
    return chosen


@dataclass
class _Waiting:
    worker: int
    task: str
    most: int
    """It runs only where at most as many run, itself included."""
    crowd: int = 0
    """How many ran at most since it started, itself included."""


@dataclass
class _Lane:
    """One device."""

    id: str
    usable: int | None
    most: int
    expected: int | None
    held_to: int = 0
    """At most as many at a time since memory ran out; `most` if it never did, or all is well again."""
    needs: dict[str, int | None] = field(default_factory=dict)
    """What tasks of a name needed at most; None: one has ended and nobody knows."""
    running: dict[int, _Waiting] = field(default_factory=dict)
    waiting: deque[_Waiting] = field(default_factory=deque)
    peace: int = 0
    peace_needed: int = FIRST_PEACE // 2

    def __post_init__(self) -> None:
        self.held_to = self.most

    def handle(self, event: Event) -> list[Decision]:
        match event:
            case TaskReady():
                self._ready(event)
                return self._starts()
            case TaskEnded():
                self._ended(self._stop(event.worker), event.used_bytes)
                return self._starts()
            case MemoryRanOut():
                return [*self._ran_out(event.worker), *self._starts()]
            case WorkerLost():
                self.running.pop(event.worker, None)
                self.waiting = deque(w for w in self.waiting if w.worker != event.worker)
                return self._starts()

    def _ready(self, event: TaskReady) -> None:
        if event.worker in self.running or any(w.worker == event.worker for w in self.waiting):
            raise ValueError(f"worker {event.worker} has a task already")
        self.waiting.append(_Waiting(event.worker, event.task, self.most))

    def _stop(self, worker: int) -> _Waiting:
        if worker not in self.running:
            raise ValueError(f"worker {worker} runs no task")
        return self.running.pop(worker)

    def _ended(self, part: _Waiting, used_bytes: int | None) -> None:
        known = self.needs.get(part.task)
        seen = [n for n in (known, used_bytes) if n is not None]
        self.needs[part.task] = max(seen, default=None)
        self.peace += 1
        if self.held_to < self.most and self.peace >= self.peace_needed:
            self.held_to += 1
            self.peace = 0

    def _ran_out(self, worker: int) -> list[Decision]:
        part = self._stop(worker)
        self.peace = 0
        if part.crowd == 1:
            return [FailTask(worker, f"out of memory on {self.id} though it ran alone there; it does not fit")]
        part.most = part.crowd // 2
        self.waiting.appendleft(part)  # before all others: nobody new starts until it may
        if part.most < self.held_to:  # once for all of a crowd that fail together
            self.held_to = part.most
            self.peace_needed = min(2 * self.peace_needed, LONGEST_PEACE)
        return []

    def _starts(self) -> list[Decision]:
        started: list[Decision] = []
        while self.waiting and self._fits(self.waiting[0]):  # in their order, so that nobody waits for ever
            part = self.waiting.popleft()
            self.running[part.worker] = part
            part.crowd = 0
            for one in self.running.values():
                one.crowd = max(one.crowd, len(self.running))
            started.append(StartTask(part.worker))
        return started

    def _fits(self, part: _Waiting) -> bool:
        if not self.running:
            return True
        num = len(self.running) + 1
        if num > min(self.held_to, part.most, *(other.most for other in self.running.values())):
            return False
        names = [part.task, *(other.task for other in self.running.values())]
        if self.expected is None and any(name not in self.needs for name in names):
            return False  # one of them is seen for the first time, and is watched alone
        needs = [self._need(name) for name in names]
        return self.usable is None or sum(needs) <= self.usable

    def _need(self, task: str) -> int:
        known = self.needs.get(task)
        return (self.expected or 0) if known is None else known
