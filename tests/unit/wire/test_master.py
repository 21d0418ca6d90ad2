"""One message for many receivers: what each gets is what `decode` would give, and nobody sees another's changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import DXO, from_shareable
from hansa.apis.shareable import Shareable
from hansa.errors import DecodeError
from hansa.wire.blobs import Blob, fresh
from hansa.wire.codec import Encoder, Message, TableCache, decode, to_bytes
from hansa.wire.master import Master


def task(num_tensors: int, size: int) -> Shareable:
    result = DXO("WEIGHTS", {f"w{i}": np.full(size, i, np.float32) for i in range(num_tensors)}).to_shareable()
    result.set_header("list", [1, [2.5, None, "x"], {"a": b"bytes"}])
    result.add_cookie("round", {"number": 3})
    return result


def other(value: Any) -> Shareable:
    result = Shareable()
    result["value"] = value
    result["w"] = np.arange(5.0)
    return result


VALUES = {
    "small": task(3, 4),
    "big": task(3, 50_000),
    "many": task(40, 50),
    "tuple": other((1, [2])),
    "set": other({1, 2}),
    "ordered": other(OrderedDict(b=1, a=2)),
    "numbers as keys": other({1: "x", (2, 3): np.ones(2)}),
    "scalar": other(np.float32(0.5)),
    "nested": other({"dxo": DXO("METRICS", {"loss": 0.5}), "list": [np.ones(3), {"a": np.zeros((2, 0))}]}),
    "0-d": other(np.array(3.5)),
    "strided": other(np.arange(12.0).reshape(3, 4).T),
}


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_each_gets_what_decode_would_give(value: Shareable, writable: bool) -> None:
    message = Encoder().encode(value)
    expected = to_bytes(decode(message, arrays="readonly"))
    master = Master(message, TableCache())
    for _ in range(3):
        given = master.give(writable=writable, allocate=fresh)
        assert type(given) is Shareable
        assert list(given) == list(value)
        assert to_bytes(given) == expected


def leaves(value: Any) -> list[Any]:
    if isinstance(value, DXO):
        return leaves([value.data, value.meta])
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, list) else [value]


def spoil(value: Any) -> None:
    """Change whatever can be changed."""
    if isinstance(value, DXO):
        spoil(value.data)
        spoil(value.meta)
    elif isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value["spoilt"] = True
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append("spoilt")
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        value[...] = 77


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_nobody_sees_what_another_does_to_its_own(value: Shareable, writable: bool) -> None:
    message = Encoder().encode(value)
    expected = to_bytes(decode(message, arrays="readonly"))
    master = Master(message, None)
    first, second = (master.give(writable=writable, allocate=fresh) for _ in range(2))
    spoil(first)
    assert to_bytes(second) == expected
    assert to_bytes(master.give(writable=writable, allocate=fresh)) == expected
    assert to_bytes(decode(message, arrays="readonly")) == expected


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_arrays_are_ones_own_where_one_may_write(value: Shareable) -> None:
    master = Master(Encoder().encode(value), None)
    for writable in (True, False):
        given = [master.give(writable=writable, allocate=fresh) for _ in range(2)]
        arrays = [[leaf for leaf in leaves(each) if isinstance(leaf, np.ndarray)] for each in given]
        assert all(array.flags.writeable is writable for array in (*arrays[0], *arrays[1]))
        for left, right in zip(*arrays, strict=True):
            if left.nbytes and writable:
                assert not np.shares_memory(left, right)


def test_a_blob_is_copied_once_for_each_that_writes_and_never_for_those_that_read() -> None:
    message = Encoder().encode(VALUES["big"])
    [blob] = message.blobs
    master = Master(message, None)
    allocated: list[int] = []

    def allocate(size: int) -> Any:
        allocated.append(size)
        return fresh(size)

    for _ in range(5):
        master.give(writable=False, allocate=allocate)
    assert (blob.num_copies, allocated) == (0, [])
    for _ in range(4):
        master.give(writable=True, allocate=allocate)
    assert blob.num_copies == 4
    assert allocated == [3 * 200_000] * 4


def test_those_that_read_share_the_blobs_memory() -> None:
    message = Encoder().encode(VALUES["big"])
    master = Master(message, None)
    for _ in range(2):
        weights = from_shareable(master.give(writable=False, allocate=fresh)).data
        assert all(np.shares_memory(array, message.blobs[0].memory) for array in weights.values())


def test_a_message_that_is_none_is_refused_when_it_comes() -> None:
    message = Encoder().encode(VALUES["big"])
    with pytest.raises(DecodeError):
        Master(Message(message.envelope, (Blob(b"no blob"),), message.tables), None)
