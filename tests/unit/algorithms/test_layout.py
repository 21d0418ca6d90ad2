"""Where variables lie, in words and in memory."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.algorithms.arrays import dtype_from, dtype_text, flat_pieces
from hansa.algorithms.layout import Entry, Layout, Memory, entries_from
from hansa.errors import RuleError

ENTRIES = (
    Entry("w", (2, 3), np.dtype(np.float32), False),
    Entry("n", (), np.dtype(np.int64), True),
    Entry("h", (4,), np.dtype(np.float16), False),
    Entry("none", (0, 3), np.dtype(">f8"), False),
)


def test_one_region_per_type_of_the_rule() -> None:
    # w and h are summed in float32: 6 + 4 elements; n and none in float64: 1 + 0.
    layout = Layout(ENTRIES)
    assert layout.dtypes == [np.dtype(np.float32), np.dtype(np.float64)]
    assert layout.sizes == [10, 1]
    assert [tuple(slot) for slot in layout.slots] == [(0, 0, 6), (1, 0, 1), (0, 6, 10), (1, 1, 1)]
    assert layout.num_bytes == 48


def test_in_words_and_back() -> None:
    layout = Layout(ENTRIES)
    assert entries_from(json.loads(json.dumps(layout.to_json()))) == ENTRIES
    for bad in ([["w", [2]]], [["w", 3, "<f4", 0]], [[1, 2, 3, 4]], None):
        with pytest.raises(RuleError):
            entries_from(bad)  # type: ignore[arg-type]  # as another process might send it


def test_dtypes_in_words() -> None:
    for code in ("<f4", ">f8", "<f2", "|b1", "<i8", "|u1", "<c8"):
        assert dtype_text(dtype_from(code)) == code
    for bad in ("O", "<U3", "M8[s]", "text", "i4,i4", "V2"):
        with pytest.raises(RuleError, match="no dtype of numbers"):
            dtype_from(bad)


def test_regions_that_came_from_elsewhere() -> None:
    layout = Layout(ENTRIES)
    floats, number = np.arange(10, dtype=np.float32), np.array([7.0])
    own = layout.regions_from([floats, number.view(np.uint8)])
    assert np.shares_memory(own[0], floats)
    assert np.shares_memory(own[1], number)
    # Bytes of a frame: read-only, and wherever they happen to lie.
    frame = np.frombuffer(b"x" + floats.tobytes() + number.tobytes(), np.uint8)
    copied = layout.regions_from([frame[1:41], frame[41:]])
    assert [region.tolist() for region in copied] == [floats.tolist(), [7.0]]
    assert all(region.flags.writeable and region.flags.aligned for region in copied)
    for wrong in ([floats], [floats, floats], [floats[:9], number]):
        with pytest.raises(RuleError, match="not of the size"):
            layout.regions_from(wrong)


def test_memory_is_used_again() -> None:
    asked: list[int] = []

    def allocate(size_bytes: int) -> Any:
        asked.append(size_bytes)
        return np.empty(size_bytes, np.uint8)

    memory = Memory(allocate)
    layout = memory.layout_of(ENTRIES)
    assert memory.layout_of(tuple(ENTRIES)) is layout
    first = memory.take(layout)
    assert [region.dtype for region in first] == layout.dtypes
    memory.give_back(layout, first)
    assert memory.take(layout) is first
    assert asked == [40, 8]
    memory.give_back(layout, first)
    other = memory.layout_of(ENTRIES[:1])  # what was kept is of no use for it
    memory.give_back(layout, first)
    assert memory.take(other) is not first
    assert asked == [40, 8, 24]
    memory.clear()
    memory.take(other)
    assert asked == [40, 8, 24, 24]


@settings(max_examples=300, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    order=st.sampled_from(["C", "F", "strided", "reversed"]),
    size=st.integers(1, 30),
)
def test_law_pieces_are_the_numbers_in_c_order(shape: list[int], order: str, size: int) -> None:
    array = np.arange(int(np.prod(shape, dtype=int)), dtype=np.float32).reshape(shape)
    if order == "F":
        array = np.asfortranarray(array)
    elif order == "strided" and shape:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif order == "reversed" and shape:
        array = array[::-1]
    pieces = list(flat_pieces(array, size))
    assert all(piece.ndim == 1 and 0 < len(piece) <= size for piece in pieces)
    assert [number for piece in pieces for number in piece.tolist()] == array.reshape(-1).tolist()
