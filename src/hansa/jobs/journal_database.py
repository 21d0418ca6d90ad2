"""How the journal reaches its database, SQLite in a file or PostgreSQL by URL, and what their errors mean."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, StaticPool, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from hansa.errors import ConfigError, MissingExtra
from hansa.jobs.journal_wal import dropped_writes

FILE = "journal.db"
BUSY_S = 5.0
"""How long SQLite itself waits for whoever else holds the file."""

_SQLITE_TRANSIENT = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# A half-open connection ends in half a minute, at both ends, so that a server's lock does not outlive its machine.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
_SESSION = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 4, "lock_timeout": 5000}


class Trouble(Enum):
    """What an error of the database means for who wants to write."""

    TRANSIENT = "away or locked"
    """It may be over in a moment."""
    FULL = "full"
    """There is no space."""
    DAMAGED = "damaged"
    """Pages are not as they were written."""
    FINAL = "final"
    """The same again would end the same."""


@dataclass(frozen=True)
class Database:
    """Where a journal lies.

    Attributes:
        engine: Makes connections.
        place: What people call it; without a password.
        file: The file, of SQLite.
    """

    engine: Engine
    place: str
    file: Path | None = None

    @classmethod
    def locate(cls, url_or_path: str | Path) -> Database:
        """The database that a URL or a path names; a folder stands for the file `journal.db` in it.

        Raises:
            ConfigError: No such kind of database, or its driver is missing.
        """
        if isinstance(url_or_path, str) and "://" in url_or_path:
            try:
                url = make_url(url_or_path)
            except (ArgumentError, ValueError):
                raise ConfigError("the journal's URL cannot be read; like postgresql://user@host/name") from None
            if url.get_backend_name() == "postgresql":
                return cls(_postgresql(url), url.render_as_string(hide_password=True))
            if url.get_backend_name() != "sqlite" or not url.database:
                raise ConfigError(f"no journal can be kept in {url.drivername}: give a path, or postgresql://...")
            url_or_path = url.database
        path = Path(url_or_path)
        # Two names of one file are one journal, and have one lock.
        file = Path(os.path.realpath(path / FILE if path.is_dir() else path))
        return cls(_sqlite(file), str(file), file)


def _sqlite(file: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_S},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver would begin transactions late; so `begin` below says when.
        connection.isolation_level = None
        connection.text_factory = _readable
        cursor = connection.cursor()
        for name, value in (("journal_mode", "WAL"), ("synchronous", "FULL"), ("foreign_keys", "OFF")):
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _readable(text: bytes) -> str:
    """A damaged text is read all the same: its row's checksum says so, and of which job it is."""
    return text.decode("utf-8", "replace")


def _postgresql(url: URL) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MissingExtra("a journal in PostgreSQL", extra="postgres") from None
    arguments = {"connect_timeout": 10, "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items())}
    return create_engine(
        url.set(drivername="postgresql+psycopg"), poolclass=NullPool, connect_args=_KEEPALIVE | arguments
    )


def what_is_wrong(error: DBAPIError) -> Trouble:
    """What an error of the database means."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        primary = code & 0xFF
        if primary in _SQLITE_TRANSIENT:
            return Trouble.TRANSIENT
        if primary == sqlite3.SQLITE_FULL:
            return Trouble.FULL
        return Trouble.DAMAGED if primary in _SQLITE_DAMAGED else Trouble.FINAL
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # no answer of the server: it is away, or was never there
        return Trouble.TRANSIENT if type(error.orig).__name__ in _NO_ANSWER else Trouble.FINAL
    if state == "53100":
        return Trouble.FULL
    if state in ("XX001", "XX002"):
        return Trouble.DAMAGED
    # 08 connection, 25006 read-only (a standby that will be the master), 40 conflict, 53 resources, 55P03 lock,
    # 57 shut down or starting.
    return Trouble.TRANSIENT if state[:2] in ("08", "40", "53", "57") or state in ("25006", "55P03") else Trouble.FINAL


_NO_ANSWER = ("OperationalError", "InterfaceError", "ConnectionTimeout")


def in_one_line(error: DBAPIError) -> str:
    """What the database said."""
    lines = str(error.orig).strip().splitlines()
    return lines[0].strip() if lines else type(error.orig).__name__


def check_file(file: Path) -> None:
    """See that SQLite will not pass over damage: a page that was cut off is filled up, a log read up to a bad frame.

    Raises:
        ConfigError: It would.
    """
    log = Path(f"{file}-wal")
    unfinished = log.exists()  # holds all that a power cut may have left half written in the file
    try:
        with file.open("rb") as stream:
            head = stream.read(18)
        if unfinished and dropped_writes(log):
            raise damaged(str(file), f"{log.name} was changed after it was written")
    except OSError as error:
        raise ConfigError(f"the journal cannot be read: {error.strerror}", file=str(file)) from None
    if head.startswith(b"SQLite format 3\0") and len(head) == 18 and not unfinished:
        page = int.from_bytes(head[16:18], "big")
        page = 65_536 if page == 1 else page
        if page and file.stat().st_size % page:
            raise damaged(str(file), "it was cut off")


def check_integrity(connection: Connection, place: str) -> None:
    """Read the whole of an SQLite file, tables against indexes: each key is kept twice, so one that changed is found.

    Raises:
        ConfigError: Something is not as it was written.
    """
    if connection.dialect.name != "sqlite":
        return
    found = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check(3)"))]
    if found != ["ok"]:
        raise damaged(place, found[0].strip().splitlines()[-1])


def damaged(place: str, what: str) -> ConfigError:
    """The error of a journal that cannot be trusted, with what to do."""
    return ConfigError(
        f"the journal is damaged ({what}): put back a copy of it, or move it away; "
        "jobs that were under way then begin anew",
        file=place,
    )


def make_durable(connection: Connection) -> list[str]:
    """See that a commit in a session of PostgreSQL waits for the disk; SQLite is told when it is opened.

    Returns:
        What an operator should know.
    """
    with connection.begin():
        if connection.execute(text("SHOW synchronous_commit")).scalar_one() == "off":
            connection.execute(text("SET synchronous_commit = on"))
        if connection.execute(text("SHOW fsync")).scalar_one() == "off":
            return ["this PostgreSQL runs with fsync=off: a power cut may lose results that sites were told are kept"]
    return []


def copy_file(file: Path, target: Path) -> None:
    """A copy of an SQLite file as it was last committed, whole or not there.

    Raises:
        ConfigError: There is no space for it, or it cannot be written.
    """
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(fresh)) as copy:
            source.backup(copy)
        fresh.replace(target)
    except (OSError, sqlite3.Error) as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(
            f"no copy of the journal can be made before it is changed: {error}", file=str(target)
        ) from None
