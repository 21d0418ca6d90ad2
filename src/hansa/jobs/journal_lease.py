"""Who owns a journal: a lock that one process holds, and an epoch that fences off whoever held it before.

The lock (of the file beside SQLite's, or an advisory one of PostgreSQL's session) keeps a second server from starting.
It cannot stop a server that was asleep, or cut off, while another took its place; so each write claims the lease's row
in its own transaction, and fails where a newer epoch stands there. The row also bears the number of the epoch's last
write: after a lost connection it tells whether that write was committed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import zlib
from pathlib import Path

from sqlalchemy import Connection, bindparam, func, select, text
from sqlalchemy.exc import DBAPIError

from hansa.errors import ConfigError, LostLease
from hansa.jobs.journal_database import damaged
from hansa.jobs.journal_tables import LEASE

_MIGRATING = int.from_bytes(hashlib.sha256(b"hansa journal: tables").digest()[:8], "big", signed=True)


class FileLock:
    """The lock of a journal in a file.

    Args:
        file: The journal; the lock is a file beside it, which stays.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock: int | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            ConfigError: Somebody has it, or there can be no such file.
        """
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.file.with_name(f"{self.file.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise ConfigError(f"no journal can be kept here: {error.strerror}", file=str(self.file)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))  # what SQLite makes beside it is like it
        except BlockingIOError:
            os.close(lock)
            raise ConfigError("another server that runs keeps its journal here", file=str(self.file)) from None
        except OSError as error:
            os.close(lock)
            raise ConfigError(f"no journal can be kept here: {error.strerror}", file=str(self.file)) from None
        self._lock = lock

    def release(self) -> None:
        """Give it back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def take_advisory_lock(connection: Connection, project: str, *, wait_s: float) -> bool:
    """Take PostgreSQL's lock of a project for as long as the connection lives.

    Args:
        connection: Without a transaction.
        project: Whose journal it is; several may share a database.
        wait_s: How long to wait: the session of a server that was killed ends a moment after it.

    Returns:
        Whether nobody else has it.
    """
    content = f"hansa journal of {project}".encode()
    key = int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)
    try:
        with connection.begin():
            connection.execute(text(f"SET LOCAL lock_timeout = {max(1, int(wait_s * 1000))}"))
            connection.execute(select(func.pg_advisory_lock(key)))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":
            return False
        raise
    return True


def lock_tables(connection: Connection) -> None:
    """Let only one server at a time change tables, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))


def next_epoch(connection: Connection, project: str, *, now: float, place: str) -> int:
    """Take the lease: from here on whoever had it cannot write.

    Raises:
        ConfigError: The last epoch is not as it was written.
    """
    mine = LEASE.c.project == project
    last = connection.execute(select(LEASE.c.epoch, LEASE.c.crc).where(mine).with_for_update()).first()
    if last is not None and last.crc != _checksum(project, last.epoch):
        raise damaged(place, "the lease")
    epoch = 1 if last is None else last.epoch + 1
    values = {"epoch": epoch, "entry": 0, "owner": f"{socket.gethostname()}:{os.getpid()}", "taken_at": now}
    values["crc"] = _checksum(project, epoch)
    if last is None:
        connection.execute(LEASE.insert(), {"project": project} | values)
    else:
        connection.execute(LEASE.update().where(mine).values(**values))
    return epoch


def _checksum(project: str, epoch: int) -> int:
    return zlib.crc32(f"{project}={epoch}".encode())


_CLAIM = (
    LEASE.update()
    .where(LEASE.c.project == bindparam("whose"), LEASE.c.epoch == bindparam("mine"), LEASE.c.entry < bindparam("next"))
    .values(entry=bindparam("next"))
)
_STANDS = select(LEASE.c.epoch, LEASE.c.entry).where(LEASE.c.project == bindparam("whose"))


def claim(connection: Connection, project: str, *, epoch: int, entry: int) -> bool:
    """Claim the lease for a write; nobody else can take it until the transaction ends.

    Args:
        connection: In the transaction of the write.
        project: Whose journal it is.
        epoch: Of this server.
        entry: The number of the write.

    Returns:
        Whether the write is to be made: not if an attempt before this one was committed after all.

    Raises:
        LostLease: Another server has the lease.
    """
    if connection.execute(_CLAIM, {"whose": project, "mine": epoch, "next": entry}).rowcount == 1:
        return True
    stands = connection.execute(_STANDS, {"whose": project}).one()
    if stands.epoch != epoch:
        raise LostLease(epoch, newer=stands.epoch)
    return False


def epoch_of(connection: Connection, project: str) -> int:
    """The epoch that stands in the lease."""
    with connection.begin():
        return int(connection.execute(_STANDS, {"whose": project}).one().epoch)
