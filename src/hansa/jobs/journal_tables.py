"""The journal's tables, and how a value becomes a row and back.

Every row bears its project, the epoch of the server that wrote it, its place in the order of writing, and a checksum
over all of these and its content: a database finds damage of its own pages at best, and a flipped bit in a weight is a
valid number. The checksum goes over the key too, so a row cannot pass for another.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.sql.type_api import TypeEngine

from hansa.errors import StoreError
from hansa.jobs.journal_rows import (
    CommitRow,
    DecisionRow,
    EventRow,
    FateRow,
    JobRow,
    KeptBlob,
    OfferRow,
    ResultRow,
    SiteRow,
    StoredRow,
    TableRow,
    TransitionRow,
)

PLACES_OF_A_WRITE = 1 << 20
"""A row's place is the number of the write times this, and its index there."""

METADATA = MetaData()

META = Table(
    "hansa_meta",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("crc", BigInteger, nullable=False),
)

LEASE = Table(
    "hansa_lease",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("entry", BigInteger, nullable=False),  # the last write of this epoch
    Column("owner", Text, nullable=False),
    Column("taken_at", Double, nullable=False),
    Column("crc", BigInteger, nullable=False),  # of project and epoch
)

R = TypeVar("R", bound=StoredRow)

_PACKED = ("sites", "parts", "blobs", "keeps")
_KINDS: dict[object, type[TypeEngine[Any]]] = {  # Any: SQLAlchemy's own parameter
    "str": Text,
    "int": BigInteger,
    "float": Double,
    "bytes": LargeBinary,
    "tuple[bytes, ...]": LargeBinary,
}


def _table(name: str, kind: type[StoredRow], *keys: str, more: Sequence[str] = ()) -> Table:
    columns: list[Column[Any]] = [Column("project", Text, primary_key=True)]
    columns += [Column(key, _type(kind, key), primary_key=True, autoincrement=False) for key in keys]
    others = [field.name for field in fields(kind) if field.name not in keys]
    columns += [Column(key, _type(kind, key), nullable=True) for key in others]
    columns += [Column(key, BigInteger, nullable=False) for key in (*more, "epoch", "place", "crc")]
    return Table(name, METADATA, *columns)


def _type(kind: type[StoredRow], name: str) -> type[TypeEngine[Any]]:  # Any: SQLAlchemy's own parameter
    annotation = str(next(field.type for field in fields(kind) if field.name == name))
    return _KINDS.get(annotation.removesuffix(" | None"), Text)


# `since` is the version of the last commit when the row was written: what a later commit is over with.
TABLES: Mapping[type[object], Table] = {
    JobRow: _table("hansa_job", JobRow, "id"),
    TransitionRow: _table("hansa_transition", TransitionRow, "job", "seq"),
    DecisionRow: _table("hansa_decision", DecisionRow, "job", "key", more=["since"]),
    OfferRow: _table("hansa_offer", OfferRow, "job", "part", more=["since"]),
    ResultRow: _table("hansa_result", ResultRow, "job", "part", more=["since"]),
    FateRow: _table("hansa_fate", FateRow, "job", "part", more=["since"]),
    TableRow: _table("hansa_layout", TableRow, "job", "site", "digest"),
    CommitRow: _table("hansa_commit", CommitRow, "job", "version"),
    SiteRow: _table("hansa_site", SiteRow, "job", "site"),
    EventRow: _table("hansa_event", EventRow, "seq"),
}
Index("hansa_event_key", TABLES[EventRow].c.project, TABLES[EventRow].c.key, unique=True)

KEYS: Mapping[type[object], tuple[str, ...]] = {
    kind: tuple(column.name for column in table.primary_key if column.name != "project")
    for kind, table in TABLES.items()
}
_ADDED = ("project", "since", "epoch", "place", "crc")
_FIELDS: Mapping[type[object], tuple[str, ...]] = {
    kind: tuple(one.name for one in table.columns if one.name not in _ADDED) for kind, table in TABLES.items()
}
_SUMMED: Mapping[type[object], tuple[tuple[str, bool], ...]] = {
    kind: tuple((one.name, isinstance(one.type, Double)) for one in table.columns if one.name != "crc")
    for kind, table in TABLES.items()
}
"""The columns that a row's checksum is over, and whether they hold floats."""


# -- values -----------------------------------------------------------------------------------------------------------


def pack(row: StoredRow, stamp: Mapping[str, int | str]) -> dict[str, Any]:  # Any: what columns hold
    """The columns of a row.

    Args:
        row: The value.
        stamp: The columns that the journal adds: project, epoch, place, and `since` where the table has it.
    """
    values: dict[str, Any] = {}
    for name in _FIELDS[type(row)]:
        value = getattr(row, name)
        if name in _PACKED:
            value = _pack_parts(value) if name == "parts" else _as_json(value)
        values[name] = _storable(value) if isinstance(value, str) else value
    values |= stamp
    values["crc"] = _checksum(type(row), values)
    return values


def unpack(kind: type[R], columns: Mapping[str, Any]) -> R:  # Any: what columns hold
    """The value that columns describe.

    Raises:
        StoreError: They are not as they were written.
    """
    if columns["crc"] != _checksum(kind, columns):
        job = columns.get("id" if kind is JobRow else "job")
        key = "/".join(str(columns[name]) for name in KEYS[kind] if name != "job")
        raise StoreError(f"damaged in the journal: {TABLES[kind].name} {key}", job=job)
    values = {name: columns[name] for name in _FIELDS[kind]}
    if "parts" in values:
        values["parts"] = _unpack_parts(values["parts"])
    if "blobs" in values:
        values["blobs"] = tuple(KeptBlob(**blob) for blob in json.loads(values["blobs"]))
    for name in ("sites", "keeps"):
        if name in values:
            values[name] = tuple(json.loads(values[name]))
    return kind(**values)


def _as_json(value: Sequence[str | KeptBlob]) -> str:
    if not value:
        return "[]"
    return json.dumps([asdict(one) if isinstance(one, KeptBlob) else one for one in value])


def _pack_parts(parts: Sequence[bytes]) -> bytes:
    return b"".join([struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts)), *parts])


def _unpack_parts(packed: bytes) -> tuple[bytes, ...]:
    (number,) = struct.unpack_from("<I", packed)
    lengths = struct.unpack_from(f"<{number}Q", packed, 4)
    begin, parts = 4 + 8 * number, []
    for length in lengths:
        parts.append(bytes(packed[begin : begin + length]))
        begin += length
    return tuple(parts)


def check_key(row: StoredRow) -> None:
    """See that a row can be found again.

    Raises:
        StoreError: Its key has letters that no database holds.
    """
    for name in KEYS[type(row)]:
        value = getattr(row, name)
        if isinstance(value, str) and _storable(value) != value:
            raise StoreError(f"cannot be kept in the journal: {name} {value!r}", job=getattr(row, "job", None))


def _storable(text: str) -> str:
    """What both databases hold of a text: no NUL, no half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _checksum(kind: type[object], columns: Mapping[str, Any]) -> int:  # Any: what columns hold
    pieces: list[bytes] = []
    for name, is_float in _SUMMED[kind]:
        value = columns[name]
        if value is None:
            content = b"-"
        elif isinstance(value, bytes):
            content = value
        elif isinstance(value, str):
            content = value.encode()
        else:  # both give floats back bit by bit, but who wrote one may have said 1 for 1.0
            content = repr(float(value) if is_float else value).encode()
        pieces += [b"%d:" % len(content), content]
    return zlib.crc32(b"".join(pieces), zlib.crc32(kind.__name__.encode()))
