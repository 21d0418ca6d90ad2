"""Federated averaging: the mean of the sites' variables, weighted by their work.

For sites k with weights n_k and values w_k the mean is  w = sum_k n_k w_k / sum_k n_k  (McMahan, Moore, Ramage,
Hampson and Agueera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
arXiv:1602.05629, algorithm 1). Each variable is averaged over the sites that have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hansa.algorithms.arrays import Array, DType, as_value, rule_dtype
from hansa.algorithms.checks import check_weight
from hansa.algorithms.fold import Fold
from hansa.errors import RuleError

PIECE = 1 << 16
"""Elements per piece of a multiply-add: its scratch (at most 1 MB) and both operands stay in a core's cache."""


class Entry(NamedTuple):
    """What a term knows of one variable: all that has to agree for two terms to lie alike in memory."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    """In which the mean comes back."""
    is_scalar: bool


class _Slot(NamedTuple):
    region: int
    start: int
    stop: int


class Layout:
    """Where variables lie in a term's memory: one flat region per type of the rule, without gaps."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.dtypes: list[DType] = []
        self.sizes: list[int] = []
        self.slots: list[_Slot] = []
        for entry in entries:
            dtype = rule_dtype(entry.dtype)
            if dtype not in self.dtypes:
                self.dtypes.append(dtype)
                self.sizes.append(0)
            region = self.dtypes.index(dtype)
            start = self.sizes[region]
            self.sizes[region] += int(np.prod(entry.shape, dtype=np.int64))
            self.slots.append(_Slot(region, start, self.sizes[region]))
        self.index = {entry.name: position for position, entry in enumerate(entries)}

    def allocate(self) -> list[Array]:
        """Regions of this layout, not initialised."""
        return [np.empty(size, dtype) for size, dtype in zip(self.sizes, self.dtypes, strict=True)]


class Term:
    """The weighted sum over some sites: `factor * value` of one site, or sums of those.

    As long as it stands for a single site it may refer to that site's arrays; `WeightedMean.own` ends that.
    """

    __slots__ = ("divisors", "factor", "layout", "regions", "values")

    def __init__(self, layout: Layout, divisors: Array) -> None:
        self.layout = layout
        self.divisors = divisors
        """float64 [number of variables]: what each sum is divided by in the end."""
        self.regions: list[Array] | None = None
        self.values: list[Array] | None = None
        self.factor = 1.0

    def view(self, position: int) -> Array:
        """The sum of one variable, flat; a view. The term must own its memory."""
        assert self.regions is not None
        region, start, stop = self.layout.slots[position]
        return self.regions[region][start:stop]


