"""Jobs over the executors of `worker_parts`, for runs with worker processes."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

import hansa
import worker_parts
from hansa.jobs import Component, Job, fed_avg
from hansa.runtime.run import Run

MODEL = {"w": np.linspace(-1, 1, 33, dtype=np.float32).reshape(3, 11), "b": np.float32(0.5)}


BIG = {"w": np.zeros((100, 1000), np.float32), "v": np.ones(30_000)}
"""Too big for a frame: it travels in memory that processes share."""


def job(
    part: type,
    *,
    rounds: int = 3,
    model: dict[str, Any] = MODEL,
    flow: dict[str, Any] | None = None,
    min_sites: int | None = None,
    **arguments: Any,
) -> Job:
    """FedAvg with an executor of `worker_parts`; `flow` are arguments of the workflow itself."""
    made = fed_avg(model, executor=Component(part, **arguments), rounds=rounds, min_sites=min_sites)
    made.apps["app"].server["workflows"][0]["args"].update(flow or {})
    return made


def adding(trouble: str, *, rounds: int = 1, **options: Any) -> Job:
    """FedAvg whose sites add 1, and one of them does something else, too."""
    return job(worker_parts.Adds, rounds=rounds, trouble=trouble, **options)


def simulate(made: Job, sites: int, workers: int, home: Path, **options: Any) -> Run:
    return hansa.simulate(made, sites, workers=workers, home=home, progress=False, **options)


def digest(run: Run) -> str:
    return hashlib.sha256((run.folder / "model.safetensors").read_bytes()).hexdigest()


def log_of(run: Run, site: str) -> str:
    return (run.folder / "workspace" / site / "log.txt").read_text()


def workers_of(folder: Path) -> dict[int, str]:
    """The processes of runs below a folder, forked ones too: pid and the address that they connected to."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile
            continue
        if b"hansa.runtime.worker" in words and any(word.startswith(os.fsencode(folder)) for word in words):
            found[int(entry.name)] = words[-4].decode()
    return found


@contextmanager
def rescued(folder: Path, seconds: float) -> Iterator[None]:
    """Around a run that might never end: after a while its processes are ended, and the test fails."""
    done = threading.Event()
    killed: list[int] = []

    def rescue() -> None:
        limit = seconds
        while not done.wait(limit):
            limit = 0.5
            for pid in workers_of(folder):
                killed.append(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=rescue)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not killed, f"the run did not end within {seconds} s"
