"""Many sites with 100 KB each and two workers: time per site and round, and memory per site that has nothing to do.

    python benchmarks/bench_many_sites.py [--quick] [--json]

Every site answers x + 1 in new arrays. A plain NumPy loop in a process of its own does the same arithmetic between any
two of Hansa's rounds. Times are medians of 5 rounds, the first one apart.

Memory per site is the difference between a run over 10,000 sites and one over 1,000 that do the same, before the last
round: PSS of all processes, and the pages of their memory files.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from interleaved import measure

from job_parts import Work

NUM_BYTES = 100_000
GOAL_MS = 0.18
GOAL_TABLE_MS = 0.6
GOAL_BYTES = 2048
WORKERS = 2


def timed(work: Work, goal: float) -> dict[str, Any]:
    rounds = measure(work, workers=WORKERS)
    each = [seconds / work.num_sites * 1e3 for seconds in rounds.hansa_s]
    tensors = "tensor" if work.num_tensors == 1 else "tensors"
    return {
        "what": f"{work.num_sites:,} sites x 100 KB in {work.num_tensors} {tensors}",
        "ms_per_site": statistics.median(each[1:]),
        "goal_ms": goal,
        "first_ms": each[0],
        "bare_ms": statistics.median(rounds.bare_s[1:]) / work.num_sites * 1e3,
        "all_ms": each,
        "phases_ms": {name: spent / len(each) / work.num_sites * 1e3 for name, spent in rounds.phases_s.items()},
    }


def memory(what: str, *, many: Work, few: Work) -> dict[str, Any]:
    more, less = (measure(work, workers=WORKERS, bare=False, memory=True).calm[-1] for work in (many, few))
    num_sites = many.num_sites - few.num_sites
    return {
        "what": f"{many.num_sites:,} sites, {what}",
        "bytes_per_site": (more - less) / num_sites,
        "goal": GOAL_BYTES,
    }


def figures(sizes: tuple[int, ...], num_rounds: int) -> Iterator[dict[str, Any]]:
    for num_sites in sizes:
        yield timed(Work("x + 1", num_sites, NUM_BYTES, num_rounds=num_rounds), GOAL_MS)
    yield timed(Work("x + 1", sizes[len(sizes) // 2], NUM_BYTES, num_tensors=200, num_rounds=num_rounds), GOAL_TABLE_MS)
    sampled = Work("x + 1", sizes[-1], NUM_BYTES, num_rounds=2, sampling={"count": 10})
    yield memory("10 of them asked", many=sampled, few=replace(sampled, num_sites=sizes[-1] // 10))
    parked = Work("x + 1, parked", sizes[-1], NUM_BYTES, num_rounds=2)
    yield memory("parked between tasks", many=parked, few=replace(parked, num_sites=sizes[-1] // 10))


def show(figure: dict[str, Any]) -> None:
    if "bytes_per_site" in figure:
        print(f"{figure['what']:40} {figure['bytes_per_site']:8,.0f} bytes per site (goal {figure['goal']:,})")
        return
    print(
        f"{figure['what']:40} {figure['ms_per_site']:8.3f} ms per site and round (goal {figure['goal_ms']}; "
        f"bare loop {figure['bare_ms']:.3f}; first round {figure['first_ms']:.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--quick", action="store_true", help="few sites, to see that it runs; the figures mean little")
    options = parser.parse_args()
    found = []
    for figure in figures((10, 50), 2) if options.quick else figures((100, 1000, 10_000), 6):
        found.append(figure)
        if not options.json:
            show(figure)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
