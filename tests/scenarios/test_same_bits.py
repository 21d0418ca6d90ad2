"""The same job, sites and seed give the same bits; nobody else's generators notice."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.jobs import Job
from hansa.runtime.run import Run
from scenarios.federations import (
    Adds,
    Flow,
    ask,
    averaging,
    executor,
    flow,
    make_job,
    simulate,
)


class Draws(Adds):
    """Noise from all global generators."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        noise = {name: np.random.normal(size=np.shape(value)) + random.random() for name, value in received.items()}
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: random.randint(1, 9)}
        return DXO(DataKind.WEIGHTS, {n: np.float32(noise[n]) for n in noise}, meta).to_shareable()


def digest(run: Run) -> str:
    return hashlib.sha256((run.folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    bits = [digest(simulate(averaging(Draws, rounds=3), 5, home=tmp_path, seed=seed)) for seed in (7, 7, 8)]
    assert bits[0] == bits[1]
    assert bits[0] != bits[2]


def test_sites_and_rounds_draw_different_numbers(tmp_path: Path) -> None:
    drawn: list[float] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        drawn.append(random.random())
        return data

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for _ in range(3):
            ask(controller, ctx)

    simulate(make_job([flow(rounds)], executor(work)), 4, home=tmp_path)
    assert len(set(drawn)) == 12


def test_what_the_server_draws_does_not_depend_on_how_many_sites_share_its_process(tmp_path: Path) -> None:
    def drawn_with(num_sites: int) -> list[float]:
        drawn: list[float] = []

        def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
            for _ in range(20):
                ask(controller, ctx)
                drawn.append(random.random())  # as soon as the last result is there
                drawn.append(float(np.random.random()))

        def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            random.random(), np.random.random()
            return data

        simulate(make_job([flow(rounds)], executor(work)), num_sites, home=tmp_path)
        return drawn

    one = drawn_with(1)
    assert len(set(one)) == 40
    assert drawn_with(1) == one
    assert drawn_with(3) == one


def test_the_callers_generators_stay_as_they_were(tmp_path: Path) -> None:
    before = random.getstate(), repr(np.random.get_state(legacy=False))
    simulate(averaging(Draws), 2, home=tmp_path)
    assert (random.getstate(), repr(np.random.get_state(legacy=False))) == before


def test_a_job_from_a_folder_gives_the_same_bits(tmp_path: Path) -> None:
    job = averaging(Draws, rounds=2)
    direct = simulate(job, 3, home=tmp_path / "runs", seed=3)
    job.save(tmp_path / "job")
    saved = simulate(Job.load(tmp_path / "job"), 3, home=tmp_path / "runs", seed=3)
    assert digest(saved) == digest(direct)
