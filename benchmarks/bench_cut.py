"""What a cut in a large upload costs: bytes that leave the site, with a cut in the middle and without.

    python benchmarks/bench_cut.py              400 MB
    python benchmarks/bench_cut.py --mb 64

A job of one round at one site behind a TCP proxy; the connections are cut when half of the result is there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from hansa.faults.arena import Arena
from hansa.faults.campaign import Setting, Trial
from hansa.faults.plan import Fault, FaultKind, Plan
from hansa.faults.sample_job import MomentumSite
from hansa.jobs import Component, fed_avg

CUTS = 3
GOAL_MB = 4.0
MB = 1 << 20


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=400, help="the model's size")
    size = parser.parse_args().mb
    model = {"w": np.zeros((size, MB // 4), np.float32)}
    job = fed_avg(model, executor=Component(MomentumSite), rounds=1, params_type="diff", name="cut")
    with tempfile.TemporaryDirectory() as folder, Arena(Path(folder, "arena"), ["site-1"]) as arena:
        proxy = arena.proxies["site-1"]
        trial = Trial(arena, Setting(Path(folder), job=job))
        began = time.perf_counter()
        before = proxy.counts.up_bytes
        arena.session.submit(job).wait()
        bare = proxy.counts.up_bytes - before
        print(f"{size} MB up, undisturbed: {bare / MB:.2f} MB in {time.perf_counter() - began:.1f} s")
        trial.run(Plan(0, ("site-1",), (), has_bystander=False, recipe="momentum"))  # knows the model from here on
        for number in range(1, CUTS + 1):
            fault = Fault(FaultKind.CUT, "site-1", "result.mid_stream", size * number // (CUTS + 1), 0.0)
            before = proxy.counts.up_bytes
            verdict = trial.run(Plan(number, ("site-1",), (fault,), has_bystander=False, recipe="momentum"))
            assert verdict.violations == [], verdict.violations
            again = (proxy.counts.up_bytes - before - bare) / MB
            print(f"cut at {fault.nth} MB: {again:.2f} MB sent again (goal {GOAL_MB:g}), {verdict.seconds:.1f} s")


if __name__ == "__main__":
    main()
