"""A journal in PostgreSQL, while the database is restarted, cut off or gone."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from hansa.errors import ConfigError, StoreError
from hansa.jobs.journal import Journal
from hansa.jobs.journal_connection import JournalConnection
from hansa.jobs.journal_database import Database
from hansa.jobs.journal_rows import Outcome
from journal_parts import JOB, Shelf, commit, job_row, result
from postgres import Postgres

CUT = "SELECT pg_terminate_backend(pg_backend_pid())"


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_made_once(postgres_shelf: Shelf, committed: bool) -> None:
    database = Database.locate(postgres_shelf.place)
    connection = JournalConnection(database, project="default", retry_s=10.0)
    connection.open(now=0.0)
    dialect, tries = database.engine.dialect, []

    def do_commit(session: Any) -> None:
        tries.append(session)
        if len(tries) == 1 and not committed:
            session.cursor().execute(CUT)
        session.commit()
        if len(tries) == 1:
            session.cursor().execute(CUT)

    dialect.do_commit = do_commit  # type: ignore[method-assign]
    with closing(Journal(connection, project="default")) as journal:
        outcomes = journal.write([result(0), result(0, digest="other"), commit(0)])
        assert outcomes == [Outcome.NEW, Outcome.ALTERED, Outcome.NEW]
        assert journal.write([result(1), commit(0)]) == [Outcome.NEW, Outcome.SAME]
        assert journal.replay(JOB).results == (result(1),)
        assert postgres_shelf.tell("SELECT count(*) FROM hansa_result") == [(2,)]
    # the lock of a new session and the first write again, or only the lock: its entry says that it stands
    assert len(tries) >= 4


def test_a_commit_that_nobody_heard_of_is_found_by_the_next_write(postgres_shelf: Shelf) -> None:
    database = Database.locate(postgres_shelf.place)
    connection = JournalConnection(database, project="default", retry_s=0.0)
    connection.open(now=0.0)
    tries: list[Any] = []

    def do_commit(session: Any) -> None:
        session.commit()
        tries.append(session)
        if len(tries) == 2:
            session.cursor().execute(CUT)

    database.engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
    with closing(Journal(connection, project="default")) as journal:
        journal.write([commit(0)])
        with pytest.raises(StoreError, match="cannot be reached: terminating connection"):
            journal.write([commit(1), result(2)])
        assert journal.write([commit(1), result(2), commit(2)]) == [Outcome.SAME, Outcome.SAME, Outcome.NEW]


def test_a_session_that_was_cut_is_replaced(postgres_shelf: Shelf, postgres: Postgres) -> None:
    journal = postgres_shelf.open()
    for number in range(3):
        assert postgres.end_sessions(postgres_shelf.place) == 1
        assert journal.write([result(number)]) == [Outcome.NEW]
        postgres.end_sessions(postgres_shelf.place)
        assert len(journal.replay(JOB).results) == number + 1


def test_a_write_that_is_cut_in_the_middle_is_made_again(postgres_shelf: Shelf, postgres: Postgres) -> None:
    journal = postgres_shelf.open()
    journal.write([result(0)])
    outcomes: list[Outcome] = []
    with locked(postgres_shelf, "hansa_result"):
        writer = threading.Thread(target=lambda: outcomes.extend(journal.write([commit(0), result(1)])))
        writer.start()
        wait_for_a_waiter(postgres_shelf)
        postgres.end_sessions(postgres_shelf.place)  # the blocker, too
    writer.join(20)
    assert outcomes == [Outcome.NEW, Outcome.NEW]
    assert journal.replay(JOB).results == (result(1),)


@contextmanager
def locked(shelf: Shelf, table: str) -> Iterator[None]:
    blocker = psycopg.connect(shelf.place)
    try:
        blocker.execute(f"LOCK TABLE {table}".encode())
        yield
    finally:
        blocker.close()


def wait_for_a_waiter(shelf: Shelf) -> None:
    """Until somebody waits for a lock on a table."""
    deadline = time.monotonic() + 20
    while shelf.tell("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
        assert time.monotonic() < deadline


def test_a_database_that_restarts_is_waited_for(
    postgres_shelf: Shelf, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    journal = postgres_shelf.open()
    journal.write([job_row(), result(0)])
    postgres.halt()
    starter = threading.Thread(target=postgres.start)
    starter.start()
    with caplog.at_level(logging.WARNING, "hansa.server"):
        assert journal.write([result(1)]) == [Outcome.NEW]
    starter.join()
    assert journal.replay(JOB).results == (result(0), result(1))
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the journal is away, and tried again for 30 s"
    ]


def test_a_database_that_stays_away_is_said_in_one_line_and_may_come_back(
    postgres_shelf: Shelf, postgres: Postgres
) -> None:
    journal = postgres_shelf.open(retry_s=0.2)
    journal.write([result(0)])
    postgres.halt()
    try:
        with pytest.raises(StoreError, match="the journal cannot be reached: connection") as info:
            journal.write([result(1)])
        assert "\n" not in str(info.value)
        with pytest.raises(
            ConfigError, match=r"postgresql://hansa@/fresh\d+.*the journal cannot be opened: connection"
        ):
            Shelf(postgres_shelf.place).open()
    finally:
        postgres.start()
    assert journal.write([result(2)]) == [Outcome.NEW]
    assert journal.replay(JOB).results == (result(0), result(2))


def test_a_writer_that_waits_ends_when_the_journal_is_closed(postgres_shelf: Shelf, postgres: Postgres) -> None:
    journal = postgres_shelf.open(retry_s=3600.0)
    errors: list[StoreError] = []

    def write() -> None:
        try:
            journal.write([result(1)])
        except StoreError as error:
            errors.append(error)

    postgres.halt()
    try:
        writer = threading.Thread(target=write)
        writer.start()
        journal.close()
        writer.join(20)
        assert len(errors) == 1
    finally:
        postgres.start()


def test_a_password_is_not_in_the_message(postgres: Postgres) -> None:
    with pytest.raises(ConfigError) as info:
        Journal.open(f"postgresql://hansa:s3cret@/nowhere?host={postgres.folder}", project="default")
    assert "s3cret" not in str(info.value)
    assert "nowhere" in str(info.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/name", "no journal can be kept in mysql: give a path, or postgresql://..."),
        ("postgresql://host:port/name", "the journal's URL cannot be read; like postgresql://user@host/name"),
        ("sqlite://", "no journal can be kept in sqlite"),
    ],
)
def test_other_databases_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Journal.open(url, project="default")


def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(
    postgres_shelf: Shelf, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    name = postgres_shelf.place.partition("@/")[2].partition("?")[0]
    postgres.tell(f"ALTER DATABASE {name} SET synchronous_commit = off")
    journal = postgres_shelf.open()
    shown = journal.write([job_row()]) and postgres_shelf.tell("SHOW synchronous_commit")
    assert shown == [("off",)]  # for others
    assert setting(journal) == "on"
    assert postgres.end_sessions(postgres_shelf.place)
    assert setting(journal) == "on"  # of a new session, too
    assert not [record for record in caplog.records if "fsync" in record.message]


def setting(journal: Journal) -> str:
    found = journal._connection.run(lambda c: c.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    return str(found)


def test_a_server_that_does_not_wait_for_its_disk_is_reported(
    postgres_shelf: Shelf, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    reload(postgres, "ALTER SYSTEM SET fsync = off", "off")
    try:
        with caplog.at_level(logging.WARNING, "hansa.server"):
            postgres_shelf.open()
    finally:
        reload(postgres, "ALTER SYSTEM RESET fsync", "on")
    assert ["fsync=off: a power cut may lose results" in record.message for record in caplog.records] == [True]


def reload(postgres: Postgres, change: str, expected: str) -> None:
    postgres.tell(change)
    postgres.tell("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 20
    while postgres.tell("SHOW fsync") != [(expected,)]:
        assert time.monotonic() < deadline
