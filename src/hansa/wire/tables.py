"""Tables of tensors, as their reader sees them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hansa.errors import DecodeError
from hansa.tensors import num_bytes, strict_json
from hansa.wire.blobs import digest_of
from hansa.wire.dtypes import Kind, kind_of_name
from hansa.wire.limits import Limits

_COLUMNS = ("names", "dtypes", "shapes", "offsets", "sources")
_MAX_OFFSET = 2**62


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor: name, dtype, shape, first byte, size in bytes, and the number of its blob among the table's own."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    source: int


@dataclass(frozen=True, slots=True)
class Table:
    """Which tensor lies where; checked: no two of them overlap.

    Args:
        rows: The tensors in the order of the dict.
        sizes: Bytes of all tensors in each of its blobs.
        extents: First and last byte of each region, by number of the blob and name of the region.
    """

    rows: tuple[Row, ...]
    sizes: tuple[int, ...]
    extents: Mapping[tuple[int, str], tuple[int, int]]


class TableCache:
    """The tables that came over one connection, by digest; the latest `max_tables` that were in use.

    Any thread may use it. A sender that leaves tables out because they have gone before must count as this does.
    """

    def __init__(self, max_tables: int = 64) -> None:
        self._max_tables = max_tables
        self._tables: OrderedDict[str, Table] = OrderedDict()
        self._lock = threading.Lock()
        self.num_parsed = 0
        """How many tables were read from bytes so far."""

    def find(self, digest: str, tables: Mapping[str, bytes], *, limits: Limits) -> Table:
        """The table of that digest: kept, or else among these bytes.

        Raises:
            DecodeError: It is unknown, its bytes have another digest, or they are no table.
        """
        with self._lock:
            table = self._tables.get(digest)
            if table is None:
                table = parse_table(digest, tables, limits)
                self.num_parsed += 1
                self._tables[digest] = table
                if len(self._tables) > self._max_tables:
                    self._tables.popitem(last=False)
            self._tables.move_to_end(digest)
            return table


def parse_table(digest: str, tables: Mapping[str, bytes], limits: Limits) -> Table:
    """Read and check a table; see `TableCache.find`."""
    raw = tables.get(digest)
    if raw is None:
        raise DecodeError(f"the message refers to a table that never came: {digest:.80}")
    if len(raw) > limits.max_table_bytes:
        raise DecodeError(f"a table of {len(raw)} bytes is too long")
    if digest_of(raw) != digest:
        raise DecodeError(f"a table does not have its digest {digest:.80}")
    columns = strict_json(raw, max_depth=4, max_nodes=limits.max_nodes)
    if not isinstance(columns, dict) or tuple(columns) != _COLUMNS:
        raise DecodeError(f"a table must have the columns {', '.join(_COLUMNS)}")
    lists: list[list[Any]] = [columns[name] for name in _COLUMNS]
    if any(type(column) is not list or len(column) != len(lists[0]) for column in lists):
        raise DecodeError("the columns of a table must be of one length")
    if not 0 < len(lists[0]) <= limits.max_tensors:
        raise DecodeError(f"a table cannot have {len(lists[0])} tensors")
    if len(set(map(type, lists[0])) | {str}) != 1 or len(set(lists[0])) != len(lists[0]):
        raise DecodeError("the names in a table must be texts, each once")
    return _checked([_row(*fields) for fields in zip(*lists, strict=True)])


def _row(name: str, dtype: Any, shape: Any, offset: Any, source: Any) -> Row:  # Any: unchecked JSON
    kind = kind_of_name(dtype)
    size_bytes = num_bytes(shape, kind.dtype.itemsize)
    if type(offset) is not int or not 0 <= offset <= _MAX_OFFSET or offset % kind.region.item_bytes:
        raise DecodeError(f"tensor {name!r:.80} cannot lie at {offset!r:.40}")
    if type(source) is not int or source < 0:
        raise DecodeError(f"tensor {name!r:.80} cannot lie in blob {source!r:.40}")
    return Row(name, kind, tuple(shape), offset, size_bytes, source)


def _checked(rows: list[Row]) -> Table:
    used = sorted({row.source for row in rows})
    if used != list(range(len(used))):
        raise DecodeError("a table must use its blobs from number 0 on")
    check_overlap([(row.source, row.offset, row.size_bytes) for row in rows])
    sizes = [0] * len(used)
    extents: dict[tuple[int, str], tuple[int, int]] = {}
    for row in rows:
        sizes[row.source] += row.size_bytes
        place = (row.source, row.kind.region.name)
        begin, end = extents.get(place, (row.offset, row.offset))
        extents[place] = (min(begin, row.offset), max(end, row.offset + row.size_bytes))
    return Table(tuple(rows), tuple(sizes), extents)


def check_overlap(places: list[tuple[int, int, int]]) -> None:
    """Refuse tensors that share bytes.

    Args:
        places: Blob, offset and size of each.
    """
    places.sort()
    last_blob, last_end = None, 0
    for blob, offset, size_bytes in places:
        if blob == last_blob and size_bytes and offset < last_end:
            raise DecodeError(f"two tensors overlap at byte {offset}")
        if size_bytes:
            last_blob, last_end = blob, offset + size_bytes
