"""Statistics of data that lie at several sites, put together from each site's sums.

Moments are merged pairwise: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances", 1979, Stanford STAN-CS-79-773; no sum of squares is ever taken about a far-off origin. Everything is float64
and int64, one entry per feature; whoever merges several sites does so in one fixed order, then the bits are fixed, too.
Missing values are NaN; infinite ones count as missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Moments:
    """Counts and centred moments of some rows.

    Attributes:
        count: Values that are there, int64[k].
        missing: Values that are not, int64[k].
        mean: float64[k]; 0 where `count` is 0.
        m2: Sum of squares about the mean, float64[k].
    """

    count: Ints
    missing: Ints
    mean: Floats
    m2: Floats

    @classmethod
    def nothing(cls, num_features: int) -> Moments:
        """The moments of no rows."""
        whole, real = np.zeros(num_features, np.int64), np.zeros(num_features)
        return cls(whole, whole, real, real)

    @property
    def sd(self) -> Floats:
        """Standard deviation with n - 1; NaN for fewer than two values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.where(self.count > 1, self.m2 / (self.count - 1), np.nan))


def merge(left: Moments, right: Moments) -> Moments:
    """The moments of both parts' rows together."""
    count = left.count + right.count
    share = right.count / np.maximum(count, 1)
    step = right.mean - left.mean
    mean = np.where(left.count == 0, right.mean, left.mean + step * share)
    m2 = left.m2 + right.m2 + step * step * (left.count * share)
    return Moments(count, left.missing + right.missing, mean, m2)


def merge_all(parts: Iterable[Moments], num_features: int) -> Moments:
    """The parts merged from left to right."""
    return reduce(merge, parts, Moments.nothing(num_features))


def _gaps(block: Floats) -> Ints:
    """The places of missing values in a block, counted through its rows."""
    return np.flatnonzero(~np.isfinite(block))


