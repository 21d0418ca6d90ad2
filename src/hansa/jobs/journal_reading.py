"""What is read from the tables; each row is checked against its checksum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, or_, select

from hansa.jobs import journal_statements as statements
from hansa.jobs.journal_rows import (
    CommitRow,
    DecisionRow,
    FateRow,
    OfferRow,
    Replay,
    ResultRow,
    SiteRow,
    StoredRow,
    TableRow,
)
from hansa.jobs.journal_tables import TABLES, unpack

NO_COMMIT = -1
"""Stands for the version of a job that never committed; models count from 0."""

R = TypeVar("R", bound=StoredRow)


def rows_of(connection: Connection, kind: type[R], *where: ColumnElement[bool], project: str) -> Iterator[R]:
    """Rows in the order in which they were written.

    Raises:
        StoreError: One is damaged.
    """
    table = TABLES[kind]
    query = select(table).where(table.c.project == project, *where).order_by(table.c.epoch, table.c.place)
    for columns in connection.execute(query).mappings():
        yield unpack(kind, dict(columns))


def last_commit(connection: Connection, project: str, *, job: str, up_to: int | None = None) -> CommitRow | None:
    """The last commit of a job, or the last one up to a version.

    Raises:
        StoreError: It is damaged.
    """
    query = statements.last_commit(bounded=up_to is not None)
    columns = connection.execute(query, {"whose": project, "of_job": job, "up_to": up_to}).mappings().first()
    return None if columns is None else unpack(CommitRow, dict(columns))


def replay(connection: Connection, project: str, job: str) -> Replay:
    """What a job goes on from.

    Raises:
        StoreError: A row that it needs is damaged.
    """
    commit = last_commit(connection, project, job=job)

    def of_the_job(kind: type[R]) -> Sequence[R]:
        return list(rows_of(connection, kind, TABLES[kind].c.job == job, project=project))

    def since_the_commit(kind: type[R]) -> Sequence[R]:
        table = TABLES[kind]
        where = [table.c.job == job]
        if commit is not None:
            kept = [statements.under(statements.key_of(kind), task) for task in commit.keeps]
            where.append(or_(table.c.since >= commit.version, *kept))
        return list(rows_of(connection, kind, *where, project=project))

    return Replay(
        commit=commit,
        decisions={row.key: row.value for row in since_the_commit(DecisionRow)},
        offers=tuple(since_the_commit(OfferRow)),
        results=tuple(since_the_commit(ResultRow)),
        fates={row.part: row for row in since_the_commit(FateRow)},
        tables=tuple(of_the_job(TableRow)),
        sites={row.site: row for row in of_the_job(SiteRow)},
    )
