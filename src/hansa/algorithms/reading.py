"""Reading a round's contributions: each is checked, and many small tensors are gathered into flat memory.

Contributions of one round nearly always have the same names, shapes and dtypes. So all that depends on those is
looked at once; from then on a contribution of hundreds of tensors costs a few calls of NumPy, not a few per tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple, cast

import numpy as np

from hansa.algorithms.arrays import Array, DType
from hansa.algorithms.checks import Names, Reference, are_tame, check_finite, check_values
from hansa.algorithms.layout import Entry, Layout, Memory
from hansa.errors import RuleError

GATHERED_BYTES = 1 << 22
"""Contributions up to this size are gathered; beyond it a copy costs more than NumPy's calls."""
FEW = 4
"""So many tensors are not worth gathering."""

_ONLY_ARRAYS = {np.ndarray}
_dtype_of = attrgetter("dtype")
_shape_of = attrgetter("shape")


class Reading(NamedTuple):
    """A contribution that was checked, and is not counted yet."""

    layout: Layout
    arrays: list[Array]
    """The variables in the layout's order; empty where they were gathered."""
    regions: list[Array] | None
    """The same numbers in memory of ours, flat and in the rule's types."""


class _Form:
    """What contributions that are let in without a closer look have in common."""

    def __init__(self, reference: Reference, layout: Layout, arrays: list[Array]) -> None:
        self.reference = reference
        self.layout = layout
        self.names = [entry.name for entry in layout.entries]
        self.dtypes: list[DType] = [array.dtype for array in arrays]
        self.shapes = [array.shape for array in arrays]
        self.is_gathered = len(arrays) > FEW and layout.num_bytes <= GATHERED_BYTES
        self.members = [
            [position for position, slot in enumerate(layout.slots) if slot.region == region]
            for region in range(len(layout.dtypes))
        ]

    def arrays_of(self, values: Mapping[str, object]) -> list[Array] | None:
        """The arrays of a contribution of this form; None for any other."""
        if len(values) != len(self.names) or list(values) != self.names:
            return None
        given = list(values.values())
        if set(map(type, given)) != _ONLY_ARRAYS:  # a matrix or a masked array is another type
            return None
        if list(map(_dtype_of, given)) != self.dtypes or list(map(_shape_of, given)) != self.shapes:
            return None
        return cast("list[Array]", given)


class Reader:
    """Checks contributions as `check_values` does, and gathers them.

    Args:
        memory: Where the regions of what it gathers come from.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._form: _Form | None = None
        self.num_close_looks = 0
        """How many contributions were looked at tensor by tensor."""

    def read(
        self, values: Mapping[str, object], reference: Reference, *, weight: float, names: Names = "any"
    ) -> Reading:
        """One contribution, checked.

        Args:
            values: Variables by name; see `hansa.algorithms.arrays.as_value`.
            reference: What is expected of them; it may learn, but not forget, from one call to the next.
            weight: What they will be multiplied by.
            names: As for `check_values`; the same for all contributions with one reference.

        Raises:
            RuleError: Something is not as expected.
        """
        form = self._form
        arrays = form.arrays_of(values) if form is not None and form.reference is reference else None
        if form is None or arrays is None:
            return self._read_closely(values, reference, weight=weight, names=names)
        if not form.is_gathered:
            _check_each(form.names, arrays, weight)
            return Reading(form.layout, arrays, None)
        regions = self._memory.take(form.layout)
        for region, members in zip(regions, form.members, strict=True):
            chosen = arrays if len(regions) == 1 else [arrays[position] for position in members]
            np.concatenate(chosen, axis=None, out=region)
        if not all(map(are_tame, regions)):
            try:
                _check_each(form.names, arrays, weight)
            except RuleError:
                self._memory.give_back(form.layout, regions)
                raise
        return Reading(form.layout, [], regions)

    def _read_closely(
        self, values: Mapping[str, object], reference: Reference, *, weight: float, names: Names
    ) -> Reading:
        self.num_close_looks += 1
        checked = check_values(values, reference, weight=weight, names=names)
        layout = self._memory.layout_of(
            tuple(
                [Entry(name, value.array.shape, value.array.dtype, value.is_scalar) for name, value in checked.items()]
            )
        )
        arrays = [value.array for value in checked.values()]
        plain = all(array is values[entry.name] for array, entry in zip(arrays, layout.entries, strict=True))
        if plain and arrays and not any(array.dtype.kind == "V" for array in arrays):  # bfloat16: not for concatenate
            self._form = _Form(reference, layout, arrays)
        return Reading(layout, arrays, None)


def _check_each(names: list[str], arrays: list[Array], weight: float) -> None:
    for name, array in zip(names, arrays, strict=True):
        check_finite(name, array, weight=weight)
