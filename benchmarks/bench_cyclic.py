"""What a hand-over of the model adds in a cyclic round: 8 sites as real processes over mutual TLS, a small model.

    python benchmarks/bench_cyclic.py [--quick] [--json]

A round's time is that from its start to the next one's, so whatever happens between rounds (save, commit) is in it; it
is divided by the number of sites. Their work is to add one to ten numbers. Beside it stands a round of federated
averaging by the same sites in the same run. Medians of 5 jobs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from federation_parts import poc
from federation_work import AddOne, Ticks

import hansa
from hansa.jobs import Component, Job, cyclic, fed_avg

NUM_SITES, NUM_ROUNDS, REPEATS = 8, 50, 5
QUICK = 2, 5, 1
GOAL_S = 0.005


def round_s(session: Any, recipe: Any, rounds: int) -> float:
    """The median time of a round of nothing."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "ticks.json"
        ticks = Component(Ticks, id="ticks", file=str(file))
        executor = Component(AddOne, folder="")
        job: Job = recipe(
            {"w": np.zeros(10, np.float32)}, executor=executor, rounds=rounds + 1, server_components=[ticks]
        )
        run = session.submit(job)
        run.wait()
        assert run.status.value == "COMPLETED", (run.status, run.cause)
        starts = json.loads(file.read_text())
    return statistics.median(end - begin for begin, end in pairwise(starts))


def measure(num_sites: int, num_rounds: int, repeats: int) -> dict[str, Any]:
    in_turn, at_once = [], []
    with poc(num_sites) as federation, hansa.connect(federation.admin_kit) as session:
        for _ in range(repeats):
            in_turn.append(round_s(session, cyclic, num_rounds) / num_sites)
            at_once.append(round_s(session, fed_avg, num_rounds))
    return {
        "what": f"hand-over in a cyclic round, {num_sites} sites",
        "seconds": statistics.median(in_turn),
        "goal_s": GOAL_S,
        "all_seconds": in_turn,
        "fed_avg_round_seconds": statistics.median(at_once),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--quick", action="store_true", help="2 sites, to see that it runs; the figures mean little")
    options = parser.parse_args()
    found = measure(*(QUICK if options.quick else (NUM_SITES, NUM_ROUNDS, REPEATS)))
    if options.json:
        print(json.dumps([found]))
        return
    each = ", ".join(f"{seconds * 1e3:.2f}" for seconds in found["all_seconds"])
    line = f"{found['what']:48} {found['seconds'] * 1e3:6.2f} ms (goal {GOAL_S * 1e3:g}; {each})"
    print(f"{line}; a round of fed_avg {found['fed_avg_round_seconds'] * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
