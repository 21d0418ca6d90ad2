"""What grows in a long job: 2 sites as real processes, a round of nothing over and over, the journal on.

    python benchmarks/bench_long_run.py [--rounds 10000] [--quick] [--json]

Every so many rounds it looks at four processes (the server, its job process, a site's agent, its job process) and at
the disk: memory (RSS), open files, threads, bytes below the kits. A slope is that of the least-squares line over the
second half.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from federation_parts import Poc, poc
from federation_work import AddOne
from tree_memory import processes_of

from hansa.jobs import Component, fed_avg

ROUNDS, EVERY = 2000, 100
GROWS_BY_DESIGN = "history.jsonl, MB"
MOST_PER_1000 = {"MB": 0.5, "files": 0.5, "threads": 0.5}
"""What counts as flat, in each unit."""
MOST_MB_ON_DISK = 0.05
_ON_DISK = ("journal, MB", "logs, MB", "the rest of the disk, MB")


def of_process(name: str, pid: int) -> Iterator[tuple[str, float]]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    yield f"{name}, MB", int(status["VmRSS"].split()[0]) / 1024
    yield f"{name}, files", len(list(Path(f"/proc/{pid}/fd").iterdir()))
    yield f"{name}, threads", int(status["Threads"])


def of_disk(folder: Path) -> Iterator[tuple[str, float]]:
    sizes = {"history.jsonl": 0, "journal": 0, "logs": 0, "the rest of the disk": 0}
    num_files = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                num_files += 1
                kind = "the rest of the disk"
                if path.name == "history.jsonl":
                    kind = path.name
                elif path.name.startswith("journal.db"):
                    kind = "journal"
                elif path.suffix in (".txt", ".log"):
                    kind = "logs"
                sizes[kind] += path.stat().st_size
    yield from ((f"{kind}, MB", size / 1e6) for kind, size in sizes.items())
    yield "on disk, files", num_files


def job_process(agent: int, kit: Path) -> int:
    """The process below an agent that works in the kit and has the job."""
    there = [pid for pid in processes_of(agent) if pid != agent and Path(f"/proc/{pid}/cwd").readlink() == kit]
    return max(there)


def processes(federation: Poc) -> Mapping[str, int]:
    server, site = federation.server_pid, federation.site_pids[0]
    server_kit = next(federation.folder.rglob("fed_server.json")).parents[1]
    site_kit = min(federation.folder.rglob("fed_client.json")).parents[1]
    return {
        "server": server,
        "its job process": job_process(server, server_kit),
        "a site": site,
        "the site's job process": job_process(site, site_kit),
    }


def watched(federation: Poc, session: Any, *, rounds: int, every: int) -> list[tuple[int, dict[str, float]]]:
    """What was seen, and in which round."""
    job = fed_avg({"w": np.zeros(10, np.float32)}, executor=Component(AddOne, folder=""), rounds=rounds, name="long")
    run = session.submit(job)
    samples: list[tuple[int, dict[str, float]]] = []
    found: Mapping[str, int] | None = None
    for _ in run.follow():
        number = len(run.history.rounds)
        if number < every * (len(samples) + 1) or number >= rounds:
            continue
        found = found or processes(federation)
        seen = dict(of_disk(federation.folder))
        for name, pid in found.items():
            seen.update(of_process(name, pid))
        samples.append((number, seen))
    run.wait()
    return samples


def slopes(samples: list[tuple[int, dict[str, float]]]) -> list[dict[str, Any]]:
    half = samples[len(samples) // 2 :]
    at = np.array([number for number, _ in half], float)
    table = []
    for name, last in sorted(half[-1][1].items()):
        values = np.array([seen[name] for _, seen in half])
        slope = float(np.polyfit(at, values, 1)[0]) * 1000 if len(half) > 1 else 0.0
        unit = name.rpartition(", ")[2]
        most = MOST_MB_ON_DISK if name in _ON_DISK else MOST_PER_1000[unit]
        verdict = "flat" if slope <= most else "growing"
        verdict = "by design" if name == GROWS_BY_DESIGN else verdict
        table.append(
            {"what": name, "first": samples[0][1][name], "last": last, "per_1000_rounds": slope, "verdict": verdict}
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds, every = (40, 10) if args.quick else (args.rounds, EVERY)
    from hansa.admin.session import connect

    with poc(2) as federation, connect(federation.admin_kit, home=federation.folder.parent / "home") as session:
        table = slopes(watched(federation, session, rounds=rounds, every=every))
    if args.json:
        print(json.dumps({"rounds": rounds, "figures": table}, indent=1))
        return
    print(f"{rounds} rounds of 2 sites; slopes per 1,000 rounds over the second half\n")
    print(f"{'':36}{'first':>10}{'last':>10}{'slope':>10}")
    for row in table:
        figures = "".join(f"{row[key]:10.2f}" for key in ("first", "last", "per_1000_rounds"))
        print(f"{row['what']:36}{figures}  {row['verdict']}")


if __name__ == "__main__":
    main()
