"""One round of 8 sites and 10 floats, in process and with 2 workers, beside a plain NumPy loop that does the same.

And what a checkpoint after each round costs: a model for digits (64 x 10 weights, 10 biases) whose 8 sites have a
momentum each, with `checkpoint_every=1` and without, in turn.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np

import hansa
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.jobs import fed_avg

NUM_SITES = 8
NUM_ROUNDS = 200
REPEATS = 5
GOALS_MS = {0: 2.0, 2: 3.0}
"""By the number of workers."""
GOAL_CHECKPOINT_MS = 5.0
"""More than without; most of it is waiting for the disk."""


class AddOne(Executor):
    """Answers weights + 1."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        dxo = from_shareable(shareable)
        data = {name: value + 1 for name, value in dxo.data.items()}
        return DXO(DataKind.WEIGHTS, data, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()


class Momentum(Executor):
    """Goes on in the direction of the step before."""

    def __init__(self) -> None:
        super().__init__()
        self.velocity: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """The direction."""
        return dict(self.velocity)

    def restore(self, state: dict[str, Any]) -> None:
        """Take it up again."""
        self.velocity = dict(state)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        dxo = from_shareable(shareable)
        for name, value in dxo.data.items():
            self.velocity[name] = np.float32(0.9) * self.velocity.get(name, np.float32(0)) + np.float32(0.1)
            dxo.data[name] = value + self.velocity[name]
        return DXO(DataKind.WEIGHTS, dxo.data, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()


def bare_round_ms(num_rounds: int) -> float:
    """The same arithmetic without a framework."""
    model = np.zeros(10, np.float32)
    began = time.perf_counter()
    for _ in range(num_rounds):
        total = np.zeros(10, np.float32)
        for _ in range(NUM_SITES):
            total += model + 1
        model = total / NUM_SITES
    return (time.perf_counter() - began) / num_rounds * 1e3


def hansa_run(num_rounds: int, home: str, workers: int) -> hansa.Run:
    """A run of the same in Hansa."""
    job = fed_avg({"w": np.zeros(10, np.float32)}, executor=AddOne, rounds=num_rounds)
    run = hansa.simulate(job, NUM_SITES, workers=workers, home=home, progress=False)
    assert np.array_equal(run.model["w"], np.full(10, num_rounds, np.float32))
    return run


def measure(workers: int, home: str, num_rounds: int) -> dict[str, Any]:
    """Median of runs with so many workers, the bare loop in between."""
    hansa_run(5, home, workers)
    runs, bare = [], []
    for _ in range(REPEATS):
        runs.append(hansa_run(num_rounds, home, workers))
        bare.append(bare_round_ms(num_rounds))
    each = [run.timings.run / num_rounds * 1e3 for run in runs]
    middle = runs[each.index(statistics.median_low(each))]
    where = f"{workers} workers" if workers else "in process"
    return {
        "name": f"round, {NUM_SITES} sites x 10 floats, {where}",
        "ms": statistics.median(each),
        "goal_ms": GOALS_MS[workers],
        "bare_ms": statistics.median(bare),
        "all_ms": each,
        "phases_ms": {name: seconds / num_rounds * 1e3 for name, seconds in middle.timings.phases.items()},
    }


def digits_ms(num_rounds: int, home: str, workers: int, every: int | None) -> float:
    """A round of the model for digits."""
    model = {"weights": np.zeros((64, 10), np.float32), "biases": np.zeros(10, np.float32)}
    job = fed_avg(model, executor=Momentum, rounds=num_rounds)
    run = hansa.simulate(job, NUM_SITES, workers=workers, home=home, progress=False, checkpoint_every=every)
    return run.timings.run / num_rounds * 1e3


def measure_checkpoints(workers: int, home: str, num_rounds: int) -> dict[str, Any]:
    """Median of runs with a checkpoint after each round, those without in between."""
    digits_ms(5, home, workers, 1)
    kept, bare = [], []
    for _ in range(REPEATS):
        kept.append(digits_ms(num_rounds, home, workers, 1))
        bare.append(digits_ms(num_rounds, home, workers, None))
    where = f"{workers} workers" if workers else "in process"
    return {
        "name": f"round, {NUM_SITES} sites x digits with momentum, a checkpoint each, {where}",
        "ms": statistics.median(kept),
        "goal_ms": statistics.median(bare) + GOAL_CHECKPOINT_MS,
        "without_ms": statistics.median(bare),
        "all_ms": kept,
    }


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['name']}: {result['ms']:.2f} ms (goal {result['goal_ms']}; bare loop {result['bare_ms']:.3f} ms; "
        f"median of {REPEATS})"
    )
    for name, spent in sorted(result["phases_ms"].items(), key=lambda item: -item[1]):
        print(f"    {spent:6.3f} ms  {name}")


def main() -> None:
    """Measure and print."""
    num_rounds = 5 if "--quick" in sys.argv else NUM_ROUNDS
    with tempfile.TemporaryDirectory() as home:
        results = [measure(workers, home, num_rounds) for workers in GOALS_MS]
        checkpoints = [measure_checkpoints(workers, home, num_rounds) for workers in GOALS_MS]
    if "--json" in sys.argv:
        print(json.dumps([*results, *checkpoints]))
        return
    for result in results:
        show(result)
    for result in checkpoints:
        print(
            f"{result['name']}: {result['ms']:.2f} ms "
            f"(goal {result['goal_ms']:.2f}; without {result['without_ms']:.2f} ms; median of {REPEATS})"
        )


if __name__ == "__main__":
    main()
