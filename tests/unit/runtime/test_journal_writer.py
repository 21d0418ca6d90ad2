"""Rows on their way to the journal: in order, few transactions, nothing that a commit makes superfluous."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from hansa.errors import StoreError
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import CommitRow, DecisionRow, EventRow, Outcome, ResultRow, Row, TableRow
from hansa.runtime.journal_writer import JournalWriter

JOB = "0001-digits"


def result(number: int, *, digest: str = "sha256:0") -> ResultRow:
    return ResultRow(JOB, f"0/train/{number}/a/1", f"0/train/{number}", "a", digest)


def commit(version: int) -> CommitRow:
    return CommitRow(JOB, version, 0, b"state", f"sha256:{version}", 0.0)


def play(
    folder: Path, story: Callable[[JournalWriter], Coroutine[Any, Any, None]], kind: type[Journal] = Journal
) -> list[tuple[str, str]]:
    """Returns the failures that were told."""
    failures: list[tuple[str, str]] = []

    async def played() -> None:
        journal = kind.open(folder / "journal.db", project="p")
        writer = JournalWriter(journal, lambda job, error: failures.append((job, str(error))))
        try:
            await asyncio.wait_for(story(writer), 30)
        finally:
            await writer.close()

    asyncio.run(played())
    return failures


def test_what_lingers_shares_a_transaction_and_comes_back_in_order(tmp_path: Path) -> None:
    async def story(writer: JournalWriter) -> None:
        told: list[tuple[int, Outcome]] = []
        for number in (1, 2, 3, 1):
            writer.write(result(number), lambda outcome, n=number: told.append((n, outcome)), job=JOB)
        writer.write(result(2, digest="sha256:1"), lambda outcome: told.append((2, outcome)), job=JOB)
        replay = await writer.call(lambda journal: journal.replay(JOB))
        assert [row.part for row in replay.results] == [f"0/train/{n}/a/1" for n in (1, 2, 3)]
        new, same, altered = Outcome.NEW, Outcome.SAME, Outcome.ALTERED
        assert told == [(1, new), (2, new), (3, new), (1, same), (2, altered)]
        assert writer.num_transactions == 1

    assert play(tmp_path, story) == []


def test_a_commit_makes_superfluous_what_waits_before_it_but_tables(tmp_path: Path) -> None:
    async def story(writer: JournalWriter) -> None:
        told: list[str] = []
        writer.write(TableRow(JOB, "a", "sha256:t", b"table"), job=JOB)
        writer.write(DecisionRow(JOB, "0/sites/0", b"[]"), job=JOB)
        writer.write(result(1), lambda _: told.append("result"), job=JOB)
        writer.write(commit(1), lambda _: told.append("commit"), job=JOB)
        writer.write(result(2), lambda _: told.append("late"), job=JOB)
        replay = await writer.call(lambda journal: journal.replay(JOB))
        assert told == ["result", "commit", "late"]
        assert (writer.num_transactions, writer.num_rows) == (1, 3)
        assert [row.part for row in replay.results] == ["0/train/2/a/1"]
        assert replay.commit is not None
        assert (replay.commit.version, replay.decisions, len(replay.tables)) == (1, {}, 1)

    assert play(tmp_path, story) == []


def test_a_commit_of_another_job_changes_nothing(tmp_path: Path) -> None:
    async def story(writer: JournalWriter) -> None:
        writer.write(result(1), job=JOB)
        writer.write(CommitRow("0002-other", 1, 0, b"", "sha256:1", 0.0), job="0002-other")
        replay = await writer.call(lambda journal: journal.replay(JOB))
        assert len(replay.results) == 1

    play(tmp_path, story)


def test_a_job_whose_row_is_wrong_fails_alone(tmp_path: Path) -> None:
    async def story(writer: JournalWriter) -> None:
        writer.write(commit(2), job=JOB)
        await writer.call(lambda journal: journal.replay(JOB))
        writer.write(commit(1), job=JOB)  # rounds only go forward
        writer.write(ResultRow("0002-other", "0/t/1/a/1", "0/t/1", "a", "sha256:0"), job="0002-other")
        replay = await writer.call(lambda journal: journal.replay("0002-other"))
        assert len(replay.results) == 1

    ((job, cause),) = play(tmp_path, story)
    assert job == JOB
    assert "version" in cause


def test_a_refusal_of_the_journal_reaches_who_called(tmp_path: Path) -> None:
    def refuse(journal: Journal) -> None:
        raise StoreError("no room")

    async def story(writer: JournalWriter) -> None:
        with pytest.raises(StoreError, match="^no room$"):
            await writer.call(refuse)

    play(tmp_path, story)


def test_what_is_left_is_written_at_the_end(tmp_path: Path) -> None:
    async def story(writer: JournalWriter) -> None:
        writer.write(result(1), job=JOB, linger_s=60.0)

    play(tmp_path, story)
    journal = Journal.open(tmp_path / "journal.db", project="p")
    assert len(journal.replay(JOB).results) == 1
    journal.close()


class FullOnce(Journal):
    """A journal on a disk that is full when it is first written."""

    was_full = False

    def write(self, rows: Sequence[Row]) -> list[Outcome]:
        if not self.was_full:
            self.was_full = True
            raise StoreError("no space is left", disk_full=True)
        return super().write(rows)


def test_events_that_cannot_be_written_are_written_later(tmp_path: Path) -> None:
    async def story(writer: JournalWriter) -> None:
        writer.write(EventRow(1.0, "job.process_died", "it has died", JOB), job=JOB)
        writer.write(result(1), job=JOB)
        await writer.call(lambda journal: None)  # both have failed
        written = asyncio.Event()
        writer.write(commit(1), lambda outcome: written.set(), job=JOB)
        await asyncio.wait_for(written.wait(), 10)
        replay = await writer.call(lambda journal: journal.replay(JOB))
        events = await writer.call(lambda journal: journal.events())
        assert replay.results == ()
        assert [event.text for event in events] == ["it has died"]

    assert play(tmp_path, story, FullOnce) == [(JOB, "no space is left")]
