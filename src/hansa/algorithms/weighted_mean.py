"""Federated averaging: the mean of the sites' variables, weighted by their work.

For sites k with weights n_k and values w_k the mean is  w = sum_k n_k w_k / sum_k n_k  (McMahan, Moore, Ramage,
Hampson and Agueera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
arXiv:1602.05629, algorithm 1). Each variable is averaged over the sites that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hansa.algorithms.arrays import Array, DType, as_value, flat_pieces
from hansa.algorithms.checks import Names, Reference, check_weight
from hansa.algorithms.fold import Fold
from hansa.algorithms.layout import Allocate, Entry, Layout, Memory, entries_from, joined
from hansa.algorithms.reading import Reader, Reading
from hansa.errors import RuleError

PIECE = 1 << 16
"""Elements per piece of a multiply-add: its scratch (at most 1 MB) and both operands stay in a core's cache."""
STRIDE = 32 << 20
"""Bytes of work between two rests, where somebody wants any; see `WeightedMean.use_memory`."""


class Term:
    """The weighted sum over some sites: `factor * value` of one site, or sums of those.

    As long as it stands for a single site it may refer to that site's arrays; `WeightedMean.own` ends that.
    """

    __slots__ = ("divisors", "factor", "is_borrowed", "layout", "regions", "values")

    def __init__(self, layout: Layout, divisors: Array) -> None:
        self.layout = layout
        self.divisors = divisors
        """float64 [number of variables]: what each sum is divided by in the end."""
        self.regions: list[Array] | None = None
        self.values: list[Array] | None = None
        self.factor = 1.0
        """What the numbers are still to be multiplied by."""
        self.is_borrowed = False
        """Whether its memory is somebody else's, who wants it back as soon as nothing lies there."""

    def view(self, position: int) -> Array:
        """The sum of one variable, flat; a view. The term must have memory of its own."""
        assert self.regions is not None
        region, start, stop = self.layout.slots[position]
        return self.regions[region][start:stop]


