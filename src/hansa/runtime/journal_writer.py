"""Writes the journal beside the event loop: one thread, and one transaction for all that waits when it begins.

What nobody waits for lingers a moment, so that it shares a transaction. A commit makes superfluous what came before it:
where both share a transaction, only the commit is written.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from hansa.errors import HansaError, LostLease, StoreError
from hansa.failpoints import reach
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import CommitRow, DecisionRow, EventRow, OfferRow, Outcome, ResultRow, Row

T = TypeVar("T")
Then = Callable[[Outcome], None]
LINGER_S = 0.02
"""How long a row waits for company."""
_AGAIN_S = 1.0
_MOST_EVENTS = 1000
"""Events that wait for a journal that cannot be written."""

_logger = logging.getLogger("hansa.server")


def open_journal(folder: Path, *, project: str) -> Journal | None:
    """The journal of a server: where `HANSA_JOURNAL` says, or in a folder; None where it says `none`.

    With `HANSA_JOURNAL_KEEPS=all` nothing is ever deleted from it, for those who check what happened.

    Raises:
        ConfigError: Another server has it, it is damaged, or it cannot be reached.
    """
    place = os.environ.get("HANSA_JOURNAL") or folder / "journal.db"
    if place == "none":
        _logger.warning("there is no journal (HANSA_JOURNAL): jobs that run do not survive this server")
        return None
    journal = Journal.open(place, project=project)
    journal.keeps_all = os.environ.get("HANSA_JOURNAL_KEEPS") == "all"
    return journal


@dataclass(frozen=True)
class _Entry:
    row: Row
    then: Then | None
    job: str


@dataclass(frozen=True)
class _Call:
    function: Callable[[Journal], Any]  # Any: what it returns
    done: asyncio.Future[Any]


class JournalWriter:
    """Takes rows from the event loop's thread; says there, in the same order, when they are durable.

    Args:
        journal: Where they go; only the writer's thread uses it from now on.
        on_failure: Told of a job whose rows cannot be written, and why.
    """

    def __init__(self, journal: Journal, on_failure: Callable[[str, StoreError], None]) -> None:
        self.num_transactions = 0
        """How many were written so far."""
        self.num_rows = 0
        """How many rows these had."""
        self._journal = journal
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Entry | _Call] = []
        self._due: float | None = None  # when what waits is written; None: nothing waits
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="hansa-journal")
        self._thread.start()

    def write(self, row: Row, then: Then | None = None, *, job: str = "", linger_s: float = LINGER_S) -> None:
        """Have a row written.

        Args:
            row: The row.
            then: Called on the loop once it is durable.
            job: Whose it is.
            linger_s: How long it may wait for company.
        """
        self._put(_Entry(row, then, job), linger_s)

    async def call(self, function: Callable[[Journal], T]) -> T:
        """Do something with the journal, after all that was written before.

        Raises:
            HansaError: The journal refuses.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._put(_Call(function, done), 0.0)
        return await done

    async def close(self) -> None:
        """Write what is left, and close the journal."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        self._journal.close()

    def _put(self, entry: _Entry | _Call, linger_s: float) -> None:
        with self._changed:
            self._waiting.append(entry)
            due = time.monotonic() + linger_s
            if self._due is None or due < self._due:
                self._due = due
                self._changed.notify()

    # -- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            for kind, group in groupby(batch, type):
                entries = list(group)
                if kind is _Entry:
                    self._write([entry for entry in entries if isinstance(entry, _Entry)])
                else:
                    for entry in entries:
                        self._answer(entry)

    def _next(self) -> list[_Entry | _Call]:
        """What is to be done now; empty when there will be nothing any more."""
        with self._changed:
            while not self._is_closed and (self._due is None or time.monotonic() < self._due):
                self._changed.wait(None if self._due is None else max(0.0, self._due - time.monotonic()))
            batch, self._waiting, self._due = self._waiting, [], None
            return batch

    def _write(self, batch: Sequence[_Entry]) -> None:
        needed = batch if self._journal.keeps_all else _needed(batch)
        try:
            written = self._write_rows([entry.row for entry in needed])
        except StoreError as error:
            jobs = {entry.job for entry in batch} if error.job is None else {error.job}
            if error.job is None:
                self._write_later([entry for entry in needed if isinstance(entry.row, EventRow)])
            self._tell(self._failed, sorted(jobs), error)
            if error.job is not None and (others := [entry for entry in batch if entry.job != error.job]):
                self._write(others)
            return
        except LostLease as error:
            self._tell(self._lost, str(error))
            return
        self.num_transactions += 1
        self.num_rows += len(needed)
        outcomes = {id(entry): outcome for entry, outcome in zip(needed, written, strict=True)}
        told = [(entry.then, outcomes.get(id(entry), Outcome.NEW)) for entry in batch if entry.then is not None]
        if told:
            self._tell(_written, told)

    def _write_later(self, events: Sequence[_Entry]) -> None:
        """What happened while nothing could be written is worth knowing afterwards."""
        with self._changed:
            if self._is_closed or not events:
                return
            self._waiting[:0] = events[-_MOST_EVENTS:]
            self._due = self._due or time.monotonic() + _AGAIN_S

    def _write_rows(self, rows: Sequence[Row]) -> list[Outcome]:
        try:
            reach("disk.journal")
        except OSError as error:
            raise StoreError(str(error.strerror), disk_full=error.errno == errno.ENOSPC) from error
        return self._journal.write(rows)

    def _answer(self, call: Any) -> None:  # Any: a `_Call`
        try:
            answer = call.function(self._journal)
        except HansaError as error:
            self._tell(_fail, call.done, error)
        else:
            self._tell(_succeed, call.done, answer)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:  # Any: what it takes
        self._loop.call_soon_threadsafe(function, *args)

    def _lost(self, cause: str) -> None:
        """Another server owns the journal and its jobs: this one must not go on."""
        _logger.critical("%s; this server stops", cause)
        signal.raise_signal(signal.SIGTERM)

    def _failed(self, jobs: Sequence[str], error: StoreError) -> None:
        _logger.error("the journal cannot be written: %s", error)
        for job in jobs:
            self._on_failure(job, error)


def _needed(batch: Sequence[_Entry]) -> list[_Entry]:
    """All but what a commit after it makes superfluous."""
    last: dict[str, int] = {}
    for index, entry in enumerate(batch):
        if isinstance(entry.row, CommitRow) and not entry.row.keeps:
            last[entry.row.job] = index
    return [
        entry
        for index, entry in enumerate(batch)
        if not (isinstance(entry.row, ResultRow | DecisionRow | OfferRow) and index < last.get(entry.row.job, -1))
    ]


def _written(told: Sequence[tuple[Then, Outcome]]) -> None:
    for then, outcome in told:
        then(outcome)


def _fail(done: asyncio.Future[Any], error: HansaError) -> None:
    if not done.cancelled():
        done.set_exception(error)


def _succeed(done: asyncio.Future[Any], answer: Any) -> None:
    if not done.cancelled():
        done.set_result(answer)
