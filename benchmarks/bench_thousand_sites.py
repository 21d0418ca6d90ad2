"""1,000 sites connected to one server process over mutual TLS: a broadcast to all, and what an idle site costs.

    python benchmarks/bench_thousand_sites.py [--quick] [--json]

The server is the real program, with a real job on it; the sites are light ones (`light_sites.py`): 4 processes hold 250
each, every one with its own certificate and connection, and answer a job's messages at once instead of starting a
process for it. The broadcast is a round of FedAvg with 10 floats, start to start, median of 5; beside it stands a bare
gRPC ping over as many streams. Idle cost is the server process's, over 10 s; memory is by how
much its anonymous memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bare_grpc
import numpy as np
from federation_parts import cpu_s, hansa_command, num_threads, pss, tree_pss
from federation_work import AddOne, Ticks

import hansa
from hansa.jobs import Component, fed_avg
from hansa.provision.provisioner import make_kits

GOAL_BROADCAST_S = 3.0
GOAL_SITE_BYTES = 1_000_000
GOAL_SITE_MS = 0.2
GOAL_THREADS = 64
GOAL_AGENT_BYTES = 60_000_000
NUM_ROUNDS = 5
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    num_sites: int = 1000
    num_processes: int = 4
    idle_s: float = 10.0


QUICK = Scale(num_sites=8, num_processes=2, idle_s=1.0)


@contextmanager
def program(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program of Hansa that has said that it is ready; ends with the context."""
    readable, writable = os.pipe()
    with subprocess.Popen(
        hansa_command(*command, "--ready-fd", str(writable)), pass_fds=[writable], stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            os.close(writable)
            with os.fdopen(readable) as ready:
                assert select.select([ready], [], [], PATIENCE_S)[0], f"{command} does not start"
                said = ready.readline()
                assert said == "ready\n", said
            yield process
        finally:
            process.terminate()


@contextmanager
def light_sites(kits: list[Path]) -> Iterator[subprocess.Popen[str]]:
    """A process of light sites, which says a line when all of them are connected."""
    command = [sys.executable, str(Path(__file__).with_name("light_sites.py")), *map(str, kits)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def connected(kits: list[Path], scale: Scale) -> Iterator[float]:
    """All sites connected; gives the seconds that this took."""
    with ExitStack() as stack:
        began = time.perf_counter()
        processes = [
            stack.enter_context(light_sites(kits[at :: scale.num_processes])) for at in range(scale.num_processes)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
        yield time.perf_counter() - began


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def idle(server: int, before: int, scale: Scale) -> Iterator[dict[str, Any]]:
    """What the connected sites cost while nothing happens."""
    began, spent = time.perf_counter(), cpu_s(server)
    select.select([], [], [], scale.idle_s)
    spent = (cpu_s(server) - spent) / (time.perf_counter() - began)
    grown = pss(server)[1] - before
    yield {"what": "memory of an idle site on the server", "bytes": grown / scale.num_sites, "goal": GOAL_SITE_BYTES}
    yield {
        "what": "CPU of an idle site on the server, ms per second",
        "ms": spent * 1e3 / scale.num_sites,
        "goal": GOAL_SITE_MS,
    }


def broadcast(session: Any, scale: Scale) -> list[float]:
    """Seconds of rounds of nothing."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "ticks.json"
        job = fed_avg(
            {"w": np.zeros(10, np.float32)},
            executor=AddOne,
            rounds=NUM_ROUNDS + 2,
            min_sites=scale.num_sites,
            server_components=[Component(Ticks, id="ticks", file=str(file))],
        )
        run = session.submit(job)
        run.wait()
        assert run.status.value == "COMPLETED", (run.status, run.cause)
        assert all(len(record.counted) == scale.num_sites for record in run.history.rounds)
        return [end - begin for begin, end in pairwise(json.loads(file.read_text()))][1:]


def figures(scale: Scale) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"site-{number}" for number in range(1, scale.num_sites + 2)]
        trusting = {"poc": True}
        kits = make_kits(
            folder, server_port=free_port(), sites=names, settings={"server": trusting, "client": trusting}
        )
        yield from _with_server(kits, names, scale)


def _with_server(kits: dict[str, Path], names: list[str], scale: Scale) -> Iterator[dict[str, Any]]:
    with program("server", "start", str(kits["server"])) as server:
        with program("site", "start", str(kits[names[-1]])) as agent:
            rss = int(Path(f"/proc/{agent.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            yield {
                "what": "memory (RSS) of an idle site's agent",
                "bytes": rss,
                "goal": GOAL_AGENT_BYTES,
                "tree_pss": tree_pss(agent.pid),
            }
        before = pss(server.pid)[1]
        with connected([kits[each] for each in names[:-1]], scale) as seconds:
            yield {"what": f"{scale.num_sites:,} sites connect", "seconds": seconds, "goal": None}
            yield from idle(server.pid, before, scale)
            with hansa.connect(kits["admin"]) as session:
                each = broadcast(session, scale)
            pings = bare_grpc.ping(scale.num_processes, 10, per_process=scale.num_sites // scale.num_processes)
            yield {
                "what": f"broadcast to {scale.num_sites:,} sites and back",
                "seconds": statistics.median(each),
                "goal": GOAL_BROADCAST_S,
                "all_seconds": each,
                "bare_seconds": pings.median_s,
                "bare_bytes_per_stream": pings.bytes_per_stream,
            }
            yield {"what": "threads of the server", "count": num_threads(server.pid), "goal": GOAL_THREADS}


def show(found: dict[str, Any]) -> None:
    goal = "" if found["goal"] is None else f" (goal {found['goal']:,})"
    if "bytes" in found:
        line = f"{found['bytes'] / 1e3:,.0f} KB{goal}"
        if "tree_pss" in found:
            line += f"; with its fork server, PSS {found['tree_pss'] / 1e3:,.0f} KB"
    elif "ms" in found:
        line = f"{found['ms']:.3f} ms{goal}"
    elif "count" in found:
        line = f"{found['count']}{goal}"
    else:
        line = f"{found['seconds']:.2f} s{goal}"
        if "bare_seconds" in found:
            per_stream = found["bare_bytes_per_stream"] / 1e3
            line += f"; bare gRPC {found['bare_seconds']:.2f} s, {per_stream:.0f} KB per stream"
    print(f"{found['what']:50} {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--quick", action="store_true", help="8 sites, to see that it runs; the figures mean little")
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
