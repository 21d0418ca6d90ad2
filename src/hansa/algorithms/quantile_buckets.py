"""Quantiles of data at several sites, from counts in buckets that are never small, with bounds that hold.

The range is cut into fine cells. A site tells how many values lie in buckets of neighbouring cells, none with fewer
than a floor. A value's bucket says between which ends of cells it lies, so the number of values up to any end is known
within bounds, and turning both around bounds the quantile. The ranks of the bounds are off by at most the sites'
buckets that straddle them: with buckets of b values, by b per site. (Equi-depth histograms: Greenwald and Khanna, 2001,
"Space-Efficient Online Computation of Quantile Summaries", have the bound for a single stream.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Buckets:
    """How many values lie in which cells; buckets may overlap, then their values lie somewhere in them.

    Attributes:
        first: The first cell of each, int64[b].
        last: The last one.
        count: Values in it.
    """

    first: Ints
    last: Ints
    count: Ints

    @classmethod
    def of(cls, cells: Ints, *, bins: Ints, hidden: Bools, least: int) -> Buckets:
        """What may be told of cells, when the count of each shown bin is told, too.

        A shown bin is divided into buckets of at least `least` values, so no difference to the bin's count is small.
        The values of all hidden bins make one bucket from the first of these bins to the last.

        Args:
            cells: int64[n].
            bins: The number of values of each bin, int64[m]; n is a multiple of m.
            hidden: Which of them are not told, bool[m].
            least: >= 1.
        """
        size = len(cells) // len(bins)
        first: list[int] = []
        last: list[int] = []
        count: list[int] = []
        for index in np.flatnonzero((bins > 0) & ~hidden):
            start = int(index) * size
            total = np.cumsum(cells[start : start + size])
            begin, seen, end_of_all = 0, 0, int(total[-1])
            while seen < end_of_all:
                end = int(np.searchsorted(total, seen + least))
                if end >= size or end_of_all - int(total[end]) < least:
                    end = size - 1
                first.append(start + begin)
                last.append(start + end)
                count.append(int(total[end]) - seen)
                begin, seen = end + 1, int(total[end])
        if (places := np.flatnonzero(hidden & (bins > 0))).size:
            first.append(int(places[0]) * size)
            last.append((int(places[-1]) + 1) * size - 1)
            count.append(int(bins[places].sum()))
        return cls(np.array(first, np.int64), np.array(last, np.int64), np.array(count, np.int64))


@dataclass(frozen=True)
class Quantile:
    """A quantile of all sites' values: the least value up to which a share of at least the level lies.

    Attributes:
        value: The estimate: as if values lay evenly in their bucket.
        low: The quantile is not below this;
        high: nor above this.
    """

    value: float
    low: float
    high: float


def quantiles(
    parts: Sequence[Buckets], levels: Sequence[float], *, low: float, high: float, num_cells: int
) -> list[Quantile]:
    """Quantiles of the values that several sites have told in buckets.

    Args:
        parts: Of each site.
        levels: From 0 to 1.
        low: The lower end of the range.
        high: The upper end.
        num_cells: How many cells it has.

    Returns:
        One per level; NaN where there are no values.
    """
    surely, perhaps, evenly = np.zeros(num_cells + 1), np.zeros(num_cells + 1), np.zeros(num_cells + 2)
    for part in parts:
        np.add.at(surely, part.last + 1, part.count)
        np.add.at(perhaps, part.first + 1, part.count)
        density = part.count / (part.last - part.first + 1)
        np.add.at(evenly, part.first + 1, density)
        np.add.at(evenly, part.last + 2, -density)
    surely, perhaps, evenly = np.cumsum(surely), np.cumsum(perhaps), np.cumsum(np.cumsum(evenly)[:-1])
    total = surely[-1]
    if total <= 0:
        return [Quantile(np.nan, np.nan, np.nan)] * len(levels)
    width = (high - low) / num_cells
    found = []
    for level in levels:
        rank = min(max(level * total, 1.0), total)
        least = max(int(np.searchsorted(perhaps, rank - 1e-9)) - 1, 0)
        most = int(np.searchsorted(surely, rank - 1e-9))
        at = float(np.interp(rank, evenly, np.arange(num_cells + 1.0)))
        bounds = low + least * width, low + most * width
        found.append(Quantile(float(np.clip(low + at * width, *bounds)), *bounds))
    return found
