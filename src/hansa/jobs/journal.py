"""The server's journal: what must be known again after a crash. What `write` returned from is durable.

::

    with closing(Journal.open(folder / "journal.db", project="default")) as journal:
        journal.write([ResultRow(...), FateRow(...), CommitRow(...)])    # one transaction, one wait for the disk
        journal.replay("0001-digits")                                    # what the job goes on from

It lies in an SQLite file, or in PostgreSQL (`postgresql://user@host/name`). One server owns it; see `journal_lease`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, select

from hansa.errors import StoreError
from hansa.jobs.journal_connection import JournalConnection
from hansa.jobs.journal_database import Database
from hansa.jobs.journal_lease import claim
from hansa.jobs.journal_reading import last_commit, replay, rows_of
from hansa.jobs.journal_rows import (
    CommitRow,
    EventRow,
    ForgetRow,
    JobRow,
    Outcome,
    PurgeRow,
    Replay,
    ResultRow,
    Row,
    TransitionRow,
)
from hansa.jobs.journal_tables import TABLES, unpack
from hansa.jobs.journal_writing import Writing

RETRY_S = 30.0
"""How long a write waits for a database that is away: the time in which one restarts."""


class Journal:
    """Writes and reads the journal, blocking. Threads may share it; they wait for each other.

    Args:
        connection: To where it lies, opened.
        project: Whose rows it writes and sees.
    """

    def __init__(self, connection: JournalConnection, *, project: str) -> None:
        self.damaged: dict[str, str] = {}
        """Jobs whose own row cannot be read, and why; `jobs` leaves them out."""
        self._connection = connection
        self._project = project
        self._lock = threading.Lock()
        self._entry = 0
        self.keeps_all = False
        """Whether nothing is forgotten or purged: for those who look at what happened."""
        self._versions: dict[str, int] = {}

    @property
    def epoch(self) -> int:
        """How many servers have owned it, this one counted."""
        return self._connection.epoch

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        project: str,
        now: Callable[[], float] = time.time,
        retry_s: float = RETRY_S,
    ) -> Journal:
        """Take possession of a journal; made if need be, brought to today's version, checked.

        Args:
            url_or_path: A file, a folder (its `journal.db`), or a URL of PostgreSQL.
            project: Whose rows it writes and sees.
            now: Seconds since 1970.
            retry_s: How long to wait, and try again, for a database that is away.

        Raises:
            ConfigError: Another server owns it; it is of a newer version; damaged; or cannot be reached.
        """
        connection = JournalConnection(Database.locate(url_or_path), project=project, retry_s=retry_s)
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.open(now=now())
            stack.pop_all()
        return cls(connection, project=project)

    def close(self) -> None:
        """Let go of it; a write that is tried again meanwhile ends."""
        self._connection.close()

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row]) -> list[Outcome]:
        """Write rows, all or none, in this order; durable when it returns.

        Returns:
            What became of each.

        Raises:
            LostLease: Another server has taken over.
            StoreError: Nothing was written; `job` says whose row was wrong, where one was; `disk_full`, that room
                would help. Only if the connection was lost over the last attempt may it have come through.
        """
        if not rows:
            return []
        with self._lock:
            self._entry += 1
            stamp: dict[str, str | int] = {"project": self._project, "epoch": self.epoch}
            outcomes: list[Outcome] = []
            # Until this is over, nobody knows: the last attempt of a write that fails may have come through.
            known, self._versions = self._versions, {}
            versions = known

            def act(connection: Connection) -> None:
                nonlocal outcomes, versions
                if claim(connection, self._project, epoch=self.epoch, entry=self._entry):
                    writing = Writing(connection, stamp, entry=self._entry, versions=known, keeps_all=self.keeps_all)
                    outcomes, versions = writing.apply(rows), writing.versions

            self._connection.run(act)
            self._versions = versions
            return outcomes

    def forget(self, job: str, *, up_to_version: int) -> None:
        """Delete what the commits up to a version are over with; a `ForgetRow` does the same.

        That is what was offered, decided and received before the last one of them, but for the tasks that it keeps,
        and all commits before it.
        """
        self.write([ForgetRow(job, up_to_version)])

    def purge(self, job: str) -> None:
        """Delete all of a job. A `PurgeRow` does the same."""
        self.write([PurgeRow(job)])

    # -- reading ------------------------------------------------------------------------------------------------------

    def jobs(self) -> list[JobRow]:
        """All jobs, by number; those that cannot be read stand in `damaged`."""
        table = TABLES[JobRow]

        def act(connection: Connection) -> list[JobRow]:
            found: list[JobRow] = []
            self.damaged = {}
            query = select(table).where(table.c.project == self._project).order_by(table.c.number)
            for columns in connection.execute(query).mappings():
                try:
                    row = unpack(JobRow, dict(columns))
                except StoreError as error:
                    self.damaged[str(columns["id"])] = error.cause
                else:
                    found.append(row)
            return found

        return self._connection.run(act)

    def transitions(self, job: str) -> list[TransitionRow]:
        """The states that a job had, in order."""
        where = TABLES[TransitionRow].c.job == job
        found = self._connection.run(lambda c: list(rows_of(c, TransitionRow, where, project=self._project)))
        return sorted(found, key=lambda row: row.seq)

    def replay(self, job: str) -> Replay:
        """What a job goes on from: its last commit, and what was offered, decided and received since.

        Raises:
            StoreError: A row that it needs is damaged; other jobs are not touched by it.
        """
        return self._connection.run(lambda connection: replay(connection, self._project, job))

    def events(self, *, job: str | None = None, since: int = 0) -> list[EventRow]:
        """Events after a number, all or those of a job."""
        table = TABLES[EventRow]
        where = [table.c.seq > since] + ([] if job is None else [table.c.job == job])
        return self._connection.run(
            lambda connection: list(rows_of(connection, EventRow, *where, project=self._project))
        )

    def blobs_in_use(self, job: str) -> set[str]:
        """The files that a job's rows refer to; every other one may go."""

        def act(connection: Connection) -> set[str]:
            results = rows_of(connection, ResultRow, TABLES[ResultRow].c.job == job, project=self._project)
            used = {blob.name for row in results for blob in row.blobs}
            commits = rows_of(connection, CommitRow, TABLES[CommitRow].c.job == job, project=self._project)
            return used | {name for row in commits if row.file is not None for name in row.file.split("\n")}

        return self._connection.run(act)

    def last_commit(self, job: str) -> CommitRow | None:
        """The last commit of a job.

        Raises:
            StoreError: It is damaged.
        """
        return self._connection.run(lambda connection: last_commit(connection, self._project, job=job))
