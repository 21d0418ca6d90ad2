"""Jobs over the executors of `worker_parts`, for runs with worker processes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

import hansa
import worker_parts
from hansa.jobs import Component, Job, fed_avg
from hansa.runtime.run import Run

MODEL = {"w": np.linspace(-1, 1, 33, dtype=np.float32).reshape(3, 11), "b": np.float32(0.5)}


def job(
    part: type, *, rounds: int = 3, min_sites: int | None = None, flow: dict[str, Any] | None = None, **arguments: Any
) -> Job:
    """FedAvg with an executor of `worker_parts`; `flow` are arguments of the workflow itself."""
    made = fed_avg(MODEL, executor=Component(part, **arguments), rounds=rounds, min_sites=min_sites)
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
