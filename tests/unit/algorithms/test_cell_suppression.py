"""What is hidden cannot be had by subtraction."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hansa.algorithms.cell_suppression import hidden_cells

TABLES = arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 8)), elements=st.integers(0, 30))


@given(TABLES, st.integers(1, 15))
def test_the_hidden_cells_of_a_row_or_column_hold_the_floor_together(counts: Any, floor: int) -> None:
    hidden = hidden_cells(counts, floor)
    assert not ((counts > 0) & (counts < floor) & ~hidden).any()
    assert not hidden[counts == 0].any()
    for lines, marks in ((counts, hidden), (counts.T, hidden.T)):
        for line, mark in zip(lines, marks, strict=True):
            # or there is nothing left that could be hidden
            assert not mark.any() or line[mark].sum() >= floor or (mark == (line > 0)).all()


def test_by_hand() -> None:
    # 3 is under 5. Its row's total would tell it, so 6 is hidden, too (9 together); its column's total, so 7 (10).
    counts = np.array([[3, 6, 20], [7, 9, 30]])
    assert hidden_cells(counts, 5).tolist() == [[True, True, False], [True, False, False]]
    assert not hidden_cells(np.array([[0, 5, 20]]), 5).any()


def test_what_is_not_shown_anyway_counts_as_hidden() -> None:
    never = np.array([[False, False], [True, True]])
    counts = np.array([[8, 20], [2, 40]])
    assert hidden_cells(counts, 5, hidden=never).tolist() == [[True, False], [True, True]]
