"""Executors, and what goes with them, for runs with worker processes: they travel there as this file."""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import threading
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.wire.blobs import Blob


def wait(seconds: float) -> None:
    """The system's own wait, which no signal of Hansa's ends."""
    select.select([], [], [], seconds)


def first_time(folder: str, fl_ctx: FLContext) -> bool:
    """Whether this task is tried for the first time; by files, since processes end."""
    name = str(fl_ctx.get_prop(FLContextKey.TASK_ID)).replace("/", "_")
    try:
        os.close(os.open(Path(folder, f"{fl_ctx.get_identity_name()}-{name}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def message(**values: Any) -> Shareable:
    made = Shareable()
    made.update(values)
    return made


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Noisy(Executor):
    """Trains by noise whose sum depends on the order of its terms.

    Args:
        shuffle: Up to how many seconds a task takes; it differs from run to run.
        folder: Where it is marked that a task was tried; with it, processes die.
        kills: The sites whose every task kills its process when it is tried for the first time; None for all of them.
    """

    def __init__(self, shuffle: float = 0.0, folder: str = "", kills: Sequence[str] | None = None) -> None:
        super().__init__()
        self.shuffle = shuffle
        self.folder = folder
        self.kills = kills

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        wait(self.shuffle * int.from_bytes(os.urandom(2), "little") / 65536)
        trained = {name: self.step(name, value) for name, value in received.items()}
        mine = self.kills is None or fl_ctx.get_identity_name() in self.kills
        if self.folder and mine and first_time(self.folder, fl_ctx):
            die()  # after the step, so that what was learnt in it must be forgotten
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: random.randint(1, 9)}
        return DXO(DataKind.WEIGHTS, trained, meta).to_shareable()

    def step(self, name: str, value: Any) -> Any:
        noise = np.random.normal(size=np.shape(value)) * 10.0 ** np.random.randint(-6, 6)
        return (value * np.float32(0.9) + noise).astype(np.float32)


class Momentum(Noisy):
    """The same with a memory: each step goes on in the direction of the ones before."""

    def __init__(self, shuffle: float = 0.0, folder: str = "", kills: Sequence[str] | None = None) -> None:
        super().__init__(shuffle, folder, kills)
        self.velocity: dict[str, Any] = {}

    def step(self, name: str, value: Any) -> Any:
        self.velocity[name] = np.float32(0.9) * self.velocity.get(name, np.float32(0)) + super().step(name, value)
        return self.velocity[name]

    def state(self) -> Mapping[str, Any]:
        return {"velocity": self.velocity}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.velocity = dict(state["velocity"])


class NoisySometimes(Noisy):
    """Fails in about one of three tasks, always the same ones."""

    def step(self, name: str, value: Any) -> Any:
        if np.random.random() < 0.2:  # once for each of the two tensors
            raise ValueError("no luck")
        return super().step(name, value)


class Sorted(Aggregator):
    """A rule of one's own, which looks at the single results."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Any] = {}

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        self.results[fl_ctx.get_peer_context().get_identity_name()] = from_shareable(shareable).data
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        results = [self.results[site] for site in sorted(self.results)]
        self.results = {}
        mean = {name: sum(result[name] for result in results) / np.float32(len(results)) for name in results[0]}
        return DXO(DataKind.WEIGHTS, mean).to_shareable()


class CountsTasks(Executor):
    """The model becomes how many tasks this executor has had.

    Args:
        folder: Where it is marked that a task was tried; with it, the process dies of each task once.
        keeps: Whether it tells its state.
    """

    def __init__(self, folder: str = "", keeps: bool = True) -> None:
        super().__init__()
        self.folder = folder
        self.tasks = 0
        if keeps:
            self.state = lambda: {"tasks": self.tasks}
            self.restore = self.take_up

    def take_up(self, state: Mapping[str, Any]) -> None:
        self.tasks = state["tasks"]

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        self.tasks += 1
        if self.folder and first_time(self.folder, fl_ctx):
            die()
        for value in from_shareable(shareable).data.values():
            value[...] = self.tasks
        return shareable


class Adds(Executor):
    """Adds 1; what else it does at its first site is said in one word."""

    def __init__(self, trouble: str = "", site: str = "site-1", folder: str = "") -> None:
        super().__init__()
        self.trouble = trouble
        self.site = site
        self.folder = folder

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        for value in from_shareable(shareable).data.values():
            np.add(value, 1, out=value)
        if self.trouble and self.site in ("", fl_ctx.get_identity_name()):
            getattr(self, self.trouble)(fl_ctx)
        return shareable

    def leaves(self, fl_ctx: FLContext) -> None:
        os._exit(0)

    def leaves_badly(self, fl_ctx: FLContext) -> None:
        os.write(2, b"cannot allocate memory\n")
        os._exit(3)

    def kills(self, fl_ctx: FLContext) -> None:
        die()

    def takes_a_while(self, fl_ctx: FLContext) -> None:
        wait(0.6)

    def exits(self, fl_ctx: FLContext) -> None:
        raise SystemExit(3)

    def forks(self, fl_ctx: FLContext) -> None:
        os.fork()  # and both of them come back

    def forks_and_dies(self, fl_ctx: FLContext) -> None:
        if first_time(self.folder, fl_ctx):
            if os.fork() == 0:
                wait(300)
                os._exit(0)
            die()

    def forks_and_waits(self, fl_ctx: FLContext) -> None:
        if os.fork() == 0:
            wait(300)
            os._exit(0)
        self.waits(fl_ctx)

    def waits(self, fl_ctx: FLContext) -> None:
        print(f"{fl_ctx.get_identity_name()} works", flush=True)
        Path(self.folder, fl_ctx.get_identity_name()).touch()
        wait(300)

    def computes(self, fl_ctx: FLContext) -> None:
        Path(self.folder, fl_ctx.get_identity_name()).touch()
        while True:
            pass

    def waits_for_abort(self, fl_ctx: FLContext) -> None:
        Path(self.folder, fl_ctx.get_identity_name()).touch()
        signal = fl_ctx.get_run_abort_signal()
        while not signal.triggered:
            wait(0.01)

    def prints(self, fl_ctx: FLContext) -> None:
        print(f"{fl_ctx.get_identity_name()} prints")
        self.log_info(fl_ctx, f"{fl_ctx.get_identity_name()} logs")

    def prints_much(self, fl_ctx: FLContext) -> None:
        for _ in range(1024):
            print("x" * 32767)  # 32 MB


class Made(Adds):
    """Leaves a line in a file for each time that one is made."""

    def __init__(self, file: str) -> None:
        super().__init__()
        with open(file, "a") as made:
            made.write(f"{os.getpid()} {id(self)}\n")


class MadeStateless(Made):
    stateless = True


class ReportsStateless(Made):
    """Reports the number of the round."""

    stateless = True

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        number = int(shareable.get_header(AppConstants.CURRENT_ROUND))
        fl_ctx.get_engine().get_component("analytic_sender").add_scalar("round", float(number))
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


class Watches(Adds):
    """Writes down, for each task, what it costs here: copies, whether the model is shared memory, threads."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = Path(file)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        value = from_shareable(shareable).data["w"]
        facts = {
            "process": os.getpid(),
            "round": shareable.get_header(AppConstants.CURRENT_ROUND),
            "copies": sum(each.num_copies for each in gc.get_objects() if type(each) is Blob),
            "is_shared": is_shared(value.__array_interface__["data"][0]),
            "is_writable": value.flags.writeable,
            "threads": sorted(thread.native_id or 0 for thread in threading.enumerate()),
        }
        with self.file.open("a") as file:
            file.write(json.dumps(facts) + "\n")
        return DXO(
            DataKind.WEIGHTS, {name: each + 1 for name, each in from_shareable(shareable).data.items()}
        ).to_shareable()


class WatchesOnly(Watches):
    writes_input = False


def is_shared(address: int) -> bool:
    """Whether an address lies in memory that processes share."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, _, end = line.partition(" ")[0].partition("-")
        if int(begin, 16) <= address < int(end, 16):
            return "memfd:hansa" in line
    return False


class RoundsDone(FLComponent):
    """The server's: writes down after each round how many threads there are, and how much memory is in use."""

    hears = frozenset((AppEventType.ROUND_DONE,))

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = Path(file)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.ROUND_DONE:
            gc.collect()
            facts = {"threads": sorted(thread.native_id or 0 for thread in threading.enumerate())}
            facts["memory"] = tracemalloc.get_traced_memory()[0]
            with self.file.open("a") as file:
                file.write(json.dumps(facts) + "\n")


class EndsEarly(Adds):
    """Ends its process at one moment of its life."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when
        if when == "ends_when_built":
            os._exit(4)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if (self.when, event_type) in {("ends_at_start", EventType.START_RUN), ("ends_at_end", EventType.END_RUN)}:
            os._exit(4)


class Talks(Executor):
    """Asks the server for a number, which it adds, and reports the number.

    Args:
        asks_back: Whether it asks the server while that waits for an answer.
        dies_asked: Whether it ends its process when it is asked.
    """

    def __init__(self, asks_back: bool = False, dies_asked: bool = False) -> None:
        super().__init__()
        self.asks_back = asks_back
        self.dies_asked = dies_asked

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            fl_ctx.get_engine().register_aux_message_handler("name", self.name)

    def name(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        if self.dies_asked:
            os._exit(0)
        if self.asks_back:
            fl_ctx.get_engine().send_aux_request("number", message(array=np.arange(3)), 5.0, fl_ctx)
        return message(name=fl_ctx.get_identity_name(), twice=request["array"] * 2)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        engine = fl_ctx.get_engine()
        reply = engine.send_aux_request("number", message(array=np.arange(3)), 5.0, fl_ctx)
        engine.get_component("analytic_sender").add_scalar("number", float(reply["number"]))
        for value in from_shareable(shareable).data.values():
            np.add(value, reply["number"], out=value)
        return shareable


class Answers(FLComponent):
    """The server's: tells each site a number, and asks all for their names after each round.

    Args:
        file: Where the names go.
    """

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = Path(file)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        engine = fl_ctx.get_engine()
        if event_type == EventType.START_RUN:
            engine.register_aux_message_handler("number", self.number)
        elif event_type == AppEventType.ROUND_DONE:
            replies = engine.send_aux_request(None, "name", message(array=np.arange(4)), 5.0, fl_ctx)
            with self.file.open("a") as file:
                for site, reply in replies.items():
                    said = f"is {reply['name']} {reply['twice'].tolist()}" if "name" in reply else "says nothing"
                    file.write(f"{site} {said}\n")

    def number(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        peer = fl_ctx.get_peer_context()
        return message(number=len(peer.get_identity_name()) + int(request["array"].sum()))
