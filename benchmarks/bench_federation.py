"""A federation of 8 sites as real processes over mutual TLS: up, a job's start and end, an abort, a round of nothing.

    python benchmarks/bench_federation.py [--quick] [--json]

Beside the round stands a bare gRPC stream ping to as many processes, in the same run. A round's time is that from its
start to the next one's, so whatever happens between rounds is in it. Times of a job's start and end are taken by the
executors themselves, on the clock that all processes of a machine share. All are medians of 5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bare_grpc
import numpy as np
from federation_parts import Poc, poc, until
from federation_work import AddOne, Forever, Ticks, marks

import hansa
from hansa.errors import RunAborted
from hansa.jobs import Component, Job, fed_avg

NUM_SITES = 8
NUM_ROUNDS = 200
REPEATS = 5
GRACE_S = 5.0
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    num_sites: int = NUM_SITES
    num_rounds: int = NUM_ROUNDS
    repeats: int = REPEATS


QUICK = Scale(num_sites=2, num_rounds=5, repeats=1)


def adding(folder: Path | None, rounds: int, **more: Any) -> Job:
    executor = Component(AddOne, folder="" if folder is None else str(folder))
    return fed_avg({"w": np.zeros(10, np.float32)}, executor=executor, rounds=rounds, **more)


def figure(what: str, seconds: list[float], goal_s: float, **more: Any) -> dict[str, Any]:
    return {"what": what, "seconds": statistics.median(seconds), "goal_s": goal_s, "all_seconds": seconds, **more}


def jobs(session: Any, scale: Scale) -> Iterator[dict[str, Any]]:
    """How long a job's first task takes to start, and its end to be known."""
    starts, ends = [], []
    for _ in range(scale.repeats + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            began = time.monotonic()
            run = session.submit(adding(folder, rounds=2))
            run.wait()
            over = time.monotonic()
            assert run.status.value == "COMPLETED", (run.status, run.cause)
            starts.append(marks(folder, "begin")[0] - began)
            ends.append(over - marks(folder, "end")[-1])
    yield figure("submit to first task executing", starts[1:], 1.0, first_seconds=starts[0])
    yield figure("last result to COMPLETED", ends[1:], 0.3)


def aborts(session: Any, federation: Poc, *, watches: bool, repeats: int) -> dict[str, Any]:
    """How long it takes until no process of an aborted job is left."""
    seconds, calm = [], federation.processes()
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            job = fed_avg(
                {"w": np.zeros(10, np.float32)},
                executor=Component(Forever, folder=str(folder), watches=watches),
                rounds=1,
            )
            run = session.submit(job)
            until(lambda at=folder: len(marks(at, "begin")) == len(federation.site_pids), PATIENCE_S, "no tasks")
            busy = federation.processes() - calm
            assert len(busy) > len(federation.site_pids)
            began = time.monotonic()
            run.abort()
            until(lambda who=busy: not any(Path(f"/proc/{pid}").exists() for pid in who), PATIENCE_S, "not gone")
            seconds.append(time.monotonic() - began)
            with suppress(RunAborted):
                run.wait()
    what = "code that watches the signal" if watches else f"code that does not (grace {GRACE_S:.0f} s)"
    return figure(f"abort to processes gone, {what}", seconds, 1.0 if watches else GRACE_S + 1.0)


def rounds(session: Any, scale: Scale) -> dict[str, Any]:
    """A round of nothing."""
    medians, bare, best = [], [], []
    for _ in range(scale.repeats):
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "ticks.json"
            ticks = Component(Ticks, id="ticks", file=str(file))
            run = session.submit(adding(None, scale.num_rounds + 1, server_components=[ticks]))
            run.wait()
            assert run.status.value == "COMPLETED", (run.status, run.cause)
            starts = json.loads(file.read_text())
        each = [end - begin for begin, end in pairwise(starts)]
        medians.append(statistics.median(each))
        best.append(min(each))
        bare.append(bare_grpc.ping(scale.num_sites, scale.num_rounds).median_s)
    return figure(
        f"round of nothing, {scale.num_sites} sites",
        medians,
        0.010,
        bare_seconds=statistics.median(bare),
        least_seconds=min(best),
    )


def figures(scale: Scale) -> Iterator[dict[str, Any]]:
    ups: list[float] = []
    for _ in range(scale.repeats - 1):
        with poc(scale.num_sites) as federation:
            ups.append(federation.up_s)
    with poc(scale.num_sites) as federation:
        yield figure(f"poc up, {scale.num_sites} sites to all connected", [*ups, federation.up_s], 4.0)
        with hansa.connect(federation.admin_kit) as session:
            yield from jobs(session, scale)
            yield rounds(session, scale)
            yield aborts(session, federation, watches=True, repeats=scale.repeats)
            yield aborts(session, federation, watches=False, repeats=1)
    yield journal(scale)


def journal(scale: Scale) -> dict[str, Any]:
    """What the journal costs: the same round with it and without, in turn."""
    with_it, without, kept = [], [], os.environ.get("HANSA_JOURNAL")
    for _ in range(max(1, scale.repeats // 2)):
        for place, seconds in (("", with_it), ("none", without)):
            os.environ["HANSA_JOURNAL"] = place
            with poc(scale.num_sites) as federation, hansa.connect(federation.admin_kit) as session:
                seconds.append(rounds(session, Scale(scale.num_sites, scale.num_rounds, 1))["seconds"])
    os.environ["HANSA_JOURNAL"] = kept or ""
    plain = statistics.median(without)
    return {**figure("round of nothing with a journal", with_it, 1.3 * plain), "without_seconds": plain}


def show(found: dict[str, Any]) -> None:
    unit, factor = ("ms", 1e3) if found["seconds"] < 0.1 else ("s", 1.0)
    line = f"{found['what']:62} {found['seconds'] * factor:7.2f} {unit} (goal {found['goal_s'] * factor:g})"
    if "bare_seconds" in found:
        line += f"; bare gRPC {found['bare_seconds'] * factor:.2f} {unit}, least {found['least_seconds'] * factor:.2f}"
    if "without_seconds" in found:
        line += f"; without {found['without_seconds'] * factor:.2f}"
    if "first_seconds" in found:
        line += f"; the first time {found['first_seconds'] * factor:.2f}"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--quick", action="store_true", help="2 sites, to see that it runs; the figures mean little")
    options = parser.parse_args()
    found = []
    for each in figures(QUICK if options.quick else Scale()):
        found.append(each)
        if not options.json:
            show(each)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
