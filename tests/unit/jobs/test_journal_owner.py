"""One server owns a journal: who comes second is refused, who was overtaken cannot write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hansa.errors import ConfigError, LostLease, StoreError
from hansa.jobs.journal import Journal
from journal_parts import JOB, Shelf, commit, job_row, result


def test_a_second_server_is_refused_until_the_first_one_ends(shelf: Shelf) -> None:
    first = shelf.open()
    with pytest.raises(ConfigError, match="another server that runs keeps") as info:
        Journal.open(shelf.place, project="default", retry_s=0.1)
    assert "\n" not in str(info.value)
    first.write([job_row()])
    first.close()
    second = shelf.open()
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.jobs() == [job_row()]


def test_a_journal_that_was_closed_writes_nothing(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.close()
    journal.close()
    with pytest.raises(StoreError, match="the journal is closed"):
        journal.write([job_row()])
    assert shelf.open().jobs() == []


def test_two_names_of_a_file_are_one_journal(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    journal = Journal.open(tmp_path / "there", project="a")
    for name in ("here", "here/journal.db", f"sqlite:///{tmp_path}/there/journal.db"):
        with pytest.raises(ConfigError, match="another server that runs keeps its journal here"):
            Journal.open(name if "://" in name else tmp_path / name, project="b")
    journal.close()


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "new" / "journal.db", project="default")
    journal.write([job_row()])
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    journal.close()
    assert found == dict.fromkeys(["journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"], 0o600)


def test_who_was_overtaken_cannot_write(shelf: Shelf) -> None:
    old = shelf.open()
    old.write([job_row(), commit(0)])
    _take_the_lock_away(shelf)
    new = shelf.open()
    for _ in range(2):
        with pytest.raises(LostLease, match=r"taken over this journal \(epoch 2, this one has 1\)") as info:
            old.write([commit(1), result(3)])
        assert (info.value.epoch, info.value.newer) == (1, 2)
    assert new.replay(JOB).commit == commit(0)
    new.write([commit(1, digest="of the new one")])
    assert new.replay(JOB).commit == commit(1, digest="of the new one")


def _take_the_lock_away(shelf: Shelf) -> None:
    """What a server sees that slept while an operator, or a clean-up, took it for dead."""
    if shelf.postgres is not None:
        shelf.postgres.end_sessions(shelf.place)
    else:
        os.unlink(f"{shelf.place}.lock")


def test_who_was_overtaken_in_the_middle_of_a_write_has_not_written(shelf: Shelf) -> None:
    old = shelf.open()
    shelf.tell("UPDATE hansa_lease SET epoch = 7")
    with pytest.raises(LostLease):
        old.write([commit(0)])
    assert old.replay(JOB).commit is None
