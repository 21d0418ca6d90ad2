"""Which cells of a table of counts may be shown, when its margins are known.

A cell under the floor is hidden; and where the hidden cells of a row or a column together hold fewer than the floor,
subtracting the others from the margin would tell as much, so further ones are hidden, the smallest first. This is cell
suppression with secondary suppressions as statistical offices do it: Cox, "Suppression Methodology and Statistical
Disclosure Control", 1980, JASA 75(370). Empty cells tell of nobody and are shown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def hidden_cells(counts: Ints, floor: int, *, hidden: Bools | None = None) -> Bools:
    """The cells that may not be shown.

    Args:
        counts: int64[rows, columns], >= 0.
        floor: The least count that may be seen; >= 1.
        hidden: Cells that are not shown in any case; bool of the same shape.

    Returns:
        bool[rows, columns].
    """
    held = (counts > 0) & (counts < floor)
    if hidden is not None:
        held |= hidden & (counts > 0)
    while True:
        before = int(held.sum())
        for lines, marks in ((counts, held), (counts.T, held.T)):
            for line, mark in zip(lines, marks, strict=True):
                _hide_more(line, mark, floor)
        if int(held.sum()) == before:
            return held


def _hide_more(line: Ints, mark: Bools, floor: int) -> None:
    """Hide the smallest cells of a row or column until the hidden ones hold `floor` together."""
    if not mark.any():
        return
    for index in np.argsort(line, kind="stable"):
        if line[mark].sum() >= floor:
            return
        if line[index] > 0:
            mark[index] = True