class WeightedMean:
    """The rule of the weighted mean, in the steps of a fold: `read`, `weighted`, `own`, `combine`, `mean`.

    Sums are formed in the type that `rule_dtype` names; where widths are mixed the wider one wins. Means of integers
    and booleans are rounded half to even and keep their dtype; float16 keeps it, too. The arithmetic is one
    multiplication per value, additions in the fold's order, and one true division, so equal terms in an equal tree
    give equal bits.

    Memory: a term owns one array per type. Terms that were merged into others give theirs to the next ones. No array
    that comes in is written to, and none is referred to after `own` or `combine`. Not for several threads.

    Args:
        allocate: Where sums get their memory; None: from the system.
    """

    def __init__(self, allocate: Allocate | None = None) -> None:
        self._memory = Memory(allocate)
        self._reader = Reader(self._memory)
        self._scratch: dict[DType, Array] = {}
        self._rest: Callable[[], None] | None = None
        self._since_rest = 0

    def use_memory(self, allocate: Allocate, *, rest: Callable[[], None] | None = None) -> None:
        """From now on sums get their memory here; `rest` is called after each `STRIDE` bytes of work."""
        self._memory.clear()
        self._memory.allocate = allocate
        self._rest = rest

    def read(
        self, values: Mapping[str, object], reference: Reference, *, weight: float, names: Names = "any"
    ) -> Reading:
        """A contribution, checked; see `Reader.read`."""
        return self._reader.read(values, reference, weight=weight, names=names)

    def weighted(self, reading: Reading, weight: float, *, divisor: float | None = None) -> Term:
        """The term of a contribution that was read; it may refer to its arrays until `own` or `combine`.

        Args:
            reading: Not used again.
            weight: What the values are multiplied by.
            divisor: What the site adds to the divisor of the mean, > 0; the weight unless given.
        """
        divisors = np.empty(len(reading.layout.entries))
        divisors.fill(weight if divisor is None else divisor)
        term = Term(reading.layout, divisors)
        term.factor = float(weight)
        term.regions = reading.regions
        if reading.regions is None:
            term.values = reading.arrays
        return term

    def term(self, values: Mapping[str, object], weight: float, *, divisor: float | None = None) -> Term:
        """One site's term, of values that nobody checked; see `weighted`.

        Raises:
            RuleError: A variable is not made of numbers.
        """
        found = [as_value(name, value) for name, value in values.items()]
        entries = [
            Entry(name, value.array.shape, value.array.dtype, value.is_scalar)
            for name, value in zip(values, found, strict=True)
        ]
        reading = Reading(self._memory.layout_of(tuple(entries)), [value.array for value in found], None)
        return self.weighted(reading, weight, divisor=divisor)

    def own(self, term: Term) -> None:
        """Make a term independent of the arrays it was made of; nothing to do where it is already, or is merged."""
        if term.values is not None:
            term.regions = self._memory.take(term.layout)
            for position, value in enumerate(term.values):
                out = term.view(position).reshape(value.shape)
                np.multiply(value, term.factor, out=out, dtype=out.dtype)
                self._rest_after(out)
            term.values = None
        elif term.regions is not None and term.factor != 1.0:
            for region in self._strides(term.regions):
                np.multiply(region, term.factor, out=region)
        term.factor = 1.0

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
            return left
        self.own(right)
        if left.regions is not None and right.regions is not None:
            strides = zip(self._strides(left.regions), self._strides(right.regions), strict=True)
            for total, region in strides:
                np.add(total, region, out=total)
            self._release(right)
        return left

    def pack(self, term: Term) -> tuple[dict[str, Any], list[Array]]:  # Any: plain JSON
        """A term's description and its memory, for `unpack` in another process; the term is used up."""
        self.own(term)
        assert term.regions is not None
        return {"entries": term.layout.to_json(), "divisors": term.divisors.tolist()}, term.regions

    def unpack(self, head: Mapping[str, Any], regions: Sequence[Array]) -> Term:  # Any: plain JSON
        """The term that `pack` took apart; it is worked on in the given memory.

        Raises:
            RuleError: The description is none, or does not fit the memory.
        """
        try:
            entries, divisors = entries_from(head["entries"]), np.array(head["divisors"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise RuleError(f"no description of sums: {type(error).__name__}: {error}") from error
        if divisors.shape != (len(entries),):
            raise RuleError(f"{divisors.size} divisors for {len(entries)} sums")
        term = Term(self._memory.layout_of(entries), divisors)
        term.regions = term.layout.regions_from(regions)
        term.is_borrowed = True
        return term

    def mean(self, term: Term | None) -> dict[str, object]:
        """Divide, and hand the variables out; the term is used up.

        Returns:
            By name NumPy arrays of the contributions' dtype, writable views of the rule's memory where no conversion
            was needed; a NumPy scalar for a variable that no site sent as an array. Empty if there is no term.
        """
        self._memory.clear()
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
            for region in self._strides(term.regions):
                np.divide(region, float(divisors[0]), out=region)
            return
        for position, divisor in enumerate(divisors):
            part = term.view(position)
            np.divide(part, float(divisor), out=part)

    def _strides(self, regions: Iterable[Array]) -> Iterator[Array]:
        """The regions, in pieces between which there is a rest; whole ones where nobody wants any."""
        for region in regions:
            if self._rest is None:
                yield region
                continue
            step = max(1, STRIDE // region.itemsize)
            for start in range(0, len(region), step):
                yield region[start : start + step]
                self._rest()

    def _rest_after(self, done: Array) -> None:
        self._since_rest += done.nbytes
        if self._rest is not None and self._since_rest >= STRIDE:
            self._since_rest = 0
            self._rest()

    def _release(self, term: Term) -> None:
        if term.regions is not None and not term.is_borrowed:
            self._memory.give_back(term.layout, term.regions)
        term.regions = None

    def _add_scaled(self, left: Term, values: list[Array], factor: float) -> None:
        """Add factor * values to the left term, each product rounded exactly as if it had been stored."""
        for position, value in enumerate(values):
            total = left.view(position)
            scratch = self._scratch_of(total.dtype)
            start = 0
            for part in flat_pieces(value, PIECE):
                piece, product = total[start : start + len(part)], scratch[: len(part)]
                np.multiply(part, factor, out=product, dtype=piece.dtype)
                np.add(piece, product, out=piece)
                start += len(part)
            self._rest_after(total)

    def _scratch_of(self, dtype: DType) -> Array:
        scratch = self._scratch.get(dtype)
        if scratch is None:
            scratch = self._scratch[dtype] = np.empty(PIECE, dtype)
        return scratch

    def _combine_unlike(self, left: Term, right: Term) -> Term:
        self.own(right)
        entries = joined(left.layout, right.layout)
        if entries == left.layout.entries:
            total = left
        else:
            total = Term(Layout(entries), np.zeros(len(entries)))
            total.regions = total.layout.allocate(self._memory.allocate)
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
