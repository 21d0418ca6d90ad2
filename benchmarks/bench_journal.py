"""What the journal costs: commits of 1, 8 and 64 results of 2 kB, beside bare sqlite3 and a file that is synced.

    python benchmarks/bench_journal.py [--json] [--quick] [--folder DIR] [--url postgresql://...] [--postgres]

The yardsticks write the same bytes: `sqlite3` inserts them into one bare table (WAL, synchronous=FULL, a commit each),
`fsync` appends them to a file and waits for the disk. All take turns, commit by commit, so that they meet the same
disk. Latencies are medians; p99 stands beside the journal's.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import ResultRow

SIZES = (1, 8, 64)
NUM_COMMITS = 300
WARM_UP = 20
ROW_BYTES = 2000

Write = Callable[[int, int], None]  # the number of the commit, and of rows


def rows(commit: int, number: int) -> list[ResultRow]:
    """Results as small ones are: 2 kB in the row itself."""
    head = '{"task_id": "7f3a", "rc": "OK"}'
    return [
        ResultRow(
            "0001-digits",
            f"0/train/{commit}/site-{site}/0",
            "train",
            f"site-{site}",
            "sha256:" + "0" * 64,
            head=head,
            parts=(bytes(ROW_BYTES),),
            received_at=1.0,
        )
        for site in range(number)
    ]


@contextmanager
def journal(place: str | Path) -> Iterator[Write]:
    """The thing itself."""
    opened = Journal.open(place, project="bench")
    try:
        yield lambda commit, number: check(len(opened.write(rows(commit, number))), number)
    finally:
        opened.close()


@contextmanager
def bare_sqlite(folder: Path) -> Iterator[Write]:
    """The same bytes in a table with one key, by hand."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE result (job TEXT, part TEXT, digest TEXT, content BLOB, PRIMARY KEY (job, part))")

    def write(commit: int, number: int) -> None:
        plain = [(row.job, row.part, row.digest, row.parts[0]) for row in rows(commit, number)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO result VALUES (?, ?, ?, ?)", plain)
        connection.execute("COMMIT")

    yield write
    connection.close()


@contextmanager
def synced_file(folder: Path) -> Iterator[Write]:
    """The same bytes at the end of a file."""
    with (folder / "log").open("ab", buffering=0) as stream:

        def write(_: int, number: int) -> None:
            stream.write(bytes(ROW_BYTES * number))
            os.fsync(stream.fileno())

        yield write


def check(got: int, expected: int) -> None:
    assert got == expected


def measure(writers: dict[str, Write], number: int, num_commits: int) -> dict[str, Any]:
    taken: dict[str, list[float]] = {name: [] for name in writers}
    for commit in range(WARM_UP + num_commits):
        for name, write in writers.items():
            began = time.perf_counter()
            write(commit * 1000 + number, number)
            taken[name].append((time.perf_counter() - began) * 1e3)
    found: dict[str, Any] = {"rows": number}
    for name, times in taken.items():
        measured = sorted(times[WARM_UP:])
        found[name] = {
            "ms": statistics.median(measured),
            "p99_ms": measured[int(len(measured) * 0.99)],
            "commits_per_s": 1e3 / statistics.mean(measured),
        }
    return found


def show(figures: Sequence[dict[str, Any]]) -> None:
    print(f"{'results of 2 kB in a commit':30}{'ms':>9}{'p99':>9}{'commits/s':>12}{'results/s':>12}")
    for figure in figures:
        for name in (name for name in figure if name != "rows"):
            one = figure[name]
            label = f"{figure['rows']:3}  {name}"
            speed = f"{one['commits_per_s']:12.0f}{one['commits_per_s'] * figure['rows']:12.0f}"
            print(f"{label:30}{one['ms']:9.2f}{one['p99_ms']:9.2f}{speed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--quick", action="store_true", help="few commits")
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    parser.add_argument("--url", help="a PostgreSQL to measure, too; its database is written to")
    parser.add_argument("--postgres", action="store_true", help="start one for it (with what the test extra brings)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        writers = {
            "journal": stack.enter_context(journal(folder / "journal.db")),
            "bare sqlite3": stack.enter_context(bare_sqlite(folder)),
            "fsync": stack.enter_context(synced_file(folder)),
        }
        if options.postgres:
            from postgres import Postgres

            server = Postgres()
            stack.callback(server.stop)
            options.url = server.create().new_database()
        if options.url:
            writers["journal, PostgreSQL"] = stack.enter_context(journal(options.url))
        figures = [measure(writers, number, 10 if options.quick else NUM_COMMITS) for number in SIZES]
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        show(figures)


if __name__ == "__main__":
    main()
