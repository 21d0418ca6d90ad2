"""A process that writes a journal is killed, again and again: what it was told is kept, is kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from journal_parts import JOB, Shelf
from source_code import ROOT

pytestmark = pytest.mark.slow

NUM_KILLS = 10
SITES = 3

WRITER = f"""
import sys
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import FateRow, ForgetRow
from journal_parts import JOB, commit, decision, offer, part, result
sites = [f"site-{{n}}" for n in range({SITES})]
journal = Journal.open(sys.argv[1], project="default")
last = journal.replay(JOB).commit
for version in range(0 if last is None else last.version + 1, 10_000):
    journal.write([decision(version), *(offer(version, site) for site in sites)])
    for site in sites:
        journal.write([result(version, site, parts=(bytes(2000),))])
        print(version, site, flush=True)
    fates = [FateRow(JOB, part(version, site), "counted") for site in sites]
    journal.write([*fates, commit(version), ForgetRow(JOB, version)])
    print(version, "commit", flush=True)
"""


def test_every_write_that_returned_is_there_after_a_kill(shelf: Shelf) -> None:
    choose = random.Random(6)
    told: list[tuple[int, str]] = []
    for number in range(NUM_KILLS):
        told += killed_after(choose.randrange(1, 30), shelf)
        journal = shelf.open(retry_s=20.0)
        assert journal.epoch == 2 * number + 2  # the writers' and this test's own in turn
        found = journal.replay(JOB)
        committed = -1 if found.commit is None else found.commit.version
        last_told = max((version for version, what in told if what == "commit"), default=-1)
        assert last_told <= committed <= last_told + 1  # the one whose answer was still on its way
        under_way = {site for version, site in told if version == committed + 1}
        received = {row.site for row in found.results}
        assert under_way <= received
        assert len(received) <= len(under_way) + 1
        assert {row.part.split("/")[2] for row in (*found.results, *found.offers)} <= {str(committed + 1)}
        assert shelf.tell("SELECT count(*) FROM hansa_commit") == [(min(committed + 1, 1),)]
        shelf.close()


def killed_after(num_lines: int, shelf: Shelf) -> list[tuple[int, str]]:
    """Start a writer, kill it once it has said so many lines; says what it said, to the last word."""
    paths = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    command = [sys.executable, "-W", "error", "-c", WRITER, shelf.place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **paths}) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(num_lines)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    assert all(line.endswith("\n") for line in lines), lines
    return [(int(line.split()[0]), line.split()[1]) for line in lines]
