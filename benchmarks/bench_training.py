"""Real training in torch beside a plain torch loop that does the same work in as many processes.

Rounds of both are taken in turn. Start-up is measured apart: from the call to the first round, torch's import included.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from training_parts import NETWORKS, BareLoop, Setting, Trainer

import hansa
from hansa.jobs import Component, fed_avg
from job_parts import Metronome


@dataclass(frozen=True)
class Case:
    """One figure.

    Attributes:
        name: What it says.
        setting: What a site does in a round.
        num_sites: How many there are.
        count: How many of them a round asks; None: all.
        workers: How many processes train, here and there.
        num_rounds: How many rounds are timed; a first one goes before them.
        goal: Hansa's time over the plain loop's, at most.
    """

    name: str
    setting: Setting
    num_sites: int
    count: int | None
    workers: int
    num_rounds: int
    goal: float


CASES = [
    Case("8 sites x 500 images, small network", Setting("small", 500, 32), 8, None, 2, 9, 1.07),
    Case(
        "1,000 users x 50 images, 50 a round, pfl's network", Setting("dense", 50, 10, rate=0.1), 1000, 50, 2, 5, 1.15
    ),
]


def measure(case: Case) -> dict[str, Any]:
    """Run Hansa and the plain loop in turn."""
    stops: list[float] = []
    goes: list[float] = []
    bare_s: list[float] = []
    bare = BareLoop(case.setting, case.workers)

    def take_turn() -> None:
        stops.append(time.perf_counter())
        # The plain loop's sites are shared out as Hansa's are, but which they are does not matter: all are alike.
        bare.round([f"site-{number + 1}" for number in range(case.count or case.num_sites)])
        goes.append(time.perf_counter())
        bare_s.append(goes[-1] - stops[-1])

    Metronome.between = take_turn
    setting = case.setting
    part = Component(Trainer, **asdict(setting))
    job = fed_avg(
        NETWORKS[setting.network](),
        executor=part,
        rounds=case.num_rounds + 2,  # the first is warm-up, and a round's time ends where the next one starts
        server_components=[Component(Metronome)],
        **({} if case.count is None else {"sampling": {"count": case.count}}),
    )
    with tempfile.TemporaryDirectory() as home:
        run = hansa.simulate(job, case.num_sites, workers=case.workers, home=home, progress=False)
    bare.close()
    hansa_s = [end - begin for begin, end in zip(goes, stops[1:], strict=False)]
    timed, bare_timed = hansa_s[1:], bare_s[1 : len(hansa_s)]
    return {
        "name": case.name,
        "device": setting.device,
        "s": statistics.median(timed),
        "bare_s": statistics.median(bare_timed),
        "ratio": statistics.median(timed) / statistics.median(bare_timed),
        "least_ratio": min(timed) / min(bare_timed),
        "goal": case.goal,
        "first_round_s": hansa_s[0],
        "start_s": run.timings.start,
        "all_s": timed,
        "all_bare_s": bare_timed,
        "phases_s": {name: spent / len(run.history.rounds) for name, spent in run.timings.phases.items()},
    }


def show(result: dict[str, Any]) -> None:
    """Print a figure."""
    print(
        f"{result['name']}, {result['device']}: a round {result['s'] * 1e3:.0f} ms, {result['ratio']:.3f} x the plain "
        f"torch loop ({result['bare_s'] * 1e3:.0f} ms; goal {result['goal']}; medians of {len(result['all_s'])}; "
        f"least over least {result['least_ratio']:.3f}); first round {result['first_round_s']:.2f} s, start-up "
        f"{result['start_s']:.2f} s"
    )
    for name, spent in sorted(result["phases_s"].items(), key=lambda item: -item[1]):
        print(f"    {spent * 1e3:8.1f} ms  {name}")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    cases = CASES
    if "--quick" in sys.argv:
        cases = [
            replace(
                each, num_rounds=1, num_sites=4, count=each.count and 2, setting=replace(each.setting, num_images=20)
            )
            for each in cases
        ]
    if torch.cuda.is_available():
        cases = cases + [replace(each, setting=replace(each.setting, device="cuda"), workers=1) for each in cases]
    results = [measure(case) for case in cases]
    if "--json" in sys.argv:
        print(json.dumps(results))
        return
    for result in results:
        show(result)


if __name__ == "__main__":
    main()
