"""What a contribution must fulfil before it counts: finite numbers, the model's shapes and classes, a sane weight.

One NaN makes the global model NaN, and one claimed weight of 1e12 makes it the sender's. Each refusal is a `RuleError`
whose text names the tensor and the first value that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from hansa.algorithms.arrays import Array, DType, Kind, Value, as_value, flat_pieces, kind_of, rule_dtype
from hansa.algorithms.layout import Layout
from hansa.errors import RuleError

MAX_WEIGHT = 1e9
"""The cap on a contribution's weight unless a job sets its own."""
HEADROOM = 2.0**20
"""So many contributions of the largest admitted size can be added before a sum overflows."""

_PIECE = 1 << 20  # elements looked at in one go: at most 4 MB of float32

_FEW = 32
_SMALL_ENOUGH = {np.dtype(kind): math.sqrt(float(np.finfo(kind).max)) / _FEW for kind in (np.float32, np.float64)}
"""Values below have squares that `_FEW` of can be added."""

Names = Literal["any", "subset", "exact"]


class Spec(NamedTuple):
    """What is expected of one variable, and whose it is (`the model`)."""

    shape: tuple[int, ...]
    dtype: DType
    owner: str


class Reference:
    """What is expected of a contribution, variable by variable."""

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}
        self._learned: Layout | None = None

    def learn(self, values: Mapping[str, object], *, owner: str) -> None:
        """Expect from now on of new names what these variables have; names that are known stay as they are.

        Args:
            values: Variables by name; one that is not made of numbers is left out, as nothing can be expected of it.
            owner: In whose name a contribution will be refused.
        """
        for name, value in values.items():
            if name in self.specs:
                continue
            try:
                array = as_value(name, value).array
            except RuleError:
                continue
            self.specs[name] = Spec(array.shape, array.dtype, owner)

    def learn_layout(self, layout: Layout, *, owner: str) -> None:
        """As `learn`, of the variables of contributions that lie so."""
        if layout is self._learned:
            return
        for entry in layout.entries:
            self.specs.setdefault(entry.name, Spec(entry.shape, entry.dtype, owner))
        self._learned = layout

    def check_layout(self, layout: Layout, *, names: Names = "any") -> None:
        """Refuse sums that were formed elsewhere of tensors unlike what is expected here.

        Args:
            layout: How the sums lie.
            names: As for `check_values`.

        Raises:
            RuleError: A tensor has another shape, or another class of numbers, or a name breaks the rule.
        """
        _check_names(layout.index, self, names)
        for entry in layout.entries:
            spec = self.specs.get(entry.name)
            if spec is None:
                continue
            if entry.shape != spec.shape:
                raise RuleError(f"tensor '{entry.name}' has shape {entry.shape}, {spec.owner} has {spec.shape}")
            if kind_of(entry.dtype) is not kind_of(spec.dtype):
                raise RuleError(f"tensor '{entry.name}' is of type {entry.dtype}, {spec.owner} has {spec.dtype}")


def check_weight(weight: object, *, max_weight: float = MAX_WEIGHT, name: str = "the weight") -> float:
    """A weight as a float, if it is a finite number above 0 and at most `max_weight`.

    Args:
        weight: A number of Python or NumPy, or an array or tensor that holds one.
        max_weight: The cap, in the weight's own unit (steps, samples).
        name: What the weight is called in the refusal.

    Raises:
        RuleError: It is something else.
    """
    number = weight if type(weight) is float else _as_number(weight, name)
    if not 0.0 < number <= max_weight:  # also catches NaN
        bound = f"above the cap of {max_weight:g}" if number > max_weight else "not above 0"
        raise RuleError(f"{name} is {number:g}, which is {bound}")
    return number


def _as_number(weight: object, name: str) -> float:
    convert = getattr(weight, "__float__", None)  # a text has none, although float() would parse it
    try:
        if convert is not None:
            return float(convert())
    except OverflowError:  # an integer of hundreds of digits
        return math.inf
    except (TypeError, ValueError, RuntimeError):  # an array or tensor of several numbers
        pass
    raise RuleError(f"{name} is {weight!r:.40}, not a number")


def check_values(
    values: Mapping[str, object],
    reference: Reference | None = None,
    *,
    weight: float = 1.0,
    names: Names = "any",
) -> dict[str, Value]:
    """The variables of a contribution as arrays, if all of them are what is expected.

    Integers may stand for floats, and floats for integers as long as each is a whole number (learners subtract
    counters in float32); otherwise the class of numbers must agree, while widths are free. A variable without a
    reference needs only be finite.

    Args:
        values: By name; see `as_value`.
        reference: What is expected; None: nothing but finite numbers.
        weight: What the values will be multiplied by, > 0; the products must leave room for a sum.
        names: `subset`: at least one name, and none that the reference lacks; `exact`: none missing, either.

    Returns:
        The same names; arrays of the given dtype, or of the reference's where the class had to be changed.

    Raises:
        RuleError: Something is not as expected; the text names the tensor and the place of the first bad value.
    """
    if reference is not None:
        _check_names(values, reference, names)
    specs = reference.specs if reference is not None else {}
    checked: dict[str, Value] = {}
    for name, given in values.items():
        value = as_value(name, given)
        spec = specs.get(name)
        check_finite(name, value.array, weight=weight)
        if spec is not None:
            value = _conform(name, value, spec)
        checked[name] = value
    return checked