class WeightedMean:
    """The rule of the weighted mean, in the four steps of a fold: `term`, `own`, `combine`, `mean`.

    Sums are formed in the type that `rule_dtype` names; where widths are mixed the wider one wins. Means of integers
    and booleans are rounded half to even and keep their dtype; float16 keeps it, too. The arithmetic is one
    multiplication per value, additions in the fold's order, and one true division, so equal terms in an equal tree
    give equal bits.

    Memory: a term owns one array per type. Terms that were merged into others give theirs to the next ones. No array
    that comes in is written to, and none is referred to after `own` or `combine`. Not for several threads.
    """

    def __init__(self) -> None:
        self._layout = Layout(())
        self._spare: list[list[Array]] = []
        self._scratch: dict[DType, Array] = {}

    def term(self, values: Mapping[str, object], weight: float, *, divisor: float | None = None) -> Term:
        """One site's term; it refers to the given arrays until `own` or `combine`.

        Args:
            values: The variables by name; see `as_value` for what counts as numbers.
            weight: What the values are multiplied by.
            divisor: What the site adds to the divisor of the mean, > 0; the weight unless given.

        Raises:
            RuleError: A variable is not made of numbers.
        """
        found = [as_value(name, value) for name, value in values.items()]
        entries = tuple(
            [
                Entry(name, value.array.shape, value.array.dtype, value.is_scalar)
                for name, value in zip(values, found, strict=True)
            ]
        )
        layout = self._layout_of(entries)
        divisors = np.empty(len(entries))
        divisors.fill(weight if divisor is None else divisor)
        term = Term(layout, divisors)
        term.values = [value.array for value in found]
        term.factor = float(weight)
        return term

    def own(self, term: Term) -> None:
        """Make a term independent of the arrays it was made of; nothing to do where it is already, or is merged."""
        if term.values is None:
            return
        term.regions = self._allocate(term.layout)
        for position, value in enumerate(term.values):
            out = term.view(position)
            np.multiply(value.reshape(-1), term.factor, out=out, dtype=out.dtype)
        term.values = None

    def combine(self, left: Term, right: Term) -> Term:
        """The sum of two terms, in the left one's memory where that holds all variables of both.

        Raises:
            RuleError: They disagree in a variable's shape.
        """
        self.own(left)
        if left.layout is not right.layout and left.layout.entries != right.layout.entries:
            return self._combine_unlike(left, right)
        left.divisors += right.divisors
        if right.values is not None:
            self._add_scaled(left, right.values, right.factor)
            right.values = None
        elif left.regions is not None and right.regions is not None:
            for total, region in zip(left.regions, right.regions, strict=True):
                np.add(total, region, out=total)
            self._release(right)
        return left

    def mean(self, term: Term | None) -> dict[str, object]:
        """Divide, and hand the variables out; the term is used up.

        Returns:
            By name NumPy arrays of the contributions' dtype, writable views of the rule's memory where no conversion
            was needed; a NumPy scalar for a variable that no site sent as an array. Empty if there is no term.
        """
        self._spare.clear()
        if term is None:
            return {}
        self.own(term)
        self._divide(term)
        means: dict[str, object] = {}
        for position, entry in enumerate(term.layout.entries):
            part = _in_dtype(term.view(position), entry.dtype)
            means[entry.name] = part[0] if entry.is_scalar else part.reshape(entry.shape)
        term.regions = None
        return means

    def _divide(self, term: Term) -> None:
        divisors = term.divisors
        assert term.regions is not None
        if len(divisors) and (divisors == divisors[0]).all():
            for region in term.regions:
                np.divide(region, float(divisors[0]), out=region)
            return
        for position, divisor in enumerate(divisors):
            part = term.view(position)
            np.divide(part, float(divisor), out=part)

    def _layout_of(self, entries: tuple[Entry, ...]) -> Layout:
        # Nearly always the layout of the term before, so that one is remembered.
        if entries != self._layout.entries:
            self._layout = Layout(entries)
            self._spare.clear()
        return self._layout

    def _allocate(self, layout: Layout) -> list[Array]:
        return self._spare.pop() if self._spare and layout is self._layout else layout.allocate()

    def _release(self, term: Term) -> None:
        if term.layout is self._layout and term.regions is not None:
            self._spare.append(term.regions)
        term.regions = None

    def _add_scaled(self, left: Term, values: list[Array], factor: float) -> None:
        """Add factor * values to the left term, each product rounded exactly as if it had been stored."""
        for position, value in enumerate(values):
            total, flat = left.view(position), value.reshape(-1)
            scratch = self._scratch_of(total.dtype)
            for start in range(0, len(total), PIECE):
                piece = total[start : start + PIECE]
                product = scratch[: len(piece)]
                np.multiply(flat[start : start + PIECE], factor, out=product, dtype=piece.dtype)
                np.add(piece, product, out=piece)

    def _scratch_of(self, dtype: DType) -> Array:
        scratch = self._scratch.get(dtype)
        if scratch is None:
            scratch = self._scratch[dtype] = np.empty(PIECE, dtype)
        return scratch

    def _combine_unlike(self, left: Term, right: Term) -> Term:
        self.own(right)
        entries = _joined(left.layout, right.layout)
        if entries == left.layout.entries:
            total = left
        else:
            total = Term(Layout(entries), np.zeros(len(entries)))
            total.regions = total.layout.allocate()
            for position in range(len(left.layout.entries)):
                np.copyto(total.view(position), left.view(position), casting="same_kind")
            total.divisors[: len(left.divisors)] = left.divisors
            self._release(left)
        for position, entry in enumerate(right.layout.entries):
            place = total.layout.index[entry.name]
            into, part = total.view(place), right.view(position)
            if entry.name in left.layout.index:
                np.add(into, part, out=into, casting="same_kind")
            else:
                np.copyto(into, part, casting="same_kind")
            total.divisors[place] += right.divisors[position]
        self._release(right)
        return total


def weighted_mean(contributions: Mapping[str, tuple[Mapping[str, object], float]]) -> dict[str, object]:
    """The weighted mean of whole contributions, as a round with these sites as its targets would give it.

    Args:
        contributions: By site its variables (see `as_value`) and its weight, a finite number > 0.

    Returns:
        See `WeightedMean.mean`; the same bits whatever the order of the sites.

    Raises:
        RuleError: A weight is out of range, or variables are no numbers or differ in shape.

    Example:
        >>> weighted_mean({"a": ({"x": 1.0}, 3), "b": ({"x": 5.0}, 1)})
        {'x': np.float64(2.0)}
    """
    rule = WeightedMean()
    fold = Fold(contributions, rule.combine)
    for site, (values, weight) in contributions.items():
        term = rule.term(values, check_weight(weight))
        fold.add(site, term)
        rule.own(term)
    return rule.mean(fold.finish())


def _joined(left: Layout, right: Layout) -> tuple[Entry, ...]:
    """The variables of both, the left ones first."""
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


def _in_dtype(sums: Array, dtype: DType) -> Array:
    """Means from the rule's type back to the variable's; the same array where that is one."""
    if sums.dtype == dtype:
        return sums
    if dtype.kind not in "biu":
        return sums.astype(dtype)
    np.rint(sums, out=sums)
    if dtype.kind != "b":
        # The mean lies within the range; only sums that are divided by less than their weights can leave it, and
        # the ends of 64-bit types that float64 rounds outwards.
        limits = np.iinfo(dtype)
        top = np.float64(limits.max)
        np.clip(sums, limits.min, top if int(top) <= limits.max else np.nextafter(top, 0), out=sums)
    return sums.astype(dtype)
