"""A journal in a file that is damaged, locked, old, or on a full disk."""

from __future__ import annotations

import logging
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from hansa.errors import ConfigError, HansaError, StoreError
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import EventRow, ForgetRow, Outcome, Replay
from hansa.jobs.journal_versions import STEPS, migrate
from journal_parts import JOB, Shelf, commit, decision, job_row, offer, result
from source_code import ROOT

OTHER = "0002-other"
NUM_FLIPS = 150

# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"no database at all, but some bytes of something else" * 100,
            "the journal is damaged (file is not a database)",
        ),
        (b"SQLite format 3\0" + bytes(84), "the journal is damaged ("),
    ],
)
def test_garbage_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "journal.db"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as info:
        Journal.open(file, project="default")
    assert str(info.value).startswith(f"{file}: {message}")
    assert "put back a copy of it, or move it away" in str(info.value)
    assert "\n" not in str(info.value)
    assert file.read_bytes() == content
    file.unlink()
    Journal.open(file, project="default").close()  # nothing is held


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "photos.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE photo (name TEXT)")
    with pytest.raises(ConfigError, match="is a database, but no journal of Hansa: it has a table 'photo'"):
        Journal.open(file, project="default")


def filled(folder: Path) -> tuple[Path, dict[str, Replay]]:
    """A journal in a closed file, and what is in it."""
    folder.mkdir(exist_ok=True)
    with closing(Journal.open(folder, project="default")) as journal:
        return folder / "journal.db", fill(journal)


def fill(journal: Journal) -> dict[str, Replay]:
    for job in (JOB, OTHER):
        journal.write([job_row(job), decision(0, job=job), commit(0, job=job, state=bytes(range(256)) * 30)])
        for number in range(6):
            rows = [offer(1, f"site-{number}", job=job), result(1, f"site-{number}", job=job)]
            journal.write([decision(1, job=job), *rows])
    return {job: journal.replay(job) for job in (JOB, OTHER)}


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    file, _ = filled(tmp_path)
    whole = file.read_bytes()
    for size in (100, 4096, 5000, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match="the journal is damaged") as info:
            Journal.open(file, project="default")
        assert "\n" not in str(info.value)


@pytest.mark.slow
def test_a_flipped_bit_is_found_or_does_not_matter(tmp_path: Path) -> None:
    file, truth = filled(tmp_path / "made")
    found = [flipped(tmp_path / "used", {"journal.db": file.read_bytes()}, at, truth) for at in places(file)]
    assert sum(found) > NUM_FLIPS / 10  # the others are in room that is not used


@pytest.mark.slow
def test_a_bit_of_the_log_that_a_crash_left_is_found_or_does_not_matter(tmp_path: Path) -> None:
    """SQLite itself would stop at it without a word, and forget all that was written after it."""
    with closing(Journal.open(tmp_path / "made" / "journal.db", project="default")) as journal:
        truth = fill(journal)
        journal.write([EventRow(1.0, "last", "what is written last cannot be told from what a power cut tore")])
        files = {name: (tmp_path / "made" / name).read_bytes() for name in ("journal.db", "journal.db-wal")}
        log = places(tmp_path / "made" / "journal.db-wal")
        assert not flipped(tmp_path / "used", files, None, truth)
        found = [flipped(tmp_path / "used", files, at, truth) for at in log]
    assert sum(found) > 0.9 * len(found)
    for size in range(len(files["journal.db-wal"]) - 4000, len(files["journal.db-wal"]), 1000):
        torn = {**files, "journal.db-wal": files["journal.db-wal"][:size]}
        assert not flipped(tmp_path / "used", torn, None, truth)  # only the event is gone


