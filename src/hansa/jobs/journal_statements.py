"""The statements of each write, made once: SQLAlchemy takes longer to put one together than SQLite to run it."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Delete, Executable, Select, Table, bindparam, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from hansa.jobs.journal_rows import CommitRow, EventRow, JobRow
from hansa.jobs.journal_tables import KEYS, TABLES


def of_project(table: Table) -> ColumnElement[bool]:
    """The rows of the project that is given as `whose`."""
    return table.c.project == bindparam("whose")


def of_job(table: Table) -> list[ColumnElement[bool]]:
    """The rows of the job that is given as `of_job`, in the project that is given as `whose`."""
    return [of_project(table), table.c["id" if table is TABLES[JobRow] else "job"] == bindparam("of_job")]


def under(key: ColumnElement[str], task: str) -> ColumnElement[bool]:
    """Whether a key is a task's, or that of one of its parts; LIKE would overlook upper and lower case."""
    return or_(key == task, func.substr(key, 1, len(task) + 1) == f"{task}/")


@cache
def insert_new(dialect: str, table: Table) -> Executable:
    """Insert rows where nothing stands under their keys."""
    return _insert(dialect, table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


@cache
def insert_or_replace(dialect: str, table: Table) -> Executable:
    """Insert rows in place of what stands under their keys."""
    statement = _insert(dialect, table)
    change = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=change)


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def last_version() -> Select[Any]:  # Any: SQLAlchemy 2.0 and 2.1 differ in how they say it
    """The version of a job's last commit."""
    table = TABLES[CommitRow]
    return select(func.max(table.c.version)).where(*of_job(table))


@cache
def last_commit(*, bounded: bool) -> Select[Any]:  # Any: as above
    """A job's last commit, or the last one up to the version that is given as `up_to`."""
    table = TABLES[CommitRow]
    bound = [table.c.version <= bindparam("up_to")] if bounded else []
    return select(table).where(*of_job(table), *bound).order_by(table.c.version.desc()).limit(1)


@cache
def delete_older(table: Table) -> Delete:
    """Delete a job's rows from before the version that is given as `before`."""
    return delete(table).where(
        *of_job(table), table.c["version" if table is TABLES[CommitRow] else "since"] < bindparam("before")
    )


@cache
def delete_job(table: Table) -> Delete:
    """Delete a job's rows."""
    return delete(table).where(*of_job(table))


@cache
def delete_events() -> Delete:
    """Delete the events before the number that is given as `before`."""
    table = TABLES[EventRow]
    return delete(table).where(of_project(table), table.c.seq < bindparam("before"))


@cache
def last_event() -> Select[Any]:  # Any: as above
    """The number of the last event."""
    table = TABLES[EventRow]
    return select(func.max(table.c.seq)).where(of_project(table))


@cache
def event_of_key() -> Select[Any]:  # Any: as above
    """The number of the event with the key that is given as `its_key`."""
    table = TABLES[EventRow]
    return select(table.c.seq).where(of_project(table), table.c.key == bindparam("its_key"))


def key_of(kind: type[object]) -> ColumnElement[str]:
    """The column that tells a job's rows apart."""
    return TABLES[kind].c[KEYS[kind][-1]]
