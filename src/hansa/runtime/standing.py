"""What the server keeps for each standing task: one encoder, and a guard on its arrays."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from hansa.apis.controller_spec import Task
from hansa.apis.dxo import DXO
from hansa.apis.responder import Responder
from hansa.wire.codec import Encoder


class StandingTasks:
    """One encoder per standing task, so that its body is encoded once whatever the number of sites.

    The encoder knows tensors by identity. So while a task stands its NumPy arrays are read-only: whoever writes into
    one gets NumPy's error there and then, instead of sites that silently get different models. Callbacks and filters
    that want other values replace the array.
    """

    def __init__(self) -> None:
        self._standing: list[_Standing] = []

    def encoder_for(self, responder: Responder, task_id: str) -> Encoder:
        """The encoder of the task that a client task belongs to."""
        find = getattr(responder, "task_of", None)
        task = find(task_id) if find is not None else None
        if not isinstance(task, Task):
            return Encoder()
        for entry in self._standing:
            if entry.task is task:
                return entry.encoder
        self._standing.append(_Standing(task))
        return self._standing[-1].encoder

    def release_finished(self) -> None:
        """Let go of the tensors of tasks that are over; their arrays may be written again."""
        if any(entry.task.completion_status is not None for entry in self._standing):
            over = [entry for entry in self._standing if entry.task.completion_status is not None]
            self._standing = [entry for entry in self._standing if entry.task.completion_status is None]
            for entry in over:
                entry.release()


class _Standing:
    __slots__ = ("_guarded", "encoder", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.encoder = Encoder()
        self._guarded: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = []
        self._guard(task.data)

    def release(self) -> None:
        for _ in range(2):  # a view can only be freed after the array that it looks into
            for array in self._guarded:
                with suppress(ValueError):
                    array.flags.writeable = True

    def _guard(self, value: object) -> None:
        if isinstance(value, np.ndarray):
            if value.flags.writeable:
                value.flags.writeable = False
                self._guarded.append(value)
        elif isinstance(value, DXO):
            self._guard(value.data)
        elif isinstance(value, dict):
            for item in value.values():
                self._guard(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self._guard(item)
