"""Where the variables of a contribution lie in flat memory, and where that memory comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hansa.algorithms.arrays import Array, DType, dtype_from, dtype_text, rule_dtype
from hansa.errors import RuleError

Allocate = Callable[[int], Array]
"""Gives writable memory: so many bytes as a flat uint8 array, aligned for every dtype, its content arbitrary."""


class Entry(NamedTuple):
    """What a term knows of one variable: all that has to agree for two terms to lie alike in memory."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    """In which the mean comes back."""
    is_scalar: bool


class Slot(NamedTuple):
    """Where one variable lies: in which region, from which element to which."""

    region: int
    start: int
    stop: int


class Layout:
    """Where variables lie in a term's memory: one flat region per type of the rule, without gaps."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.dtypes: list[DType] = []
        self.sizes: list[int] = []
        self.slots: list[Slot] = []
        for entry in entries:
            dtype = rule_dtype(entry.dtype)
            if dtype not in self.dtypes:
                self.dtypes.append(dtype)
                self.sizes.append(0)
            region = self.dtypes.index(dtype)
            start = self.sizes[region]
            self.sizes[region] += int(np.prod(entry.shape, dtype=np.int64))
            self.slots.append(Slot(region, start, self.sizes[region]))
        self.index = {entry.name: position for position, entry in enumerate(entries)}

    @property
    def num_bytes(self) -> int:
        """The size of all regions."""
        return sum(size * dtype.itemsize for size, dtype in zip(self.sizes, self.dtypes, strict=True))

    def allocate(self, allocate: Allocate) -> list[Array]:
        """Regions of this layout, not initialised."""
        return [
            allocate(size * dtype.itemsize).view(dtype) if size else np.empty(0, dtype)
            for size, dtype in zip(self.sizes, self.dtypes, strict=True)
        ]

    def regions_from(self, parts: Sequence[Array]) -> list[Array]:
        """Regions that came from elsewhere, perhaps as bytes; copied only where they cannot be written to.

        Raises:
            RuleError: They are not of this layout's sizes.
        """
        if [part.nbytes for part in parts] != [
            size * dtype.itemsize for size, dtype in zip(self.sizes, self.dtypes, strict=True)
        ]:
            raise RuleError("the sums are not of the size that their description gives")
        regions = []
        for part, dtype in zip(parts, self.dtypes, strict=True):
            region = np.ascontiguousarray(part).reshape(-1).view(dtype)
            regions.append(region if region.flags.writeable and region.flags.aligned else region.copy())
        return regions

    def to_json(self) -> list[list[Any]]:  # Any: plain JSON
        """The entries as what `json.dumps` takes."""
        return [
            [entry.name, list(entry.shape), dtype_text(entry.dtype), int(entry.is_scalar)] for entry in self.entries
        ]


def entries_from(described: Sequence[Sequence[Any]]) -> tuple[Entry, ...]:  # Any: plain JSON
    """The entries that `Layout.to_json` described.

    Raises:
        RuleError: It is something else.
    """
    try:
        return tuple(
            [
                Entry(name, tuple(shape), dtype_from(dtype), bool(is_scalar))
                for name, shape, dtype, is_scalar in described
            ]
        )
    except (TypeError, ValueError) as error:
        raise RuleError(f"no description of sums: {error}") from error


def joined(left: Layout, right: Layout) -> tuple[Entry, ...]:
    """The variables of both, the left ones first.

    Raises:
        RuleError: They disagree in a variable's shape.
    """
    entries = list(left.entries)
    for entry in right.entries:
        place = left.index.get(entry.name)
        if place is None:
            entries.append(entry)
            continue
        ours = entries[place]
        if ours.shape != entry.shape:
            raise RuleError(f"tensor '{entry.name}' has shape {entry.shape}, elsewhere {ours.shape}")
        dtype = np.promote_types(ours.dtype, entry.dtype)
        entries[place] = Entry(entry.name, entry.shape, dtype, ours.is_scalar and entry.is_scalar)
    return tuple(entries)


class Memory:
    """Regions for terms. Those of terms that were merged into others serve the next ones.

    Args:
        allocate: Where new memory comes from; None: from the system.
    """

    def __init__(self, allocate: Allocate | None = None) -> None:
        self.allocate = allocate or _from_system
        self._layout = Layout(())
        self._spare: list[list[Array]] = []

    def layout_of(self, entries: tuple[Entry, ...]) -> Layout:
        """The layout of these entries; the same object as long as contributions are alike, which nearly all are."""
        if entries != self._layout.entries:
            self._layout = Layout(entries)
            self._spare.clear()
        return self._layout

    def take(self, layout: Layout) -> list[Array]:
        """Regions of this layout, their content arbitrary."""
        return self._spare.pop() if self._spare and layout is self._layout else layout.allocate(self.allocate)

    def give_back(self, layout: Layout, regions: list[Array]) -> None:
        """Regions that nobody refers to any more."""
        if layout is self._layout:
            self._spare.append(regions)

    def clear(self) -> None:
        """Keep nothing for later."""
        self._spare.clear()


def _from_system(size_bytes: int) -> Array:
    return np.empty(size_bytes, np.uint8)
