"""What the server keeps for each standing task: one encoder, its latest body, and a guard on its arrays."""

from __future__ import annotations

import threading
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
from hansa.wire.blobs import Sink
from hansa.wire.codec import Encoder, Message

Pack = Callable[[Encoder], Message]
"""Makes the message of a task that is not encoded yet."""

OpenSink = Callable[[], tuple[Sink, Callable[[], None]]]
"""Gives the place where the bodies of one task are written, and what clears it when the task is over."""


class StandingTasks:
    """One encoder per standing task, so that its body is encoded once whatever the number of sites.

    The encoder knows tensors by identity. So while a task stands its NumPy arrays are read-only: whoever writes into
    one gets NumPy's error there and then, instead of sites that silently get different models. Callbacks and filters
    that want other values replace the array.

    Any thread: a workflow that goes on lets go of what is over while the dispatcher hands out what is next.

    Args:
        open_sink: Where bodies are written.
    """

    def __init__(self, open_sink: OpenSink) -> None:
        self._open_sink = open_sink
        self._standing: list[Standing] = []
        self._lock = threading.Lock()

    def of(self, responder: Responder, task_id: str) -> Standing:
        """What is kept of the task that a client task belongs to; something new where nobody knows the task."""
        find = getattr(responder, "task_of", None)
        task = find(task_id) if find is not None else None
        if not isinstance(task, Task):
            return self._new(None)
        with self._lock:
            for entry in self._standing:
                if entry.task is task:
                    return entry
            entry = self._new(task)
            self._standing.append(entry)
        return entry

    def _new(self, task: Task | None) -> Standing:
        sink, clear = self._open_sink()
        return Standing(task, sink, clear=clear)

    def release_finished(self) -> None:
        """Let go of the tensors of tasks that are over; their arrays may be written again."""
        with self._lock:
            over = [entry for entry in self._standing if entry.is_over]
            for entry in over:
                self._standing.remove(entry)
                entry.release()


class Standing:
    """One task that stands.

    Args:
        task: The task; None for one that nobody knows.
        sink: Where its messages' blobs go.
        clear: Called when it is over.
    """

    __slots__ = ("_body", "_clear", "_guarded", "_props", "_seen", "encoder", "plan", "task")

    def __init__(self, task: Task | None, sink: Sink, *, clear: Callable[[], None]) -> None:
        self.task = task
        self.encoder = Encoder(sink=sink)
        self._clear = clear
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
        """Arrays may be written again, and nobody asks for its blobs any more."""
        self._clear()
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