class MomentPass:
    """The first pass over rows: moments, and the lowest and highest value of each feature.

    Args:
        num_features: k.

    Attributes:
        moments: Of the blocks so far.
        low: float64[k]; inf where there was no value.
        high: float64[k]; -inf likewise.
    """

    def __init__(self, num_features: int) -> None:
        self.moments = Moments.nothing(num_features)
        self.low = np.full(num_features, np.inf)
        self.high = np.full(num_features, -np.inf)

    def take(self, block: Floats) -> None:
        """Take rows in: float64[k, rows], in an order that fits the cache; they are only read."""
        num_rows = block.shape[1]
        if num_rows == 0:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            total = block.sum(axis=1)
        count = np.full(len(block), num_rows)
        if not np.isfinite(total).all():
            gaps = _gaps(block)
            count = num_rows - np.bincount(gaps // num_rows, minlength=len(block))
            block = block.copy()
            block.ravel()[gaps] = 0.0
            mean = block.sum(axis=1) / np.maximum(count, 1)
            block.ravel()[gaps] = mean[gaps // num_rows]  # lies between the ends, and at no distance from the mean
        else:
            mean = total / num_rows
        low, high = block.min(axis=1), block.max(axis=1)
        low[count == 0], high[count == 0] = np.inf, -np.inf
        distance = block - mean[:, None]
        m2 = np.einsum("ij,ij->i", distance, distance)
        # The block as a part of its own, its mean put right by what is left of the distances.
        rest = distance.sum(axis=1) / np.maximum(count, 1)
        part = Moments(count, num_rows - count, mean + rest, np.maximum(m2 - count * rest * rest, 0.0))
        self.moments = merge(self.moments, part)
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)


@dataclass(frozen=True)
class Grid:
    """Equal cells between the ends of an agreed range, for each feature.

    Attributes:
        low: float64[k].
        high: float64[k], above `low`.
        num_cells: How many; the last one is closed on both sides.
    """

    low: Floats
    high: Floats
    num_cells: int

    @property
    def scale(self) -> Floats:
        """Cells per unit."""
        return self.num_cells / (self.high - self.low)


class CellPass:
    """The second pass: how many values lie in each cell.

    Args:
        grid: The cells.
        may_exceed: Which features may have values outside, bool[k].

    Attributes:
        cells: int64[k, num_cells].
        under: Values below the range, int64[k].
        over: Values above it.
    """

    def __init__(self, grid: Grid, may_exceed: Bools) -> None:
        num_features = len(grid.low)
        self.cells = np.zeros((num_features, grid.num_cells), np.int64)
        self.under = np.zeros(num_features, np.int64)
        self.over = np.zeros(num_features, np.int64)
        self._grid = grid
        self._scale = grid.scale[:, None]
        self._outside = np.flatnonzero(may_exceed)
        self._offset = np.arange(num_features)[:, None] * float(grid.num_cells)
        self._places = np.empty((num_features, 0), np.intp)

    def take(self, block: Floats) -> None:
        """Take rows in: float64[k, rows]; they are only read."""
        grid, num_features = self._grid, len(block)
        if self._places.shape[1] != block.shape[1]:
            self._places = np.empty(block.shape, np.intp)
        at = block - grid.low[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            at *= self._scale
            is_whole = bool(np.isfinite(at.sum()))
            np.clip(at, 0, grid.num_cells - 1, out=at)
        at += self._offset
        size = num_features * grid.num_cells
        if not is_whole:
            at.ravel()[_gaps(block)] = size  # one cell more, which is dropped
        np.copyto(self._places, at, casting="unsafe")
        found = np.bincount(self._places.ravel(), minlength=size + 1)[:size].reshape(self.cells.shape)
        self.cells += found
        for index in self._outside:
            values = block[index][np.isfinite(block[index])]
            under, over = int((values < grid.low[index]).sum()), int((values > grid.high[index]).sum())
            self.cells[index, 0] -= under
            self.cells[index, -1] -= over
            self.under[index] += under
            self.over[index] += over


@dataclass(frozen=True)
class PairSums:
    """Sums over the rows in which both features of a pair are there, of values z that are scaled alike at all sites.

    Attributes:
        count: Rows, int64[k, k].
        product: Sum of z_i z_j, float64[k, k].
        single: Sum of z_i, [i, j].
        square: Sum of z_i², [i, j].
    """

    count: Ints
    product: Floats
    single: Floats
    square: Floats

    def __add__(self, other: PairSums) -> PairSums:
        return PairSums(
            self.count + other.count,
            self.product + other.product,
            self.single + other.single,
            self.square + other.square,
        )


class PairPass:
    """The second pass, for correlations: values are first brought to about mean 0 and sd 1 by agreed numbers.

    So the sums are small numbers, and adding them up costs no digits.

    Args:
        mean: The agreed means, float64[k].
        sd: The agreed standard deviations, float64[k]; 0 or NaN where there is none.
    """

    def __init__(self, mean: Floats, sd: Floats) -> None:
        size = (len(mean), len(mean))
        self.sums = PairSums(np.zeros(size, np.int64), np.zeros(size), np.zeros(size), np.zeros(size))
        self._mean = mean[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            self._scale = np.where((sd > 0) & np.isfinite(1.0 / sd), 1.0 / sd, 0.0)[:, None]

    def take(self, block: Floats) -> None:
        """Take rows in: float64[k, rows]; they are only read."""
        scaled = block - self._mean
        with np.errstate(invalid="ignore"):
            scaled *= self._scale
            total = scaled.sum(axis=1)
        gaps = np.empty(0, np.int64) if np.isfinite(total).all() else _gaps(block)
        if len(gaps):
            scaled.ravel()[gaps] = 0.0
            total = scaled.sum(axis=1)
        product = scaled @ scaled.T
        size, num_rows = product.shape, block.shape[1]
        count = np.full(size, num_rows)
        single = np.broadcast_to(total[:, None], size)
        square = np.broadcast_to(np.diag(product)[:, None], size)
        if len(gaps):  # what rows with a gap take from the others' sums: only these rows are looked at again
            own, places = np.divmod(gaps, num_rows)
            rows, at = np.unique(places, return_inverse=True)
            gone, few = np.zeros((size[0], len(rows))), scaled[:, rows]
            gone[own, at] = 1.0
            each = np.bincount(own, minlength=size[0])
            count = count - each[:, None] - each[None] + np.rint(gone @ gone.T).astype(np.int64)
            single, square = single - few @ gone.T, square - (few * few) @ gone.T
        self.sums = self.sums + PairSums(count, product, single, square)


def correlation(sums: PairSums, *, min_count: int = 2) -> Floats:
    """Pearson's correlation over the rows in which both are there, float64[k, k]; NaN where it cannot be told.

    Args:
        sums: Of all sites together.
        min_count: Pairs with fewer rows are NaN.
    """
    rows = np.maximum(sums.count, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = sums.product - sums.single * sums.single.T / rows
        variance = sums.square - sums.single * sums.single / rows
        found = covariance / np.sqrt(variance * variance.T)
    # 1e-13: what rounding leaves of the variance of a feature that is the same in all rows
    is_flat = variance <= 1e-13 * np.maximum(sums.square, 1e-300)
    known = (sums.count >= max(min_count, 2)) & ~is_flat & ~is_flat.T
    return np.where(known, np.clip(found, -1.0, 1.0), np.nan)