def check_finite(name: str, array: Array, *, weight: float = 1.0) -> None:
    """Refuse NaN, infinities, and values so large that a weighted sum of them could become infinite.

    The usual case costs one read of the memory: a sum of squares is finite only if every value is, and if none
    exceeds the square root of the type's maximum, which is small enough for every admitted weight.

    Raises:
        RuleError: There is such a value; its index is named.
    """
    if array.dtype.kind in "biu":
        return
    bound = _SMALL_ENOUGH.get(array.dtype) if array.size <= _FEW else None
    # NumPy's calls cost more than so few numbers. A NaN compares as False, too.
    if bound is not None and all(map(bound.__gt__, map(abs, array.reshape(-1).tolist()))):
        return
    start = 0
    for piece in flat_pieces(array, _PIECE):
        parts = _real(piece)
        if not _is_tame(parts):
            _look_closely(name, array, parts, start, weight)
        start += len(parts)


def are_tame(numbers: Array) -> bool:
    """Whether flat, contiguous numbers are finite and small enough for any weight; if not, look at each tensor."""
    return all(_is_tame(_real(piece)) for piece in flat_pieces(numbers, _PIECE))


def _real(piece: Array) -> Array:
    """Flat numbers as floats of the rule's type, complex ones as two each."""
    if piece.dtype.kind == "c":
        piece = np.ascontiguousarray(piece).view(piece.real.dtype)
    return piece.astype(rule_dtype(piece.dtype), copy=False)


def _is_tame(piece: Array) -> bool:
    with np.errstate(all="ignore"):
        return math.isfinite(np.dot(piece, piece))


def _look_closely(name: str, array: Array, piece: Array, start: int, weight: float) -> None:
    limit = np.finfo(piece.dtype).max / HEADROOM / max(weight, 1.0)
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~(np.abs(piece) <= limit))
    if not len(bad):
        return
    found = piece[bad[0]]
    position = (start + int(bad[0])) // (2 if array.dtype.kind == "c" else 1)
    place = f" at {[int(i) for i in np.unravel_index(position, array.shape)]}" if array.ndim else ""
    if np.isfinite(found):
        raise RuleError(f"tensor '{name}' has {found:g}{place}, too large to be summed with weight {weight:g}")
    raise RuleError(f"tensor '{name}' has {'NaN' if np.isnan(found) else 'Inf'}{place}")


def _check_names(values: Mapping[str, object], reference: Reference, names: Names) -> None:
    if names == "any":
        return
    for name in values:
        if name not in reference.specs:
            raise RuleError(f"tensor '{name}' is not expected")
    if names == "exact":
        for name, spec in reference.specs.items():
            if name not in values:
                raise RuleError(f"tensor '{name}' is missing, {spec.owner} has it")
    elif not values:
        raise RuleError("it has no tensor that is expected")


def _conform(name: str, value: Value, spec: Spec) -> Value:
    array = value.array
    if array.shape != spec.shape:
        raise RuleError(f"tensor '{name}' has shape {array.shape}, {spec.owner} has {spec.shape}")
    if array.dtype == spec.dtype:
        return value
    kind, expected = kind_of(array.dtype), kind_of(spec.dtype)
    if kind is expected:
        return value
    if kind is Kind.INT and expected is Kind.FLOAT:
        return Value(array.astype(rule_dtype(spec.dtype)), value.is_scalar)
    if kind is Kind.FLOAT and expected is Kind.INT:
        return Value(_whole(name, array, spec), value.is_scalar)
    raise RuleError(f"tensor '{name}' is of type {array.dtype}, {spec.owner} has {spec.dtype}")


def _whole(name: str, array: Array, spec: Spec) -> Array:
    """Floats as integers, if that loses nothing."""
    limits = np.iinfo(spec.dtype)
    fits = (np.rint(array) == array) & (array >= limits.min) & (array < float(limits.max) + 1)
    bad = np.flatnonzero(~fits)
    if len(bad):
        place = f" at {[int(i) for i in np.unravel_index(bad[0], array.shape)]}" if array.ndim else ""
        raise RuleError(f"tensor '{name}' has {array.reshape(-1)[bad[0]]:g}{place}, {spec.owner} has {spec.dtype}")
    return array.astype(spec.dtype)
