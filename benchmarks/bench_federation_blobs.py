"""A large model to sites and back over mutual TLS: time beside bare gRPC streams, and the server's memory.

    python benchmarks/bench_federation_blobs.py [--full] [--quick] [--json]

The model has 64 MB, with `--full` 400 MB. Every site answers x + 1 in new arrays; nobody writes the model to disk but
for its way through the network. The bare streams bring as many bytes to as many processes at a time, and as many back,
with SHA-256 at both ends and a file at the receiver; they and a job of 4 rounds take turns. A round's time is that from
its start to the next one's, so that its arithmetic and whatever happens between rounds is in it.

Memory is looked at in rounds of their own, 50 times a second: the PSS of the server, its fork server and its job
process, without the files that they map and with them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bare_grpc
from federation_parts import TreePeak, poc
from federation_work import Ticks

import hansa
from hansa.jobs import Component
from job_parts import Work

GOAL_RATIO = 0.7
NUM_TENSORS = 20
MORE_BYTES = 300_000_000


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        num_bytes: The model's size.
        num_sites: Over how many sites a round is timed.
        memory_sites: Over how many sites memory is looked at.
        num_jobs: How many jobs are timed, and turns of the bare streams.
        num_rounds: How many rounds each has, the first one apart.
    """

    num_bytes: int = 64_000_000
    num_sites: int = 4
    memory_sites: tuple[int, ...] = (2, 4, 8)
    num_jobs: int = 2
    num_rounds: int = 4


QUICK = Scale(4_000_000, 2, (2,), num_jobs=1, num_rounds=2)
FULL = Scale(400_000_000)


def round_times(session: Any, scale: Scale, num_sites: int) -> list[float]:
    """Seconds of the rounds of a job."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "ticks.json"
        ticks = Component(Ticks, id="ticks", file=str(file))
        work = Work("x + 1", num_sites, scale.num_bytes, NUM_TENSORS, num_rounds=scale.num_rounds, listeners=(ticks,))
        run = session.submit(work.job())
        run.wait()
        assert run.status.value == "COMPLETED", (run.status, run.cause)
        return [end - begin for begin, end in pairwise(json.loads(file.read_text()))]


def timed(scale: Scale) -> dict[str, Any]:
    seconds, bare, first = [], [], []
    with ExitStack() as stack:
        federation = stack.enter_context(poc(scale.num_sites))
        session = stack.enter_context(hansa.connect(federation.admin_kit))
        server = stack.enter_context(bare_grpc.blob_server(scale.num_bytes))
        for _ in range(scale.num_jobs):
            bare.append(server.turn(scale.num_sites))
            each = round_times(session, scale, scale.num_sites)
            first.append(each[0])
            seconds += each[1:]
            bare.append(server.turn(scale.num_sites))
    own, bare_s = statistics.median(seconds), statistics.median(bare)
    return {
        "what": f"a round, {scale.num_sites} sites x {scale.num_bytes // 10**6} MB",
        "seconds": own,
        "bare_seconds": bare_s,
        "ratio": bare_s / own,
        "goal": GOAL_RATIO,
        "first_seconds": statistics.median(first),
        "all_seconds": seconds,
        "all_bare_seconds": bare,
    }


def memory(scale: Scale, num_sites: int) -> dict[str, Any]:
    with (
        poc(num_sites) as federation,
        hansa.connect(federation.admin_kit) as session,
        TreePeak([federation.server_pid]) as peak,
    ):
        round_times(session, scale, num_sites)
    return {
        "what": f"the server's memory, {num_sites} sites x {scale.num_bytes // 10**6} MB",
        "bytes": peak.without_files,
        "bytes_with_files": peak.num_bytes,
        "goal_bytes": 2 * scale.num_bytes + MORE_BYTES,
    }


def figures(scale: Scale) -> Iterator[dict[str, Any]]:
    yield timed(scale)
    for num_sites in scale.memory_sites:
        yield memory(scale, num_sites)


def show(found: dict[str, Any]) -> None:
    if "seconds" in found:
        print(
            f"{found['what']:42} {found['seconds']:.2f} s, bare gRPC streams {found['bare_seconds']:.2f} s: "
            f"{found['ratio']:.2f} of their speed (goal {found['goal']}); first round {found['first_seconds']:.2f} s",
            flush=True,
        )
    else:
        without, whole, goal = (found[key] / 1e6 for key in ("bytes", "bytes_with_files", "goal_bytes"))
        print(f"{found['what']:42} {without:.0f} MB, {whole:.0f} MB with mapped files (goal {goal:.0f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--full", action="store_true", help="400 MB instead of 64 MB")
    parser.add_argument("--quick", action="store_true", help="4 MB, to see that it runs; the figures mean little")
    options = parser.parse_args()
    found = []
    for each in figures(QUICK if options.quick else FULL if options.full else Scale()):
        found.append(each)
        if not options.json:
            show(each)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