def places(file: Path) -> range:
    size = file.stat().st_size
    return range(0, size, size // NUM_FLIPS)


def flipped(folder: Path, files: Mapping[str, bytes], at: int | None, truth: dict[str, Replay]) -> bool:
    """Put files there, with a bit of the last one changed; whether that is found."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        changed = bytearray(content)
        if at is not None and name == list(files)[-1]:
            changed[at] ^= 1 << at % 8
        (folder / name).write_bytes(changed)
    return any(was_found for _, was_found in what_is_read(folder / "journal.db", truth))


def what_is_read(file: Path, truth: dict[str, Replay]) -> Iterator[tuple[str, bool]]:
    """Each job, and whether its damage was found; fails where damage passes for content."""
    errors: list[HansaError] = []
    try:
        journal = Journal.open(file, project="default")
    except ConfigError as error:
        errors.append(error)
        yield from ((job, True) for job in truth)
    else:
        with closing(journal):
            assert {row.id for row in journal.jobs()} | set(journal.damaged) == set(truth)
            for job, expected in truth.items():
                try:
                    found = journal.replay(job)
                except StoreError as error:
                    errors.append(error)
                    yield job, True
                else:
                    assert found == expected
                    yield job, False
    assert not [error for error in errors if "\n" in str(error)]


# -- locked, full -----------------------------------------------------------------------------------------------------


def test_a_file_that_somebody_else_holds_is_waited_for(file_shelf: Shelf) -> None:
    journal = file_shelf.open()
    other = sqlite3.connect(file_shelf.place, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    outcomes: list[Outcome] = []
    writer = threading.Thread(target=lambda: outcomes.extend(journal.write([result(0)])))
    writer.start()
    other.execute("ROLLBACK")
    writer.join(20)
    other.close()
    assert outcomes == [Outcome.NEW]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_nothing_and_the_next_one_may_work(file_shelf: Shelf) -> None:
    journal = file_shelf.open()
    journal.write([result(0)])
    size = Path(f"{file_shelf.place}-wal").stat().st_size
    for room in (0, 1000, 5000, 20_000):
        with files_end_at(size + room), pytest.raises(StoreError, match="the journal cannot be used: disk I/O error"):
            journal.write([commit(0, state=bytes(100_000)), result(1)])
        assert journal.replay(JOB).results == (result(0),)
    assert journal.write([result(1)]) == [Outcome.NEW]
    assert _again(file_shelf).replay(JOB).results == (result(0), result(1))


def _again(shelf: Shelf) -> Journal:
    shelf.close()
    return shelf.open()


FILL = """
import sys
from pathlib import Path
from hansa.errors import StoreError
from hansa.jobs.journal import Journal
from journal_parts import JOB, commit, result
folder = Path(sys.argv[1])
journal = Journal.open(folder, project="default")
count = 0
try:
    while True:
        journal.write([result(count, parts=(bytes(20_000),))])
        count += 1
except StoreError as error:
    print(error, error.disk_full)
assert count > 5, count
assert len(journal.replay(JOB).results) == count
journal.close()
journal = Journal.open(folder, project="default")  # on the full disk
assert len(journal.replay(JOB).results) == count
(folder / "ballast").unlink()
journal.write([result(count), commit(0)])
journal.close()
journal = Journal.open(folder, project="default")
assert journal.replay(JOB).commit == commit(0)
assert journal.write([result(n) for n in range(count + 1)]).count(journal.write([result(0)])[0]) == count + 1
journal.close()
"""
_MOUNT = 'mount -t tmpfs -o size=2m none "$0" && head -c 1000000 /dev/zero > "$0/ballast" && "$@"'


def test_a_full_disk_is_said_and_what_was_kept_is_kept(tmp_path: Path) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, str(tmp_path)]
    program = [sys.executable, "-W", "error", "-c", FILL, str(tmp_path)]
    paths = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    done = subprocess.run([*command, *program], check=False, capture_output=True, text=True, env=paths, timeout=60)
    assert (done.returncode, done.stdout) == (0, "no space is left for the journal True\n"), done.stderr


def test_a_job_of_many_rounds_does_not_grow(file_shelf: Shelf) -> None:
    journal = file_shelf.open()
    sizes = []
    for version in range(301):
        rows = [decision(version), *(offer(version, site) for site in ("site-1", "site-2"))]
        journal.write([*rows, result(version), result(version, "site-2", parts=(bytes(3000),))])
        journal.write([commit(version, state=bytes(5000)), ForgetRow(JOB, version)])
        if version % 100 == 0:
            sizes.append(file_shelf.tell("PRAGMA page_count")[0][0])
    assert sizes[1] == sizes[2] == sizes[3]


def test_a_place_where_nothing_can_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no journal can be kept here: Not a directory"):
        Journal.open(tmp_path / "file" / "deeper" / "journal.db", project="default")


# -- versions ---------------------------------------------------------------------------------------------------------


META_TABLE = "CREATE TABLE hansa_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc BIGINT NOT NULL)"


def crc(content: str) -> tuple[int]:
    return (zlib.crc32(content.encode()),)


def test_an_older_journal_is_brought_forward_and_a_copy_of_it_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "journal.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(META_TABLE)
        connection.execute("INSERT INTO hansa_meta VALUES ('format_version', '0', ?)", crc("format_version=0"))
    with caplog.at_level(logging.WARNING, "hansa.server"), closing(Journal.open(file, project="default")) as journal:
        assert journal.write([job_row()]) == [Outcome.NEW]
    copy = tmp_path / "journal.db.version-0"
    assert [record.message for record in caplog.records] == [f"{file}: brought to version 1; as it was: {copy}"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"journal.db", "journal.db.lock", "journal.db.version-0"}
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT name, value FROM hansa_meta").fetchall() == [("format_version", "0")]
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (2,)  # the table and its index
    with closing(sqlite3.connect(file)) as connection:
        assert ("format_version", "1") in connection.execute("SELECT name, value FROM hansa_meta").fetchall()
    caplog.clear()
    with closing(Journal.open(file, project="default")) as journal:
        assert journal.jobs() == [job_row()]
    assert not caplog.records


def test_a_journal_of_a_newer_version_is_refused(shelf: Shelf) -> None:
    shelf.open()
    shelf.close()
    change = "UPDATE hansa_meta SET value = '{}', crc = {} WHERE name = 'format_version'"
    shelf.tell(change.format(7, *crc("format_version=7")))
    with pytest.raises(ConfigError, match=r"written by a newer Hansa \(format 7, this one knows 1\)"):
        shelf.open()
    shelf.tell(change.format(1, *crc("format_version=1")))
    assert shelf.open().epoch == 2


def test_steps_are_taken_in_order_and_all_or_none(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.write([job_row()])
    taken: list[int] = []

    def step(number: int, statement: str) -> None:
        steps[number] = lambda connection: (taken.append(number), connection.execute(text(statement)))[0]

    steps = dict(STEPS)
    step(2, "ALTER TABLE hansa_job ADD COLUMN more TEXT")
    step(3, "CREATE TABLE hansa_more (name TEXT)")

    def failing(connection: Connection) -> None:
        migrate(connection, 1, steps=steps)
        raise StoreError("it ends here")

    connection = journal._connection
    with pytest.raises(StoreError, match="it ends here"):
        connection.run(failing)
    assert shelf.tell("SELECT value FROM hansa_meta WHERE name = 'format_version'") == [("1",)]
    connection.run(lambda connection: migrate(connection, 1, steps=steps))
    assert taken == [2, 3, 2, 3]
    assert shelf.tell("SELECT value FROM hansa_meta WHERE name = 'format_version'") == [("3",)]
    assert shelf.tell("SELECT more FROM hansa_job") == [(None,)]


def test_no_space_for_the_copy_leaves_the_old_journal_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(META_TABLE)
        connection.execute("INSERT INTO hansa_meta VALUES ('format_version', '0', ?)", crc("format_version=0"))
    (tmp_path / "journal.db.version-0").mkdir()  # no file can take its place
    with pytest.raises(ConfigError, match="no copy of the journal can be made before it is changed"):
        Journal.open(file, project="default")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT value FROM hansa_meta WHERE name = 'format_version'").fetchone() == ("0",)
