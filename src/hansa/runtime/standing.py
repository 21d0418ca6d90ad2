"""What the server keeps for each standing task: one encoder, its latest body, and a guard on its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from hansa.apis.controller_spec import Task
from hansa.apis.dxo import DXO
from hansa.apis.folding import FoldPlan
from hansa.apis.responder import Responder
from hansa.apis.shareable import Shareable
from hansa.runtime.assignments import TaskBody
from hansa.runtime.filter_chain import copy_structure
from hansa.wire.blobs import Allocate, AllocatingSink
from hansa.wire.codec import Encoder, Message

Pack = Callable[[Encoder], Message]
"""Makes the message of a task that is not encoded yet."""


class StandingTasks:
    """One encoder per standing task, so that its body is encoded once whatever the number of sites.

    The encoder knows tensors by identity. So while a task stands its NumPy arrays are read-only: whoever writes into
    one gets NumPy's error there and then, instead of sites that silently get different models. Callbacks and filters
    that want other values replace the array.

    Args:
        allocate: Where bodies are written.
    """

    def __init__(self, allocate: Allocate) -> None:
        self._sink = AllocatingSink(allocate)
        self._standing: list[Standing] = []

    def of(self, responder: Responder, task_id: str) -> Standing:
        """What is kept of the task that a client task belongs to; something new where nobody knows the task."""
        find = getattr(responder, "task_of", None)
        task = find(task_id) if find is not None else None
        if not isinstance(task, Task):
            return Standing(None, Encoder(sink=self._sink))
        for entry in self._standing:
            if entry.task is task:
                return entry
        self._standing.append(Standing(task, Encoder(sink=self._sink)))
        return self._standing[-1]

    def release_finished(self) -> None:
        """Let go of the tensors of tasks that are over; their arrays may be written again."""
        over = [entry for entry in self._standing if entry.is_over]
        if over:
            self._standing = [entry for entry in self._standing if not entry.is_over]
            for entry in over:
                entry.release()


class Standing:
    """One task that stands.

    Args:
        task: The task; None for one that nobody knows.
        encoder: Makes its messages.
    """

    __slots__ = ("_body", "_guarded", "_props", "_seen", "encoder", "plan", "task")

    def __init__(self, task: Task | None, encoder: Encoder) -> None:
        self.task = task
        self.encoder = encoder
        self.plan: FoldPlan | None = None
        self._guarded: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = []
        self._seen: object = None
        self._props: Mapping[str, Any] = {}  # Any: properties hold any value
        self._body: TaskBody | None = None
        if task is not None:
            self._guard(task.data)

    @property
    def is_over(self) -> bool:
        """Whether nobody gets this task any more."""
        return self.task is not None and self.task.completion_status is not None

    @property
    def timeout_s(self) -> float:
        """How long the task may take; 0 for as long as it likes."""
        return float(self.task.timeout) if self.task is not None else 0.0

    def body_as_before(self, data: Shareable, props: Mapping[str, Any]) -> TaskBody | None:
        """The body made last, if this data and these properties of the server would give the same again."""
        if self._body is None or props != self._props:
            return None
        try:
            return self._body if self._seen == data else None  # arrays are compared by identity
        except (ValueError, RuntimeError):  # other arrays stand where those were, and have no single truth
            return None

    def keep_body(self, body: TaskBody, data: Shareable, *, props: Mapping[str, Any]) -> TaskBody:
        """Remember the body made of this data."""
        self._seen = copy_structure(data, arrays=False)
        self._props = dict(props)
        self._body = body
        return body

    def release(self) -> None:
        """Arrays may be written again."""
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
