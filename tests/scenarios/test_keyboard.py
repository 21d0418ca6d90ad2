"""Ctrl-C ends a run in one line, wherever it comes in between; its record is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hansa
from hansa.apis.app_event_type import AppEventType
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.jobs import Component
from hansa.runtime.run import Run, RunStatus
from scenarios.federations import Adds, averaging, executor, simulate


@pytest.fixture(autouse=True)
def _as_at_a_keyboard() -> Iterator[None]:
    """A program that was started in the background inherits that interrupts are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupted(*_: Any) -> Shareable:
    raise KeyboardInterrupt


class _Interrupts(FLComponent):
    """The keyboard's interrupt, in the midst of the server's work."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self.event = event

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == self.event:
            signal.raise_signal(signal.SIGINT)


def test_the_keyboard_stops_a_run_and_the_record_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(averaging(executor(_interrupted)), 3, home=tmp_path)
    [folder] = tmp_path.iterdir()
    run = Run.load(folder)
    assert run.status is RunStatus.ABORTED
    assert run.cause == "interrupted from the keyboard"
    assert "hansa-workflows" not in {each.name for each in threading.enumerate()}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "event",
    [
        AppEventType.ROUND_STARTED,  # on the workflow's thread; the dispatcher waits
        AppEventType.BEFORE_TRAIN_TASK,
        AppEventType.BEFORE_CONTRIBUTION_ACCEPT,
        EventType.BEFORE_PROCESS_SUBMISSION,
        EventType.AFTER_TASK_DATA_FILTER,
        EventType.AFTER_TASK_RESULT_FILTER,
    ],
)
def test_the_keyboard_stops_a_run_wherever_the_server_is(tmp_path: Path, event: str, workers: int) -> None:
    job = averaging(Adds, rounds=1000, server_components=[Component(_Interrupts, event=event)])
    with pytest.raises(KeyboardInterrupt):
        hansa.simulate(job, 3, home=tmp_path, workers=workers)
    [folder] = tmp_path.iterdir()
    run = Run.load(folder)
    assert (run.status, run.cause) == (RunStatus.ABORTED, "interrupted from the keyboard")
    assert run.problems == []
    assert "hansa-workflows" not in {each.name for each in threading.enumerate()}
