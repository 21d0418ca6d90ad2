"""What is encoded arrives: equal, in its own class, and nothing of it shared."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings

from hansa.apis.analytix import AnalyticsData, AnalyticsDataType
from hansa.apis.dxo import DXO, from_bytes, from_shareable
from hansa.apis.learnable import Learnable
from hansa.apis.model import ModelLearnable, make_model_learnable
from hansa.apis.shareable import Shareable
from hansa.errors import EncodeError
from hansa.wire import codec
from hansa.wire.codec import Encoder, FileSink, Limits, decode
from travelling_values import same, values


class Point(NamedTuple):
    x: int
    y: int


@settings(max_examples=1000, deadline=None)
@given(values)
def test_what_is_encoded_arrives_inline(value: Any) -> None:
    message = Encoder().encode(value)
    assert not message.blobs
    assert same(value, decode(message))


@settings(max_examples=1000, deadline=None)
@given(values)
def test_what_is_encoded_arrives_through_blobs_however_memory_is_given(value: Any) -> None:
    encoder = Encoder(inline_limit=-1)
    assert same(value, decode(encoder.encode(value)))
    assert same(value, decode(encoder.encode(value), arrays="readonly"))
    assert same(value, decode(encoder.encode(value), arrays="own"))


@settings(max_examples=300, deadline=None)
@given(values)
def test_what_is_encoded_arrives_as_one_string_of_bytes(value: Any) -> None:
    assert same(value, codec.from_bytes(codec.to_bytes(value)))


@pytest.mark.parametrize("inline_limit", [0, 64 * 1024])
def test_many_tensors_of_many_dtypes_arrive_in_order(inline_limit: int) -> None:
    codes = ["?", "i1", "<i2", "<i4", "<i8", "u1", "<f2", "<f4", "<f8", "<c8", "<c16", "M8[ns]", "m8[D]", "U3", "S4"]
    data = {f"layer{i}.{code}": np.arange(i % 7 * 3).reshape(-1, 3).astype(code) for i in range(40) for code in codes}
    message = Encoder(inline_limit).encode(data)
    assert bool(message.blobs) is (inline_limit == 0)
    assert len(message.tables) == 1
    assert same(data, decode(message))


def test_a_task_as_scatter_and_gather_sends_it() -> None:
    model = make_model_learnable({"w": np.ones(3, np.float32)}, {"round": 1})
    task = DXO("WEIGHTS", model["weights"], {"NUM_STEPS_CURRENT_ROUND": np.int64(7)}).to_shareable()
    task.add_cookie("round", 3)
    task.set_peer_props({"identity": "server", "numbers": (1, 2)})
    arrived = decode(Encoder().encode(task))
    assert type(arrived) is Shareable
    assert arrived.get_cookie("round") == 3
    assert arrived.get_peer_prop("numbers", None) == (1, 2)
    dxo = from_shareable(arrived)
    assert dxo.data is arrived["DXO"]["data"]
    assert type(dxo.meta["NUM_STEPS_CURRENT_ROUND"]) is np.int64


def test_dxo_and_its_enums_arrive_as_themselves() -> None:
    analytics = AnalyticsData("loss", 0.5, AnalyticsDataType.SCALAR).to_dxo()
    nested = DXO("COLLECTION", {"a": DXO("WEIGHTS", OrderedDict(w=np.zeros(2))), "b": analytics})
    arrived = from_bytes(nested.to_bytes())
    assert same(nested, arrived)
    assert AnalyticsDataType.SCALAR in arrived.data["b"].meta.values()


def test_byte_forms_of_the_values_of_apis() -> None:
    model = make_model_learnable({"w": np.arange(4.0)}, None)
    assert same(ModelLearnable.from_bytes(model.to_bytes()), model)
    assert same(Learnable.from_bytes(Learnable(a=1).to_bytes()), Learnable(a=1))
    task = Shareable()
    task["x"] = {1: "one", None: (2,)}
    assert same(Shareable.from_bytes(task.to_bytes()), task)


class MyDict(dict[str, Any]):
    pass


class MyShareable(Shareable):
    pass


class MyArray(np.ndarray[Any, Any]):
    pass


class MyList(list[int]):
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MyDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (MyShareable(), Shareable()),
        (MyList([1]), [1]),
        (np.zeros(2).view(MyArray), np.zeros(2)),
        (np.str_(""), np.str_("")),
        (np.bytes_(b""), np.bytes_(b"")),
        (-0.0, -0.0),
        (2**63, 2**63),
        ([10**5000], [10**5000]),  # beyond what Python reads as decimal digits
        ({True: 1, 2: "b", (1, (2,)): None}, {True: 1, 2: "b", (1, (2,)): None}),
        ("\ud83d\ude00", "\ud83d\ude00"),  # two lone surrogates are not the one character that they would make
        ("\U0001f600", "\U0001f600"),
        (np.array(5, ">i4"), np.array(5, "<i4")),
        (np.broadcast_to(np.float32(1), (2, 2)), np.ones((2, 2), np.float32)),
    ],
)  # fmt: skip
def test_as_what_it_arrives(value: Any, expected: Any) -> None:
    assert same(decode(Encoder().encode(value)), expected)


def test_the_same_array_twice_arrives_as_two() -> None:
    array = np.zeros(3)
    one, other = decode(Encoder().encode([array, array]))
    one[0] = 1
    assert other[0] == 0
    wide = {f"w{i}": array for i in range(20)}
    arrived = decode(Encoder().encode([wide, wide]))
    arrived[0]["w0"][0] = 1
    assert sum(array.sum() for half in arrived for array in half.values()) == 1


@dataclass
class Record:
    x: int


class Colour(Enum):
    RED = 1


def cycle() -> dict[str, Any]:
    inner: dict[str, Any] = {"b": {"c": []}}
    inner["b"]["c"].append(inner["b"])
    return {"a": inner}


def deep(levels: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(levels):
        result = [result]
    return result


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"DXO": {"data": {"conv1.weight": np.array([object()])}}}, "DXO.data.conv1.weight", "Python objects"),
        ({"a": [0, {"b": object()}]}, "a[1].b", "builtins.object"),
        (DXO("WEIGHTS", {"w": np.zeros(2, "i4,f4")}), "data.w", "structured"),
        ({f"w{i}": np.zeros(2, "O" if i == 17 else "f4") for i in range(20)}, "w17", "Python objects"),
        ({"u": np.zeros(1, "U20000000")[:0]}, "u", "a list of str"),
        ({"n": np.longdouble(1)}, "n", "longdouble|float128"),
        ({"m": np.ma.masked_array([1, 2], [0, 1])}, "m", "mask"),
        ({"p": Point(1, 2)}, "p", "send its fields"),
        ({"r": Record(1)}, "r", "send its fields"),
        ({"e": Colour.RED}, "e", "no enum of hansa.apis"),
        ({"k": {Path("x"): 1}}, "k[PosixPath('x')]", "key"),
        ({1: {"x": len}}, "[1].x", "builtin_function"),
        ((1, [2, {len}]), "[1][1][0]", "builtin_function"),
        (cycle(), "a.b.c[0]", "contains itself"),
        (deep(70), "[0]" * 58, "too deeply"),
        (["x" * 2_000_000], "", "2000004 bytes"),
        ([0] * 300_000, "", "more than 250000 values"),
    ],
)  # fmt: skip
def test_what_cannot_travel_is_named_with_its_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason) as caught:
        Encoder().encode(value)
    assert caught.value.path.startswith(path)


def test_too_many_tensors_are_refused_by_the_sender() -> None:
    with pytest.raises(EncodeError, match="more than 3 tensors"):
        Encoder(limits=Limits(max_tensors=3)).encode([np.zeros(1) for _ in range(4)])


@pytest.mark.parametrize("levels", range(50, 64))
def test_what_the_encoder_lets_through_the_decoder_takes(levels: int) -> None:
    inner: Any = {1: complex(float("nan"), 0), "t": np.zeros((1, 1))}
    for _ in range(levels):
        inner = (inner,) if levels % 2 else {"a": inner}
    try:
        message = Encoder().encode(inner)
    except EncodeError:
        return
    assert same(decode(message), inner)


def test_files_serve_as_well_as_memory(tmp_path: Path) -> None:
    value = {"a": np.arange(1000.0), "b": b"x" * 1000, "c": np.array(["é", "xyz"]), "d": np.zeros((0, 3))}
    sink = FileSink(tmp_path)
    message = Encoder(0, sink).encode(value)
    assert [path.name for path in sink.paths] == ["blob-0.safetensors"]
    for arrays in ("copy", "own", "readonly"):
        assert same(decode(message, arrays=arrays), value)  # type: ignore[arg-type]
