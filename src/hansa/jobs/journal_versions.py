"""Of which version a journal is, and how an older one becomes one of today."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, delete, inspect, select, text

from hansa.errors import ConfigError
from hansa.jobs.journal_database import damaged
from hansa.jobs.journal_tables import META, METADATA

Step = Callable[[Connection], None]


def _to_version_1(connection: Connection) -> None:
    METADATA.create_all(connection)


STEPS: Mapping[int, Step] = {1: _to_version_1}
"""How a journal of the version before becomes one of this version. A step stays as it is once it was released: the
one to version 2 freezes the tables of version 1 here."""
NEWEST = max(STEPS)

_VERSION = "format_version"
_TABLES = "tables"


def stored_version(connection: Connection, place: str) -> int | None:
    """Of which version the journal is; none where there is none yet.

    Raises:
        ConfigError: There are tables, but no journal's; or of a version that this software does not know; or what the
            database says of its tables is not what was written.
    """
    names = set(inspect(connection).get_table_names())
    if META.name not in names:
        if names and connection.dialect.name == "sqlite":
            raise ConfigError(f"is a database, but no journal of Hansa: it has a table {min(names)!r}", file=place)
        return None
    known: dict[str, str] = {}
    for name, value, crc in connection.execute(select(META.c.name, META.c.value, META.c.crc)):
        if crc != _checksum(name, value):
            raise damaged(place, f"{META.name} {name}")
        known[name] = value
    if not known.get(_VERSION, "").isdecimal():
        raise damaged(place, f"{META.name} has no {_VERSION}")
    version = int(known[_VERSION])
    if version > NEWEST:
        raise ConfigError(
            f"the journal was written by a newer Hansa (format {version}, this one knows {NEWEST}): install that one",
            file=place,
        )
    tables = _tables(connection)
    if known.get(_TABLES, tables) != tables:
        raise damaged(place, "its tables are not those that were made")
    return version


def migrate(connection: Connection, version: int | None, *, steps: Mapping[int, Step] = STEPS) -> None:
    """Bring a journal to the newest version, all steps in the transaction that is open."""
    for number in range((version or 0) + 1, max(steps) + 1):
        steps[number](connection)
    found = {_VERSION: str(max(steps)), _TABLES: _tables(connection)}
    connection.execute(delete(META).where(META.c.name.in_(found)))
    rows = [{"name": name, "value": value, "crc": _checksum(name, value)} for name, value in found.items()]
    connection.execute(META.insert(), rows)


def _tables(connection: Connection) -> str:
    """A checksum over SQLite's own description of the tables: a bit of it may make a key a column like others."""
    if connection.dialect.name != "sqlite":
        return ""
    rows = connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")).all()
    return str(zlib.crc32(repr([tuple(row) for row in rows]).encode()))


def _checksum(name: str, value: str) -> int:
    return zlib.crc32(f"{name}={value}".encode())
