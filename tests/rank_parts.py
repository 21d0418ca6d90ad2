"""What a site runs on several processes, for tests: components that ranks import by this module's name."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.executors.multi_process_executor import MultiProcessExecutor


class Plain(MultiProcessExecutor):
    """Ranks that are started one by one."""

    starts_all_ranks = False

    def __init__(self, *, command: str = "", **options: Any) -> None:  # Any: MultiProcessExecutor's arguments
        super().__init__(**options)
        self._command = command

    def get_multi_process_command(self) -> str:
        return {
            "": "python",
            "sleep": shlex.join([sys.executable, "-c", "import select; select.select([], [], [])"]),
            "fail": shlex.join([sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"]),
        }[self._command]


class Adds(Executor):
    """Adds 1 + 10 * rank to every tensor, reports as each rank does, and makes trouble where told to.

    Args:
        folder: Where marks are left.
        trouble: What happens at the first site.
        rank: In which rank.
        at_round: In which round.
    """

    def __init__(self, folder: str = "", trouble: str = "", rank: int = 1, at_round: int = 0) -> None:
        super().__init__()
        self._folder = folder
        self._trouble = trouble
        self._trouble_rank = rank
        self._at_round = at_round
        self.num_tasks = 0

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        rank, num = fl_ctx.get_prop(FLContextKey.RANK_NUMBER), fl_ctx.get_prop(FLContextKey.NUM_OF_PROCESSES)
        number = shareable.get_header("current_round")
        self.num_tasks += 1
        self.mark(f"{fl_ctx.get_identity_name()}-{task_name}-{number}-rank-{rank}-of-{num}-pid-{os.getpid()}")
        print(f"rank {rank} at work", flush=True)
        troubled = fl_ctx.get_identity_name() == "site-1" and rank == self._trouble_rank and number == self._at_round
        if troubled and not self.marked("made-trouble"):
            self.mark("made-trouble")
            getattr(self, f"_{self._trouble}", lambda signal: None)(abort_signal)
        dxo = from_shareable(shareable)
        for value in dxo.data.values():
            np.add(
                value, np.asarray(1 + 10 * rank, dtype=value.dtype), out=value
            )  # in place: each rank has arrays of its own
        engine = fl_ctx.get_engine()
        engine.get_component("analytic_sender").add_scalar("rank_tasks", self.num_tasks, global_step=number)
        return DXO(DataKind.WEIGHTS, data=dxo.data).to_shareable()

    def state(self) -> dict[str, Any]:  # Any: as the contract has it
        return {"num_tasks": self.num_tasks}

    def restore(self, state: dict[str, Any]) -> None:  # Any: as the contract has it
        self.num_tasks = state["num_tasks"]

    def mark(self, name: str) -> None:
        if self._folder:
            (Path(self._folder) / name).touch()

    def marked(self, name: str) -> bool:
        return (Path(self._folder) / name).exists()

    def _dies(self, abort: Signal) -> None:
        print("the last word", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def _exits(self, abort: Signal) -> None:
        os._exit(7)

    def _raises(self, abort: Signal) -> None:
        raise ValueError("too warm")

    def _waits(self, abort: Signal) -> None:
        select.select([], [], [])

    def _obeys(self, abort: Signal) -> None:
        while not abort.triggered:
            select.select([], [], [], 0.02)
        self.mark("obeyed")

    def _kills_the_worker(self, abort: Signal) -> None:
        parent = os.getppid()  # its guard; then the command's guard; then the worker
        for _ in range(2):
            parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        select.select([], [], [])

    def _loses_its_guard(self, abort: Signal) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        select.select([], [], [], 3)

    def _has_started_others(self, abort: Signal) -> None:
        import subprocess

        for is_apart in (False, True):
            subprocess.Popen(["sleep", "600"], start_new_session=is_apart)
        if os.fork() == 0:
            select.select([], [], [])
        select.select([], [], [])


class Hears(FLComponent):
    """Marks the events that it hears; fires one in return, which the site's own must hear and nobody twice."""

    def __init__(self, folder: str, fires: bool = False) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._fires = fires

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        rank = fl_ctx.get_prop(FLContextKey.RANK_NUMBER, "site")
        by = fl_ctx.get_prop(FLContextKey.FROM_RANK_NUMBER)
        task = fl_ctx.get_prop(FLContextKey.TASK_NAME)
        with (self._folder / f"heard-{fl_ctx.get_identity_name()}-{rank}").open("a") as file:
            file.write(f"{event_type} {task} {by}\n")
        if self._fires and event_type == EventType.BEFORE_TASK_EXECUTION:
            self.fire_event(f"from_rank_{rank}", fl_ctx)


class NoExecutor(FLComponent):
    """An FLComponent that executes nothing."""


class Fails:
    """Cannot be built."""

    def __init__(self) -> None:
        raise RuntimeError("no licence")
