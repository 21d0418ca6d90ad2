"""Four sites with a model of 400 MB and two workers: time and memory of a round, beside a plain NumPy loop.

    python benchmarks/bench_large_model.py [--quick] [--json]

The plain loop runs in a process of its own and does a round between any two of Hansa's, with the same arithmetic: a
result per site (`x.copy()` and `+= 1`, or `x + 1`), a weighted sum, a division. Neither side writes the model to disk.
The time is the least of 9 rounds, the first one apart. Memory is looked at in rounds of their own, 50 times a second,
from a third process: the PSS of all processes, and the pages of their memory files that nobody maps. "First site last"
holds the first site back until the others, which other processes hold, have handed over what they have.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from interleaved import measure

from job_parts import Work

GOAL_TIME = 1.8
GOAL_MEMORY = 1.6
GOAL_FIRST_LAST = 2.4
KINDS = ("x += 1", "x + 1")
WORKERS = 2


def timed(work: Work) -> dict[str, Any]:
    rounds = measure(work, workers=WORKERS)
    best, bare = min(rounds.hansa_s[1:]), min(rounds.bare_s[1:])
    return {
        "what": f"4 sites x {work.num_bytes // 10**6} MB, {work.kind}",
        "seconds": best,
        "bare_seconds": bare,
        "ratio": best / bare,
        "goal": GOAL_TIME,
        "first_seconds": rounds.hansa_s[0],
        "all_seconds": rounds.hansa_s,
        "all_bare_seconds": rounds.bare_s,
        "phases_s": {name: spent / len(rounds.hansa_s) for name, spent in rounds.phases_s.items()},
    }


def memory(work: Work, *, workers: int, what: str, goal: float | None) -> dict[str, Any]:
    rounds = measure(work, workers=workers, memory=True)
    return {
        "what": f"{what}, {work.kind}",
        "bytes": rounds.hansa_peak,
        "bare_bytes": rounds.bare_peak,
        "ratio": rounds.hansa_peak / rounds.bare_peak,
        "goal": goal,
    }


def first_last(work: Work, *, workers: int, wait_for: tuple[str, ...]) -> dict[str, Any]:
    """The first site's result comes last; the sites that live beside it can only come after it."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "turn"
        os.mkfifo(pipe)
        late = replace(work, wait_for=wait_for, pipe=str(pipe))
        what = f"memory, first site last, {workers} workers"
        return memory(late, workers=workers, what=what, goal=GOAL_FIRST_LAST if workers == WORKERS else None)


def figures(num_bytes: int, num_rounds: int, kinds: tuple[str, ...] = KINDS) -> Iterator[dict[str, Any]]:
    for kind in kinds:
        yield timed(Work(kind, 4, num_bytes, num_rounds=num_rounds))
    for kind in kinds:
        few = Work(kind, 4, num_bytes, num_rounds=min(3, num_rounds))
        yield memory(few, workers=WORKERS, what="memory", goal=GOAL_MEMORY)
        yield first_last(few, workers=WORKERS, wait_for=("site-3", "site-4"))
        yield first_last(few, workers=4, wait_for=("site-2", "site-3", "site-4"))


def show(figure: dict[str, Any]) -> None:
    if "seconds" in figure:
        own, bare = f"{figure['seconds']:.3f} s", f"{figure['bare_seconds']:.3f} s"
        more = f"; first round {figure['first_seconds']:.3f} s"
    else:
        own, bare = f"{figure['bytes'] / 1e9:.2f} GB", f"{figure['bare_bytes'] / 1e9:.2f} GB"
        more = ""
    goal = f" (goal {figure['goal']})" if figure["goal"] else ""
    ratio = f"{figure['ratio']:.2f} x bare{goal}"
    print(f"{figure['what']:46} {own:>9}, bare loop {bare:>9}: {ratio}{more}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="small and few, to see that it runs; the figures mean little"
    )
    options = parser.parse_args()
    found = []
    for figure in figures(4_000_000, 2, KINDS[:1]) if options.quick else figures(400_000_000, 10):
        found.append(figure)
        if not options.json:
            show(figure)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
