"""Where the tensors of a posted task go: into the envelope, or into blobs, each of them once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hansa.errors import EncodeError
from hansa.tensors import Array
from hansa.wire.blobs import Blob, Sink, blob_header, digest_of
from hansa.wire.dtypes import Kind, flat_bytes, region_names
from hansa.wire.limits import Limits

INLINE: Final = -1
"""The number that stands for the envelope's own payload where others stand for blobs."""


class Placed:
    """A tensor, or a string of bytes, that the encoder knows; it keeps the value alive, so that its id stays its own.

    Args:
        value: The thing itself.
        kind: Its dtype.
        shape: As it travels.
        size_bytes: Its bytes on the wire.
    """

    __slots__ = ("blob", "kind", "offset", "shape", "size_bytes", "value")

    def __init__(self, value: Any, kind: Kind, *, shape: Sequence[int], size_bytes: int) -> None:  # Any: see flat_bytes
        self.value = value
        self.kind = kind
        self.shape = list(shape)
        self.size_bytes = size_bytes
        self.blob = INLINE
        self.offset = 0


class Group:
    """A dict of nothing but tensors; its names, dtypes, shapes and offsets go into a table of their own.

    Args:
        names: The dict's keys.
        items: Its values.
    """

    __slots__ = ("blobs", "digest", "items", "names", "size_bytes", "table")

    def __init__(self, names: Sequence[str], items: Sequence[Placed]) -> None:
        self.names = names
        self.items = items
        self.size_bytes = sum(item.size_bytes for item in items)
        self.blobs: list[int] | None = None
        self.digest = ""
        self.table = b""

    def settle(self, blobs: list[int], offsets: Sequence[int], *, limits: Limits) -> None:
        """Write the table, now that every tensor has its place."""
        local = {blob: index for index, blob in enumerate(blobs)}
        columns = {
            "names": self.names,
            "dtypes": [item.kind.name for item in self.items],
            "shapes": [item.shape for item in self.items],
            "offsets": offsets,
            "sources": [0 if len(blobs) == 1 else local[item.blob] for item in self.items],
        }
        self.table = json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode()
        if len(self.table) > limits.max_table_bytes:
            raise EncodeError("", f"the names of its tensors take {len(self.table)} bytes")
        self.digest = digest_of(self.table)
        self.blobs = blobs


class Inline:
    """A payload in the envelope, with the places in it."""

    __slots__ = ("groups", "items", "offsets", "payload")

    def __init__(self, items: Sequence[Placed], offsets: Sequence[int], *, payload: bytes) -> None:
        self.items = items  # alive, so that their ids stay their own
        self.offsets = offsets
        self.payload = payload
        self.groups: dict[int, Group] = {}


class Shelf:
    """All that one encoder has placed so far.

    Args:
        sink: Where new blobs go.
        limits: What the receiver will take.
    """

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self.sink = sink
        self.limits = limits
        self.blobs: list[Blob] = []
        self.known: dict[object, Placed] = {}
        self.groups: dict[object, Group] = {}
        self.inlines: dict[tuple[int, ...], Inline] = {}
        self.num_tensors_encoded = 0
        self.bytes_encoded = 0

    def into_blobs(self, singles: Sequence[Placed], groups: Sequence[Group]) -> None:
        """Give every tensor that lies in no blob yet its place in a new one."""
        fresh = [item for item in singles if item.blob == INLINE]
        open_groups = [group for group in groups if group.blobs is None]
        for group in open_groups:
            fresh += [item for item in group.items if item.blob == INLINE]
        if fresh:
            regions, order, offsets = _arrange(fresh)
            header = blob_header(regions)
            size_bytes = sum(size for _, size in regions)
            self.blobs.append(self.sink(header, _pieces(order), size_bytes=len(header) + size_bytes))
            for item, offset in zip(fresh, offsets, strict=True):
                item.blob, item.offset = len(self.blobs) - 1, offset
            self._count(len(fresh), size_bytes)
        for group in open_groups:
            blobs = sorted({item.blob for item in group.items})
            group.settle(blobs, [item.offset for item in group.items], limits=self.limits)

    def into_envelope(self, singles: Sequence[Placed], groups: Sequence[Group]) -> Inline:
        """One payload of these tensors; the same object whenever the same tensors come together again."""
        items = [*singles, *(item for group in groups for item in group.items)]
        key = tuple(map(id, items))
        inline = self.inlines.get(key)
        if inline is None:
            _, order, offsets = _arrange(items)
            payload = b"".join(piece.data for piece in _pieces(order))
            inline = self.inlines[key] = Inline(items, offsets, payload=payload)
            self._count(len(items), len(payload))
            begin = len(singles)
            for index, group in enumerate(groups):
                end = begin + len(group.items)
                inline.groups[index] = Group(group.names, group.items)
                inline.groups[index].settle([INLINE], offsets[begin:end], limits=self.limits)
                begin = end
        return inline

    def _count(self, num_tensors: int, size_bytes: int) -> None:
        self.num_tensors_encoded += num_tensors
        self.bytes_encoded += size_bytes


def _arrange(items: Sequence[Placed]) -> tuple[list[tuple[str, int]], list[Placed], list[int]]:
    """Tensors of one dtype together, the widest first: the regions, the order of the bytes, the items' offsets."""
    if len(items) == 1:
        item = items[0]
        return [(item.kind.region.name, item.size_bytes)], [item], [0]
    by_region: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_region.setdefault(item.kind.region.name, []).append(index)
    regions = []
    order: list[Placed] = []
    offsets = [0] * len(items)
    offset = 0
    for name in region_names(by_region):
        begin = offset
        for index in by_region[name]:
            offsets[index] = offset
            offset += items[index].size_bytes
            order.append(items[index])
        regions.append((name, offset - begin))
    return regions, order, offsets


def _pieces(order: Sequence[Placed]) -> Iterator[Array]:
    for item in order:
        if item.size_bytes:
            yield flat_bytes(item.value, item.kind)
