"""What the sites and the server of the federation's benchmarks do; it travels with the jobs as this file."""

from __future__ import annotations

import json
import os
import select
import time
from pathlib import Path

from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


def mark(folder: str, what: str) -> None:
    """Write down that something happens now, on the clock that all processes of a machine share."""
    line = f"{what} {time.monotonic()!r}\n".encode()
    file = os.open(Path(folder, f"marks-{os.getpid()}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line)
    os.close(file)


def marks(folder: Path, what: str) -> list[float]:
    """When something happened, in order."""
    lines = [line.split() for file in folder.glob("marks-*") for line in file.read_text().splitlines()]
    return sorted(float(when) for name, when in lines if name == what)


class AddOne(Executor):
    """Answers weights + 1 in new arrays, and keeps nothing.

    Args:
        folder: Where it marks a task's begin and end; empty: nowhere.
    """

    writes_input = False

    def __init__(self, folder: str = "") -> None:
        super().__init__()
        self._folder = folder

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if self._folder:
            mark(self._folder, "begin")
        data = {name: value + 1 for name, value in from_shareable(shareable).data.items()}
        result = DXO(DataKind.WEIGHTS, data, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()
        if self._folder:
            mark(self._folder, "end")
        return result


class Forever(Executor):
    """Never ends by itself.

    Args:
        folder: Where it marks its begin.
        watches: Whether it looks at the signal, ten times a second.
    """

    def __init__(self, folder: str, watches: bool) -> None:
        super().__init__()
        self._folder = folder
        self._watches = watches

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        mark(self._folder, "begin")
        while not (self._watches and abort_signal.triggered):
            select.select([], [], [], 0.1)
        return shareable


class Ticks(FLComponent):
    """Writes down when the rounds start, all at the end; stands on the server.

    Args:
        file: Where.
    """

    reads_tensors = False

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = file
        self._starts: list[float] = []

    @property
    def hears(self) -> frozenset[str]:
        return frozenset((AppEventType.ROUND_STARTED, EventType.END_RUN))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.ROUND_STARTED:
            self._starts.append(time.monotonic())
        elif event_type == EventType.END_RUN:
            Path(self._file).write_text(json.dumps(self._starts), encoding="utf-8")
