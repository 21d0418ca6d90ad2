"""What one write does to the tables, inside its transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, cast

from sqlalchemy import Connection, not_, select

from hansa.errors import StoreError
from hansa.jobs import journal_statements as statements
from hansa.jobs.journal_reading import NO_COMMIT, last_commit
from hansa.jobs.journal_rows import (
    CommitRow,
    DecisionRow,
    EventRow,
    FateRow,
    ForgetRow,
    JobRow,
    OfferRow,
    Outcome,
    PurgeRow,
    ResultRow,
    Row,
    SiteRow,
    StoredRow,
    TableRow,
    TransitionRow,
)
from hansa.jobs.journal_tables import KEYS, PLACES_OF_A_WRITE, TABLES, check_key, pack

Columns = dict[str, Any]  # Any: what columns hold
Key = tuple[Any, ...]  # Any: as above; the job stands first

_LAST_WINS = {JobRow, FateRow, SiteRow}
_SAME_IF: Mapping[type[StoredRow], tuple[str, ...]] = {
    TransitionRow: ("state",),
    DecisionRow: ("value",),
    OfferRow: ("task", "site", "version"),
    ResultRow: ("digest",),
    TableRow: (),  # its key is its digest
}
"""Where the first row of a key holds: what another one has in common with it if it is the same."""
_FORGOTTEN = (ResultRow, OfferRow, DecisionRow, FateRow)
_AT_ONCE = 500
"""Keys asked for in one statement; SQLite allows 32,766 values in one."""
MOST_EVENTS = 10_000
"""Events that a project keeps; older ones go, some at a time."""
_EVENTS_AT_ONCE = 100


class Writing:
    """One transaction that writes rows, in their order.

    Args:
        connection: In a transaction in which the lease was claimed.
        stamp: The project and the epoch.
        entry: The number of the write.
        versions: The last commit of each job, as far as known.
        keeps_all: Delete nothing but events.
    """

    def __init__(
        self,
        connection: Connection,
        stamp: Mapping[str, str | int],
        *,
        entry: int,
        versions: Mapping[str, int],
        keeps_all: bool = False,
    ) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._stamp = stamp
        self._entry = entry
        self._keeps_all = keeps_all
        self.versions = dict(versions)
        """The last commit of each job, once this is committed."""
        self._index = 0

    def apply(self, rows: Sequence[Row]) -> list[Outcome]:
        """Write all of them.

        Returns:
            What became of each.

        Raises:
            StoreError: A commit would go back, or a key cannot be kept.
        """
        for row in rows:
            if not isinstance(row, ForgetRow | PurgeRow):
                check_key(row)
        outcomes: list[Outcome] = []
        for (kind, _), group in groupby(rows, key=lambda row: (type(row), getattr(row, "job", None))):
            if kind is EventRow or kind in (CommitRow, ForgetRow, PurgeRow):
                outcomes += [self._one(row) for row in group]
            elif kind in _LAST_WINS:
                outcomes += self._last_wins(cast("type[StoredRow]", kind), cast("list[StoredRow]", list(group)))
            else:
                outcomes += self._first_wins(cast("type[StoredRow]", kind), cast("list[StoredRow]", list(group)))
        return outcomes

    def _one(self, row: Row) -> Outcome:
        if isinstance(row, CommitRow):
            return self._commit(row)
        if isinstance(row, EventRow):
            return self._event(row)
        if isinstance(row, ForgetRow) and not self._keeps_all:
            self._forget(row)
        elif isinstance(row, PurgeRow) and not self._keeps_all:
            self._purge(row)
        return Outcome.NEW

    def _columns(self, row: StoredRow) -> Columns:
        stamp = {**self._stamp, "place": self._entry * PLACES_OF_A_WRITE + self._index}
        self._index += 1
        if isinstance(row, _FORGOTTEN):
            stamp["since"] = self._version(row.job)
        return pack(row, stamp)

    def _version(self, job: str) -> int:
        if job not in self.versions:
            found = self._connection.execute(statements.last_version(), self._of(job)).scalar()
            self.versions[job] = NO_COMMIT if found is None else found
        return self.versions[job]

    def _of(self, job: str) -> dict[str, str | int]:
        return {"whose": self._stamp["project"], "of_job": job}

    # -- the kinds ----------------------------------------------------------------------------------------------------

    def _last_wins(self, kind: type[StoredRow], rows: Sequence[StoredRow]) -> list[Outcome]:
        packed = {tuple(getattr(row, name) for name in KEYS[kind]): self._columns(row) for row in rows}
        self._connection.execute(statements.insert_or_replace(self._dialect, TABLES[kind]), list(packed.values()))
        return [Outcome.NEW] * len(rows)

    def _first_wins(self, kind: type[StoredRow], rows: Sequence[StoredRow]) -> list[Outcome]:
        packed: dict[Key, Columns] = {}
        for row in rows:
            key = tuple(getattr(row, name) for name in KEYS[kind])
            if key not in packed:
                packed[key] = self._columns(row)
        statement = statements.insert_new(self._dialect, TABLES[kind])
        fresh = self._connection.execute(statement, list(packed.values())).rowcount == len(packed)
        # Who is first in a write, and finds nobody there, has its own place; ask only if somebody was there.
        places = {key: columns["place"] for key, columns in packed.items()}
        standing = {} if fresh else self._standing(kind, list(packed))
        outcomes: list[Outcome] = []
        for row in rows:
            key = tuple(getattr(row, name) for name in KEYS[kind])
            mine = places.pop(key, None)
            stands = standing.get(key, packed[key])
            if mine is not None and (stands["epoch"], stands["place"]) == (self._stamp["epoch"], mine):
                outcomes.append(Outcome.NEW)
            else:
                same = all(getattr(row, name) == stands[name] for name in _SAME_IF[kind])
                outcomes.append(Outcome.SAME if same else Outcome.ALTERED)
        return outcomes

    def _standing(self, kind: type[StoredRow], keys: Sequence[Key]) -> dict[Key, Columns]:
        """What stands under keys of one job: what tells whether it is the same, and when it was written."""
        table, last = TABLES[kind], KEYS[kind][-1]
        wanted = [table.c[name] for name in (*KEYS[kind], *_SAME_IF[kind], "epoch", "place")]
        values = sorted({key[-1] for key in keys})
        found: dict[Key, Columns] = {}
        for begin in range(0, len(values), _AT_ONCE):
            some = [table.c.job == keys[0][0], table.c[last].in_(values[begin : begin + _AT_ONCE])]
            query = select(*wanted).where(table.c.project == self._stamp["project"], *some)
            for one in self._connection.execute(query).mappings():
                found[tuple(one[name] for name in KEYS[kind])] = dict(one)
        return found

    def _commit(self, row: CommitRow) -> Outcome:
        last = self._version(row.job)
        if row.version > last:
            self._connection.execute(TABLES[CommitRow].insert(), self._columns(row))
            self.versions[row.job] = row.version
            return Outcome.NEW
        table = TABLES[CommitRow]
        query = select(table.c.digest).where(*statements.of_job(table), table.c.version == row.version)
        digest = self._connection.execute(query, self._of(row.job)).scalar()
        if digest != row.digest:
            is_other = f"is committed as {digest}" if digest else f"comes after version {last}"
            raise StoreError(f"rounds only go forward: version {row.version} {is_other}", job=row.job)
        return Outcome.SAME

    def _event(self, row: EventRow) -> Outcome:
        whose = {"whose": self._stamp["project"]}
        if row.key is not None:
            found = self._connection.execute(statements.event_of_key(), {**whose, "its_key": row.key}).scalar()
            if found is not None:
                return Outcome.SAME
        last = self._connection.execute(statements.last_event(), whose).scalar()
        key = row.key or f"{self._stamp['epoch']}.{self._entry}.{self._index}"
        numbered = EventRow(row.at, row.code, row.text, row.job, row.site, key=key, seq=(last or 0) + 1)
        self._connection.execute(TABLES[EventRow].insert(), self._columns(numbered))
        if numbered.seq % _EVENTS_AT_ONCE == 0:
            self._connection.execute(statements.delete_events(), {**whose, "before": numbered.seq - MOST_EVENTS})
        return Outcome.NEW

    # -- what goes ----------------------------------------------------------------------------------------------------

    def _forget(self, row: ForgetRow) -> None:
        project = str(self._stamp["project"])
        commit = last_commit(self._connection, project, job=row.job, up_to=row.up_to_version)
        if commit is None:
            return
        values = {**self._of(row.job), "before": commit.version}
        for kind in _FORGOTTEN:
            kept = [not_(statements.under(statements.key_of(kind), task)) for task in commit.keeps]
            statement = statements.delete_older(TABLES[kind])
            self._connection.execute(statement.where(*kept) if kept else statement, values)
        self._connection.execute(statements.delete_older(TABLES[CommitRow]), values)

    def _purge(self, row: PurgeRow) -> None:
        kept = (EventRow, JobRow, TransitionRow) if row.keeps_record else (EventRow,)
        for kind, table in TABLES.items():
            if kind not in kept:  # an operator may want to know later what happened
                self._connection.execute(statements.delete_job(table), self._of(row.job))
        self.versions[row.job] = NO_COMMIT
