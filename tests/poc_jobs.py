"""What runs at sites that are processes of their own: it travels there as this file, and does what files there say.

A site's working directory is its kit. A test puts there

- `started`, a FIFO: each part writes its process's number to it at START_RUN;
- `began`, a FIFO: each task writes its process's number to it when it begins;
- `gate`, a FIFO: each task waits there for a byte, and hears nothing else meanwhile;
- `count`, a file: each task adds a line with its id when it begins;
- `hold`, a file: tasks last until they are told to stop, and then stop.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.client import Client
from hansa.apis.controller import Controller, Task
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.faults.sample_job import ScaffoldSite

STARTED, BEGAN, GATE, HOLD, COUNT = "started", "began", "gate", "hold", "count"


def say_in(name: str) -> None:
    if Path(name).exists():
        with Path(name).open("w") as fifo:
            fifo.write(f"{os.getpid()}\n")


def count_task(fl_ctx: FLContext) -> None:
    if Path(COUNT).exists():
        with Path(COUNT).open("a") as stream:
            stream.write(f"{fl_ctx.get_prop(FLContextKey.TASK_ID)}\n")


class Trains(Executor):
    """Adds what the site draws, with a momentum that it keeps from round to round."""

    def __init__(self) -> None:
        super().__init__()
        self._momentum: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        return dict(self._momentum)

    def restore(self, state: dict[str, Any]) -> None:
        self._momentum = dict(state)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            say_in(STARTED)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        say_in(BEGAN)
        count_task(fl_ctx)
        if Path(GATE).exists():
            with Path(GATE).open("rb", buffering=0) as fifo:
                fifo.read(1)
        if Path(HOLD).exists():
            stopped = threading.Event()
            abort_signal.subscribe(stopped.set)
            stopped.wait()
            return make_reply(ReturnCode.TASK_ABORTED)
        change = {}
        for name, value in from_shareable(shareable).data.items():
            drawn = np.random.normal(size=np.shape(value)).astype(value.dtype) * random.random()
            self._momentum[name] = drawn + self._momentum.get(name, 0) * value.dtype.type(0.9)
            change[name] = np.asarray(self._momentum[name])
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: 3}).to_shareable()


class CountsScaffold(ScaffoldSite):
    """SCAFFOLD's control variate and a momentum; tells how often a task was run."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        count_task(fl_ctx)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


class Draws(Trains):
    """The same without a momentum: what it sends depends on nothing but its task."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        self._momentum.clear()
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


class SaysWhereItIs(FLComponent):
    """On the server: tells the test which process has the job."""

    hears = frozenset((EventType.START_RUN,))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            say_in(STARTED)


class Fills(FLComponent):
    """Writes megabytes into the job's own folder at one participant, once a task has begun there or a round is done."""

    hears = frozenset((EventType.BEFORE_TASK_EXECUTION, AppEventType.ROUND_DONE))

    def __init__(self, where: str, megabytes: int = 20, number: int = 1) -> None:
        super().__init__()
        self._where, self._megabytes, self._number = where, megabytes, number

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        here = "server" if event_type == AppEventType.ROUND_DONE else fl_ctx.get_identity_name()
        if event_type not in self.hears or here != self._where:
            return
        self._number -= 1
        if self._number == 0:
            engine = fl_ctx.get_engine()
            run = Path(engine.get_workspace().get_run_dir(fl_ctx.get_prop(FLContextKey.CURRENT_RUN)))
            (run / "scratch.bin").write_bytes(b"x" * self._megabytes * 1_000_000)


class Kills(FLComponent):
    """Ends the job's process on the server whenever that round is aggregated."""

    hears = frozenset((AppEventType.BEFORE_AGGREGATION,))

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type in self.hears and fl_ctx.get_prop(AppConstants.CURRENT_ROUND) == self._number:
            os.kill(os.getpid(), signal.SIGKILL)


class Sums(Controller):
    """A workflow that commits nothing: it asks all sites three times, and starts from their sum each time."""

    def start_controller(self, fl_ctx: FLContext) -> None:
        pass

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        weights = {"w": np.zeros(4)}
        for _ in range(3):
            task = Task("train", DXO(DataKind.WEIGHTS, dict(weights)).to_shareable())
            self.broadcast_and_wait(task, fl_ctx, abort_signal=abort_signal)
            answers = {part.client.name: from_shareable(part.result).data["w"] for part in task.client_tasks}
            weights = {"w": sum(answers[name] for name in sorted(answers)) + weights["w"]}
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(weights, {}), private=True, sticky=True)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        pass

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        pass


class Evaluates(Trains):
    """Gives a model of its site's number, and measures what it gets by its mean."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if task_name == AppConstants.TASK_TRAIN:
            return super().execute(task_name, shareable, fl_ctx, abort_signal)
        say_in(BEGAN)
        count_task(fl_ctx)
        if Path(GATE).exists():
            with Path(GATE).open("rb", buffering=0) as fifo:
                fifo.read(1)
        number = float(fl_ctx.get_identity_name().rpartition("-")[2])
        if task_name in (AppConstants.TASK_SUBMIT_MODEL, AppConstants.TASK_GET_WEIGHTS):
            return DXO(DataKind.WEIGHTS, {"w": np.full(5, number, np.float32)}).to_shareable()
        mean = float(np.mean([np.mean(value) for value in from_shareable(shareable).data.values()]))
        return DXO(DataKind.METRICS, {"mean": mean * number}).to_shareable()
