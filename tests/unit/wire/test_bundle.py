"""Several messages in one frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import DecodeError
from hansa.tensors import Array
from hansa.wire.bundle import Bundle, Unbundler
from hansa.wire.codec import Encoder, Message, decode


def table(num_tensors: int, first: int = 0) -> dict[str, Any]:
    """A dict that gets a table of its own from 16 tensors on."""
    return {f"layer{index}": np.full(5, first + index, np.float32) for index in range(num_tensors)}


def frame(bundle: Bundle) -> list[Array]:
    """The parts as the other end gets them."""
    return [np.frombuffer(bytes(part), np.uint8) for part in bundle.parts()]


def same(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def test_messages_and_arrays_come_out_as_they_went_in() -> None:
    values: list[dict[str, Any]] = [{"a": 1}, {"w": np.arange(50_000)}, table(20), {"x": b"y" * 2000, "z": np.ones(3)}]
    bundle = Bundle(set())
    references = [bundle.add(Encoder().encode(value)) for value in values]
    number = bundle.add_array(np.arange(7, dtype=np.uint8))
    parts, unbundler = frame(bundle), Unbundler()
    assert bundle.num_messages == 4
    for value, reference in reversed(list(zip(values, references, strict=True))):
        same(decode(unbundler.message(reference, parts)), value)
    assert parts[number].tolist() == list(range(7))


def test_a_connection_needs_each_table_once() -> None:
    known: set[str] = set()
    encoder, unbundler = Encoder(), Unbundler()
    sizes = []
    for turn in range(3):
        bundle = Bundle(known)
        value = table(200, first=turn)
        reference = bundle.add(encoder.encode(value))
        sizes.append(bundle.size_bytes)
        same(decode(unbundler.message(reference, frame(bundle))), value)
    assert sizes[1] == sizes[2] < sizes[0] - 5000  # the tensors themselves are 4,000 bytes


def test_in_one_frame_it_goes_once_too_and_the_order_of_reading_is_the_order_of_adding() -> None:
    bundle, encoder = Bundle(set()), Encoder()
    values = [table(50), table(50)]
    references = [bundle.add(encoder.encode(value)) for value in values]
    assert [len(reference[1]) for reference in references] == [1, 0]
    parts, unbundler = frame(bundle), Unbundler()
    for value, reference in zip(values, references, strict=True):
        same(decode(unbundler.message(reference, parts)), value)


def test_tables_beyond_what_an_end_keeps_go_with_every_message() -> None:
    known = {str(number) for number in range(Bundle.MOST_KNOWN)}
    unbundler = Unbundler()
    value = table(50)
    sizes = []
    for _ in range(2):
        bundle = Bundle(known)
        reference = bundle.add(Encoder().encode(value))
        sizes.append(bundle.size_bytes)
        same(decode(unbundler.message(reference, frame(bundle))), value)
    assert sizes[0] == sizes[1]
    assert len(known) == Bundle.MOST_KNOWN


def test_of_a_table_that_never_came_there_is_no_message() -> None:
    bundle = Bundle(set())
    bundle.add(Encoder().encode(table(50)))
    later = bundle.add(Encoder().encode(table(50)))
    with pytest.raises(DecodeError, match="no message"):
        Unbundler().message(later, frame(bundle))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 100) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON | st.tuples(st.lists(JSON, max_size=3), JSON, st.lists(JSON, max_size=3), JSON))
def test_a_reference_that_is_nonsense_is_a_decode_error_at_worst(reference: Any) -> None:
    bundle = Bundle(set())
    bundle.add(Encoder().encode({"w": np.arange(20_000)}))
    try:
        message = Unbundler().message(reference, frame(bundle))
    except DecodeError:
        return
    assert isinstance(message, Message)
