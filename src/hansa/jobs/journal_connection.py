"""The journal's one connection: taken with the lock, tried again while the database is away, given back at the end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from hansa.errors import ConfigError, LostLease, StoreError
from hansa.jobs.journal_database import (
    Database,
    Trouble,
    check_file,
    check_integrity,
    copy_file,
    damaged,
    in_one_line,
    make_durable,
    what_is_wrong,
)
from hansa.jobs.journal_lease import FileLock, epoch_of, lock_tables, next_epoch, take_advisory_lock
from hansa.jobs.journal_versions import NEWEST, migrate, stored_version

TAKE_OVER_S = 5.0
"""How long a start waits for PostgreSQL's lock: the session of a killed server ends a moment after it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0

T = TypeVar("T")
_log = logging.getLogger("hansa.server")


class JournalConnection:
    """A connection that owns the journal of a project. Threads may share it; they wait for each other.

    Args:
        database: Where the journal lies.
        project: Whose journal it is.
        retry_s: How long to wait, and try again, for a database that is away.
    """

    def __init__(self, database: Database, *, project: str, retry_s: float) -> None:
        self.epoch = 0
        self._database = database
        self._project = project
        self._retry_s = retry_s
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self._file_lock = FileLock(database.file) if database.file else None

    def open(self, *, now: float) -> None:
        """Take the lock, check the journal, bring it to today's version, take the lease.

        Raises:
            ConfigError: Another server owns it; it is of a newer version; damaged; or cannot be reached.
        """
        place = self._database.place
        if self._file_lock is not None:
            self._file_lock.take()
            check_file(self._file_lock.file)
        try:
            connection = self._connect(min(TAKE_OVER_S, self._retry_s))
            with connection.begin():
                check_integrity(connection, place)
                lock_tables(connection)
                self._migrate(connection)
                self.epoch = next_epoch(connection, self._project, now=now, place=place)
        except _LockTaken:
            message = f"another server that runs keeps the journal of project {self._project!r} here"
            raise ConfigError(message, file=place) from None
        except UnicodeDecodeError:  # SQLite quotes from tables that nobody wrote so
            raise damaged(place, "malformed database schema") from None
        except DBAPIError as error:
            if what_is_wrong(error) is Trouble.DAMAGED:
                raise damaged(place, in_one_line(error)) from None
            raise ConfigError(f"the journal cannot be opened: {in_one_line(error)}", file=place) from None

    def run(self, act: Callable[[Connection], T]) -> T:
        """Do something in a transaction; again from the start, if the database was away.

        Args:
            act: It must bear that an attempt before it was committed, and nobody heard of it.

        Raises:
            LostLease: Another server has taken over.
            StoreError: It cannot be done, or not in time.
        """
        with self._lock:
            until = time.monotonic() + self._retry_s
            pause_s = _FIRST_PAUSE_S
            while True:
                try:
                    connection = self._connect(_LONGEST_PAUSE_S)
                    with connection.begin():
                        return act(connection)
                except _LockTaken as error:
                    reason = str(error)
                except DBAPIError as error:
                    reason = in_one_line(error)
                    self._judge(error)
                if self._closing.is_set() or time.monotonic() + pause_s > until:
                    raise StoreError(f"the journal cannot be reached: {reason}")
                if pause_s == _FIRST_PAUSE_S:
                    _log.warning("the journal is away, and tried again for %g s: %s", self._retry_s, reason)
                self._closing.wait(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Give the journal back; what is tried again meanwhile ends."""
        self._closing.set()
        with self._lock:
            self._drop()
            self._database.engine.dispose()
            if self._file_lock is not None:
                self._file_lock.release()

    def _judge(self, error: DBAPIError) -> None:
        """Let go of a connection that may be broken; return only if it is worth trying again."""
        if self._database.file is None:
            self._drop()
        wrong = what_is_wrong(error)
        if wrong is Trouble.FULL:
            raise StoreError("no space is left for the journal", disk_full=True) from None
        if wrong is not Trouble.TRANSIENT:
            raise StoreError(f"the journal cannot be used: {in_one_line(error)}") from None

    def _connect(self, wait_s: float) -> Connection:
        if self._connection is not None:
            return self._connection
        if self._closing.is_set():
            raise StoreError("the journal is closed")
        connection = self._database.engine.connect()
        try:
            if self._database.file is None:
                self._settle(connection, wait_s)
            self._connection = connection
        finally:
            if self._connection is None:
                _close(connection)
        return connection

    def _settle(self, connection: Connection, wait_s: float) -> None:
        """Make a session of PostgreSQL one that owns the journal."""
        for warning in make_durable(connection):
            _log.warning("%s: %s", self._database.place, warning)
        newer = epoch_of(connection, self._project) if self.epoch else 0
        if newer > self.epoch:
            raise LostLease(self.epoch, newer=newer)
        if not take_advisory_lock(connection, self._project, wait_s=wait_s):
            raise _LockTaken  # by a server that just starts, or by this one's own last session, not yet ended

    def _drop(self) -> None:
        if self._connection is not None:
            _close(self._connection)
            self._connection = None

    def _migrate(self, connection: Connection) -> None:
        version = stored_version(connection, self._database.place)
        if version == NEWEST:
            return
        if version is not None and self._database.file is not None:
            copy = self._database.file.with_name(f"{self._database.file.name}.version-{version}")
            copy_file(self._database.file, copy)
            _log.warning("%s: brought to version %d; as it was: %s", self._database.place, NEWEST, copy)
        elif version is not None:
            _log.warning(
                "%s: brought to version %d without a copy: PostgreSQL's backups are its operator's",
                self._database.place,
                NEWEST,
            )
        migrate(connection, version)


class _LockTaken(Exception):
    """Somebody else has the lock of PostgreSQL."""

    def __init__(self) -> None:
        super().__init__("another session has its lock")


def _close(connection: Connection) -> None:
    with suppress(DBAPIError):  # it is broken already
        connection.close()
