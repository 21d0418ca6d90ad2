"""What a journal promises, on SQLite and on a PostgreSQL that runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hansa.errors import StoreError
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import (
    EventRow,
    FateRow,
    ForgetRow,
    KeptBlob,
    Outcome,
    PurgeRow,
    Replay,
    SiteRow,
    TableRow,
    TransitionRow,
)
from hansa.jobs.journal_writing import MOST_EVENTS
from journal_parts import JOB, Shelf, commit, decision, job_row, offer, part, result

NEW, SAME, ALTERED = Outcome


def test_all_that_was_written_is_there_again(shelf: Shelf) -> None:
    journal = shelf.open()
    rows = [
        job_row(sites=("site-1", "bjørn"), priority=3, state="RUNNING"),
        TransitionRow(JOB, 0, "SUBMITTED", 12.25),
        TransitionRow(JOB, 1, "RUNNING", 13.0, "at last"),
        TableRow(JOB, "site-1", "sha256:aa", bytes(range(256))),
        SiteRow(JOB, "site-1", "busy", None, 1, 14.5),
        decision(0),
        offer(0),
        offer(0, "site-2"),
        result(0, "site-2"),
        result(0),
        FateRow(JOB, part(0, "site-2"), "counted"),
        FateRow(JOB, part(0), "refused", "tensor 'w' has NaN"),
        EventRow(15.0, "site_lost", "site-2 is lost", JOB, "site-2", key="lost-1"),
    ]
    assert journal.write(rows) == [NEW] * len(rows)
    for again in _then_reopened(shelf, journal):
        assert again.jobs() == [rows[0]]
        assert again.transitions(JOB) == rows[1:3]
        assert again.replay(JOB) == Replay(
            commit=None,
            decisions={"0/train/0/targets": b"site-1 site-2"},
            offers=(offer(0), offer(0, "site-2")),
            results=(result(0, "site-2"), result(0)),  # as they came
            fates={part(0, "site-2"): rows[10], part(0): rows[11]},
            tables=(rows[3],),
            sites={"site-1": rows[4]},
        )
        assert again.replay(JOB).results[0].parts == (b"envelope", b"", bytes(range(256)))
        assert again.replay(JOB).tables[0].content == bytes(range(256))
        assert again.events() == [replace(rows[12], seq=1)]


def _reopened(shelf: Shelf, project: str = "default") -> Journal:
    shelf.close()
    return shelf.open(project)


def _then_reopened(shelf: Shelf, journal: Journal) -> Iterator[Journal]:
    yield journal
    yield _reopened(shelf)


def test_the_last_of_some_kinds_holds(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.write([job_row(), SiteRow(JOB, "site-1", "busy"), FateRow(JOB, part(0), "refused", "late")])
    written = [
        job_row(state="FAILED", reason="quorum lost\0\ud800"),
        SiteRow(JOB, "site-1", "out", "its process died 3 times", 3, 20.0),
        FateRow(JOB, part(0), "counted"),
        FateRow(JOB, part(0), "refused", "of two in one write the last"),
    ]
    assert journal.write(written) == [NEW] * 4
    assert journal.jobs() == [job_row(state="FAILED", reason="quorum lost\ufffd?")]  # what both can hold
    assert journal.replay(JOB).sites == {"site-1": written[1]}
    assert journal.replay(JOB).fates == {part(0): written[3]}


def test_the_first_of_the_others_holds_and_who_comes_later_is_told(shelf: Shelf) -> None:
    journal = shelf.open()
    first = [
        TransitionRow(JOB, 0, "SUBMITTED", 1.0),
        decision(0),
        offer(0),
        result(0),
        TableRow(JOB, "site-1", "d", b"t"),
        EventRow(1.0, "c", "t", key="k"),
    ]
    assert journal.write([*first, result(0), result(0, digest="other")]) == [NEW] * 6 + [SAME, ALTERED]
    assert journal.write([*first, result(1), result(0, digest="other")]) == [SAME] * 6 + [NEW, ALTERED]
    others = [
        TransitionRow(JOB, 0, "ABORTED", 1.0),
        decision(0, b"other"),
        replace(offer(0), version=7),
        result(0, digest="x"),
    ]
    assert journal.write(others) == [ALTERED] * 4
    assert journal.transitions(JOB) == [first[0]]
    assert journal.replay(JOB).decisions == {"0/train/0/targets": b"site-1 site-2"}
    assert journal.replay(JOB).offers == (offer(0),)
    assert journal.replay(JOB).results == (result(0), result(1))
    assert len(journal.events()) == 1


def test_the_same_part_of_two_jobs_is_two(shelf: Shelf) -> None:
    journal = shelf.open()
    assert journal.write([result(0), result(0, job="0002-b", digest="other")]) == [NEW, NEW]
    assert journal.replay("0002-b").results == (result(0, job="0002-b", digest="other"),)


def test_a_thousand_results_in_one_write(shelf: Shelf) -> None:
    journal = shelf.open()
    rows = [result(0, f"site-{number}") for number in range(1200)]
    assert journal.write(rows[:700]) == [NEW] * 700
    assert journal.write(rows) == [SAME] * 700 + [NEW] * 500
    assert journal.replay(JOB).results == tuple(rows)


def test_a_commit_is_over_with_what_came_before_it(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.write([decision(0), offer(0), result(0), FateRow(JOB, part(0), "counted"), commit(0), decision(1)])
    journal.write([offer(1), result(1)])
    for again in _then_reopened(shelf, journal):
        found = again.replay(JOB)
        assert found.commit == commit(0)
        assert list(found.decisions) == ["0/train/1/targets"]
        assert (found.offers, found.results, found.fates) == ((offer(1),), (result(1),), {})


def test_what_a_commit_keeps_goes_on(shelf: Shelf) -> None:
    journal = shelf.open()
    standing = replace(offer(0), part="0/Watch/0/site-1/0")
    near = replace(offer(0), part="0/watch/0/site-1/0")  # another task: only the case differs
    longer = replace(offer(0), part="0/Watch/00/site-1/0")
    journal.write([standing, near, longer, decision(0), commit(0, keeps=("0/Watch/0", "0/train/0/targets"))])
    assert journal.replay(JOB).offers == (standing,)
    assert list(journal.replay(JOB).decisions) == ["0/train/0/targets"]
    journal.write([commit(1, keeps=("0/Watch/0",)), ForgetRow(JOB, 1)])
    assert journal.replay(JOB).offers == (standing,)
    assert not journal.replay(JOB).decisions
    journal.write([commit(2)])
    assert not journal.replay(JOB).offers


def test_rounds_only_go_forward(shelf: Shelf) -> None:
    journal = shelf.open()
    assert journal.write([commit(0), commit(1), commit(1)]) == [NEW, NEW, SAME]
    assert journal.write([commit(0), commit(1)]) == [SAME, SAME]
    with pytest.raises(StoreError, match=r"job 0001-digits: rounds only go forward: version 1 is committed as") as info:
        journal.write([result(5), commit(1, digest="other")])
    assert info.value.job == JOB
    assert not journal.replay(JOB).results  # none of that write
    journal.write([commit(5), ForgetRow(JOB, 5)])
    with pytest.raises(StoreError, match="version 3 comes after version 5"):
        _reopened(shelf).write([commit(3)])


def test_what_is_forgotten_does_not_come_back(shelf: Shelf) -> None:
    journal = shelf.open()
    for version in range(3):
        fate = FateRow(JOB, part(version), "counted")
        rows = [decision(version), offer(version), result(version), fate, commit(version, file=f"model-{version}")]
        journal.write(rows)
    journal.write([result(3)])
    files = {f"site-1-{number}.blob" for number in range(4)} | {f"model-{number}" for number in range(3)}
    assert journal.blobs_in_use(JOB) == files
    journal.forget(JOB, up_to_version=1)
    assert journal.blobs_in_use(JOB) == {"site-1-2.blob", "site-1-3.blob", "model-1", "model-2"}
    journal.forget(JOB, up_to_version=9)
    assert journal.blobs_in_use(JOB) == {"site-1-3.blob", "model-2"}
    assert journal.replay(JOB).commit == commit(2, file="model-2")
    counted = "SELECT count(*) FROM hansa_{}"
    kinds = ("decision", "offer", "result", "fate", "commit")
    assert [shelf.tell(counted.format(kind))[0][0] for kind in kinds] == [0, 0, 1, 0, 1]
    journal.forget("0009-none", up_to_version=1)


def test_a_job_that_is_purged_is_gone_but_for_its_events(shelf: Shelf) -> None:
    journal = shelf.open()
    other = "0002-other"
    journal.write([job_row(), job_row(other), commit(4), result(1), commit(2, job=other)])
    journal.write([TableRow(JOB, "s", "d", b""), TransitionRow(JOB, 0, "A", 1.0), SiteRow(JOB, "s", "up")])
    journal.write([EventRow(1.0, "a", "a", other), EventRow(1.0, "b", "b", JOB), EventRow(1.0, "c", "c", JOB)])
    journal.purge(JOB)
    assert journal.jobs() == [job_row(other)]
    assert journal.replay(JOB) == Replay()
    assert journal.transitions(JOB) == []
    assert journal.replay(other).commit == commit(2, job=other)
    assert journal.write([EventRow(2.0, "d", "d"), commit(0), PurgeRow(JOB), commit(0)]) == [NEW] * 4
    assert [event.seq for event in journal.events()] == [1, 2, 3, 4]


def test_old_events_go(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.write([EventRow(1.0, "a", str(number)) for number in range(MOST_EVENTS + 150)])
    kept = [event.seq for event in journal.events()]
    assert (kept[0], kept[-1], len(kept)) == (100, MOST_EVENTS + 150, MOST_EVENTS + 51)


def test_a_journal_that_keeps_all_forgets_nothing(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.keeps_all = True
    journal.write([result(1), commit(4), ForgetRow(JOB, 4), commit(5), PurgeRow(JOB)])
    counted = "SELECT count(*) FROM hansa_{}"
    assert [shelf.tell(counted.format(kind))[0][0] for kind in ("result", "commit")] == [1, 2]


def test_events_are_numbered_and_an_event_with_a_key_is_one(shelf: Shelf) -> None:
    journal = shelf.open()
    assert journal.write([EventRow(1.0, "a", "one", key="k"), EventRow(1.0, "a", "two")]) == [NEW, NEW]
    assert journal.write([EventRow(9.0, "a", "one again", key="k"), EventRow(2.0, "b", "three", JOB)]) == [SAME, NEW]
    again = _reopened(shelf)
    again.write([EventRow(2.0, "a", "two")])
    assert [(event.seq, event.text) for event in again.events()] == [(1, "one"), (2, "two"), (3, "three"), (4, "two")]
    assert [event.seq for event in again.events(since=2)] == [3, 4]
    assert [event.seq for event in again.events(job=JOB)] == [3]


def test_projects_do_not_see_each_other(shelf: Shelf) -> None:
    shelf.open("a").write([job_row(), commit(3), EventRow(1.0, "x", "y", key="k")])
    shelf.close()
    other = shelf.open("b")
    assert (other.epoch, other.jobs(), other.events(), other.replay(JOB)) == (1, [], [], Replay())
    assert other.write([commit(0), EventRow(1.0, "x", "y", key="k")]) == [NEW, NEW]
    other.purge(JOB)
    again = _reopened(shelf, "a")
    assert (again.epoch, again.jobs(), again.replay(JOB).commit) == (2, [job_row()], commit(3))


def test_a_key_that_no_database_holds_is_refused(shelf: Shelf) -> None:
    journal = shelf.open()
    for bad in ("0/tr\0ain/0", "0/\ud800/0"):
        with pytest.raises(StoreError, match="cannot be kept in the journal: part"):
            journal.write([result(1), replace(result(0), part=bad)])
    assert journal.replay(JOB).results == ()


def test_a_row_that_was_changed_is_found_and_only_its_job_suffers(shelf: Shelf) -> None:
    journal = shelf.open()
    other = "0002-other"
    journal.write([job_row(), job_row(other), result(0), result(0, job=other), commit(0, job=other)])
    shelf.tell("UPDATE hansa_result SET received_at = received_at + 1 WHERE job = '0001-digits'")
    shelf.tell("UPDATE hansa_job SET state = 'RUNNING' WHERE id = '0001-digits'")
    again = _reopened(shelf)
    assert again.jobs() == [job_row(other)]
    assert again.damaged == {JOB: "job 0001-digits: damaged in the journal: hansa_job 0001-digits"}
    with pytest.raises(StoreError, match="damaged in the journal: hansa_result 0/train/0/site-1/0") as info:
        again.replay(JOB)
    assert info.value.job == JOB
    assert again.replay(other).commit == commit(0, job=other)


def test_a_write_of_nothing_and_large_rows(shelf: Shelf) -> None:
    journal = shelf.open()
    assert journal.write([]) == []
    big = commit(0, state=bytes(1_000_000))
    many = result(0, parts=(b"x" * 65_536,), blobs=tuple(KeptBlob(f"b{n}", n, "d") for n in range(100)))
    journal.write([many, big, result(1, parts=(), blobs=())])
    found = journal.replay(JOB)
    assert found.commit is not None
    assert found.commit.state == bytes(1_000_000)
    assert found.results == (result(1, parts=(), blobs=()),)
