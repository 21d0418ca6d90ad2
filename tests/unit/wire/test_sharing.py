"""What is written once, what is copied, and whose memory an array is in."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import DXO
from hansa.apis.shareable import Shareable
from hansa.errors import DecodeError
from hansa.wire.blobs import Blob
from hansa.wire.codec import Encoder, FileSink, Message, TableCache, decode, from_bytes, to_bytes


def model(num_tensors: int, size: int = 10_000) -> dict[str, Any]:
    return {f"layer{i}.weight": np.full(size, i, dtype=np.float32) for i in range(num_tensors)}


def task(weights: dict[str, Any], site: str) -> Shareable:
    result = DXO("WEIGHTS", weights).to_shareable()
    result.set_header("site", site)
    return result


@pytest.mark.parametrize("num_tensors", [3, 40])  # without and with a table
def test_a_model_for_many_sites_is_written_once(num_tensors: int) -> None:
    weights, encoder = model(num_tensors), Encoder()
    messages = [encoder.encode(task(weights, f"site-{i}")) for i in range(50)]
    assert encoder.num_blobs == 1
    assert encoder.num_tensors_encoded == num_tensors
    assert encoder.bytes_encoded == num_tensors * 40_000
    assert len({id(message.blobs[0]) for message in messages}) == 1
    assert {decode(message).get_header("site") for message in messages} == {f"site-{i}" for i in range(50)}


@pytest.mark.parametrize("num_tensors", [3, 40])
def test_a_small_model_is_packed_once_and_rides_in_the_envelope(num_tensors: int) -> None:
    weights, encoder = model(num_tensors, size=10), Encoder()
    messages = [encoder.encode(task(weights, f"site-{i}")) for i in range(50)]
    assert encoder.num_blobs == 0
    assert encoder.num_tensors_encoded == num_tensors
    assert not any(message.blobs for message in messages)


@pytest.mark.parametrize("num_tensors", [3, 40])
def test_only_replaced_tensors_are_written_again(num_tensors: int) -> None:
    weights, encoder = model(num_tensors), Encoder()
    first = encoder.encode(task(weights, "a"))
    changed = weights | {"layer1.weight": np.full(5, -1, dtype=np.float32)}
    second = encoder.encode(task(changed, "b"))
    again = encoder.encode(task(changed, "c"))
    assert encoder.num_blobs == 2
    assert encoder.num_tensors_encoded == num_tensors + 1
    assert encoder.bytes_encoded == num_tensors * 40_000 + 20
    assert second.blobs == (first.blobs[0], again.blobs[1])
    assert second.blobs[1].size_bytes < 200
    for message, expected in ((first, weights), (second, changed), (again, changed)):
        arrived = decode(message)["DXO"]["data"]
        assert list(arrived) == list(expected)
        assert all(np.array_equal(arrived[name], expected[name]) for name in expected)


def test_a_message_refers_only_to_the_blobs_that_it_needs() -> None:
    encoder = Encoder()
    one, other = np.zeros(20_000), np.ones(20_000)
    encoder.encode(one)
    message = encoder.encode(other)
    assert encoder.num_blobs == 2
    assert len(message.blobs) == 1
    assert np.array_equal(decode(message), other)


def test_the_table_is_written_once_and_costs_the_envelope_nothing() -> None:
    encoder, cache = Encoder(), TableCache()
    wide = model(1000, size=100)
    messages = [encoder.encode(task(wide, f"site-{i}")) for i in range(5)]
    assert len({digest for message in messages for digest in message.tables}) == 1
    assert len({id(table) for message in messages for table in message.tables.values()}) == 1
    assert all(len(message.envelope) < 400 for message in messages)
    for message in messages:
        decode(message, tables=cache)
    decode(Message(messages[0].envelope, messages[0].blobs), tables=cache)  # the table came with an earlier message
    assert cache.num_parsed == 1
    with pytest.raises(DecodeError, match="never came"):
        decode(Message(messages[0].envelope, messages[0].blobs))


def test_a_table_cache_forgets_what_was_used_longest_ago() -> None:
    cache = TableCache(max_tables=2)
    messages = [Encoder().encode(model(16 + i, size=1)) for i in range(3)]
    for index in (0, 1, 0, 2, 0):
        decode(messages[index], tables=cache)
    assert cache.num_parsed == 3
    decode(messages[1], tables=cache)
    assert cache.num_parsed == 4


def test_an_encoder_keeps_what_it_knows_alive() -> None:
    # Were the array gone, another one could get its id, and would be taken for it.
    encoder = Encoder()
    array = np.zeros(20_000)
    reference = weakref.ref(array)
    encoder.encode(array)
    del array
    gc.collect()
    assert reference() is not None
    for value in range(20):
        assert decode(encoder.encode(np.full(20_000, value)))[0] == value


def test_a_copy_is_one_allocation_for_each_blob() -> None:
    sizes: list[int] = []

    def allocate(size_bytes: int) -> np.ndarray[Any, Any]:
        sizes.append(size_bytes)
        return np.empty(size_bytes, np.uint8)

    message = Encoder().encode(model(30))
    arrived = decode(message, allocate=allocate)
    assert sizes == [30 * 40_000]
    assert message.blobs[0].num_copies == 1
    assert all(array.flags.writeable and array.flags.aligned for array in arrived.values())
    arrived["layer1.weight"][:] = 7
    assert decode(message)["layer1.weight"][0] == 1


def test_read_only_arrays_are_views_of_the_blob(tmp_path: Path) -> None:
    for sink in (FileSink(tmp_path), None):
        message = (Encoder(sink=sink) if sink else Encoder()).encode(model(30))
        arrived = decode(message, arrays="readonly")
        (blob,) = message.blobs
        assert all(np.shares_memory(array, blob.memory) for array in arrived.values())
        assert not any(array.flags.writeable for array in arrived.values())
        assert blob.num_copies == 0


def test_owned_memory_is_handed_over_without_a_copy() -> None:
    message = Encoder().encode(model(30))
    memory = message.blobs[0].memory
    arrived = decode(message, arrays="own")
    assert all(np.shares_memory(array, memory) and array.flags.writeable for array in arrived.values())
    assert message.blobs[0].num_copies == 0
    with pytest.raises(ValueError, match="belongs to the receiver"):
        decode(message)


def test_owned_files_are_mapped_copy_on_write(tmp_path: Path) -> None:
    message = Encoder(sink=FileSink(tmp_path)).encode(model(30))
    arrived = decode(message, arrays="own")
    arrived["layer1.weight"][:] = 7
    assert message.blobs[0].num_copies == 0
    assert decode(message)["layer1.weight"][0] == 1
    assert decode(message, arrays="own")["layer1.weight"][0] == 1


def test_memory_that_others_see_is_copied_before_it_is_owned() -> None:
    message = Encoder().encode(model(3))
    shared = Blob(message.blobs[0].memory.tobytes())
    arrived = decode(Message(message.envelope, (shared,)), arrays="own")
    arrived["layer1.weight"][:] = 7
    assert shared.num_copies == 1


def test_arrays_outlive_their_message(tmp_path: Path) -> None:
    for arrays in ("copy", "own", "readonly"):
        message = Encoder(sink=FileSink(tmp_path)).encode(model(3))
        array = decode(message, arrays=arrays)["layer2.weight"]  # type: ignore[arg-type]
        (tmp_path / "blob-0.safetensors").unlink()
        del message
        gc.collect()
        assert array.sum() == 20_000


def test_inline_arrays_are_writable_or_not_as_asked() -> None:
    message = Encoder().encode({"a": np.zeros(3), "empty": np.zeros(0)})
    for arrays, writable in (("copy", True), ("own", True), ("readonly", False)):
        arrived = decode(message, arrays=arrays)  # type: ignore[arg-type]
        assert [array.flags.writeable for array in arrived.values()] == [writable, writable]


def test_no_blob_is_read_for_a_message_without_tensors() -> None:
    value = {"a": 1, "b": [2.5, "x"]}
    message = Encoder(0).encode(value)
    assert not message.blobs
    assert decode(message) == value


def test_bytes_go_to_the_blob_once_they_are_long() -> None:
    encoder = Encoder()
    value = {"short": b"x" * 512, "long": b"y" * 100_000, "array": bytearray(b"z" * 600)}
    message = encoder.encode(value)
    assert encoder.num_tensors_encoded == 2
    assert decode(message) == value
    assert list(message.blobs[0].regions()) == ["bytes"]


def test_the_byte_form_of_a_large_model() -> None:
    weights = model(20)
    arrived = from_bytes(to_bytes(weights))
    assert all(np.array_equal(arrived[name], weights[name]) and arrived[name].flags.writeable for name in weights)
