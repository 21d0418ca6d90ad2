"""Whatever the bytes: a value or DecodeError, and no more memory than they are worth."""

from __future__ import annotations

import contextlib
import json
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.apis.dxo import DXO
from hansa.errors import DecodeError
from hansa.wire import codec
from hansa.wire.blobs import Blob, digest_of
from hansa.wire.codec import Encoder, Limits, Message, TableCache, decode
from hansa.wire.message import seal
from travelling_values import values


def structure(text: str | bytes, payload: bytes = b"", *blobs: Blob) -> Message:
    """A message with a structure of one's own."""
    return Message(seal(text.encode() if isinstance(text, str) else text, payload), blobs)


def tolerate(message: Message) -> None:
    """Decode, and let nothing but DecodeError be raised."""
    with contextlib.suppress(DecodeError):
        decode(message)


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    tolerate(Message(data))
    tolerate(structure(data))
    with contextlib.suppress(DecodeError):
        codec.from_bytes(data)


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 80), st.floats(), st.text(max_size=3),
        st.sampled_from(["float32", "torch.float32", "str9", "datetime64[s]", "DXO", "Shareable", "Partial", "00"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(lambda tag, body: {f"~{tag}": body}, st.sampled_from("twsbaifcuTSFdOev"), inner),
        st.builds(
            lambda name, shape, offset: {"~t": [name, shape, offset]},
            st.sampled_from(["float32", "bool", "str2", "complex128", "bfloat16", "torch.int8"]),
            st.lists(st.one_of(st.integers(0, 5), st.just(2**62), st.booleans()), max_size=3),
            st.integers(0, 70),
        ),
        st.builds(
            lambda name, data, meta: {"~v": [name, {"data_kind": "x", "data": data, "meta": meta}]},
            st.sampled_from(["DXO", "Shareable", "Partial", "x"]), inner, inner,
        ),
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(json_values, st.binary(max_size=64))
def test_any_structure_gives_a_value_or_our_error(tree: Any, payload: bytes) -> None:
    tolerate(structure(json.dumps(tree), payload))


@settings(max_examples=1000, deadline=None)
@given(values, st.data())
def test_a_damaged_message_gives_a_value_or_our_error(value: Any, data: st.DataObject) -> None:
    whole = bytearray(codec.to_bytes(value))
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del whole[data.draw(st.integers(0, len(whole) - 1)) :]
            whole += b"\0"
    with contextlib.suppress(DecodeError):
        codec.from_bytes(bytes(whole))


@settings(max_examples=300, deadline=None)
@given(values, st.data())
def test_a_damaged_envelope_or_blob_gives_a_value_or_our_error(value: Any, data: st.DataObject) -> None:
    message = Encoder(inline_limit=-1).encode(value)
    envelope = bytearray(message.envelope)
    envelope[data.draw(st.integers(0, len(envelope) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    tolerate(Message(bytes(envelope), message.blobs, message.tables))
    for blob in message.blobs:
        memory = bytearray(blob.memory.tobytes())
        memory[data.draw(st.integers(0, min(len(memory), 200) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        tolerate(Message(message.envelope, (Blob(bytes(memory)),), message.tables))


PAYLOAD = np.arange(16, dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 65 + "]" * 65, "more than 64 levels"),
        ("[" * 100_000, "more than 64 levels"),
        ("[" + "0," * 250_000 + "0]", "more than 250000 values"),
        ("[" + "[]," * 125_000 + "0]", "more than 250000 values"),
        ('{"a":1,"a":2}', "twice"),
        ("NaN", "NaN is no JSON"),
        ("[Infinity]", "Infinity is no JSON"),
        ("1" * 5000, "no JSON"),
        ('"\xff"'.encode("latin-1"), "no UTF-8"),
        ("[1] 2", "no JSON"),
        ("", "envelope cannot have"),
        ('{"~z":1}', "unknown tag"),
        ('{"~t":["float32",[2],0],"b":1}', "does not stand alone"),
        ('{"~t":["object",[2],0]}', "unknown dtype"),
        ('{"~t":[["float32"],[2],0]}', "unknown dtype"),
        ('{"~t":["str0",[2],0]}', "unknown dtype"),
        ('{"~t":["float32",[-1],0]}', "cannot hold -1"),
        ('{"~t":["float32",[true],0]}', "cannot hold True"),
        ('{"~t":["float32",[4294967296,4294967296],0]}', "beyond any memory"),
        ('{"~t":["float32",[0,4611686018427387904,4],0]}', "beyond any memory"),
        ('{"~t":["float32",[' + ",".join("1" * 65) + "],0]}", "at most 64"),
        ('{"~t":["float32",[17],0]}', "more bytes than"),
        ('{"~t":["float32",[2],60]}', "cannot lie at"),
        ('{"~t":["float32",[2],-4]}', "no offset"),
        ('{"~t":["float32",[2],2]}', "no offset"),
        ('{"~t":["float32",[2],true]}', "no offset"),
        ('{"~t":["float32",[2],0,0]}', "no blob 0"),
        ('{"~t":["float32",[2],0,1e999]}', "no blob inf"),
        ('[{"~t":["float32",[2],0]},{"~t":["float32",[2],4]}]', "overlap"),
        ('[{"~t":["float32",[16],0]},{"~t":["float32",[1],0]}]', "more bytes than"),
        ('{"~t":["bool",[16],0]}', "neither 0 nor 1"),
        ('{"~t":["str4",[4],0]}', "no character"),
        ('{"~w":["sha256:00",[0]]}', "never came"),
        ('{"~b":[65,0]}', "more bytes than"),
        ('{"~b":"a"}', "base64"),
        ('{"~i":"g"}', "digits"),
        ('{"~f":"1"}', "no float"),
        ('{"~c":[1,2]}', "no complex"),
        ('{"~u":"ff"}', "no characters"),
        ('{"~s":["float32","00"]}', "no scalar"),
        ('{"~S":[[1]]}', "no set"),
        ('{"~S":[1,1]}', "twice"),
        ('{"~d":[[{"~T":[[]]},1]]}', "no dict"),
        ('{"~d":[[1,1],[1,2]]}', "twice"),
        ('{"~e":["AnalyticsDataType","__class__"]}', "no member"),
        ('{"~e":["Popen","x"]}', "no enum"),
        ('{"~v":["subprocess.Popen",{}]}', "no class"),
        ('{"~v":["DXO",{"data_kind":"W","data":[],"meta":{}}]}', "no parts of a DXO"),
        ('{"~v":["Shareable",{"__headers__":1}]}', "headers"),
        ('{"~v":["Partial",{"sum":{},"weight":1.0,"participants":{"~T":[]},"meta":{}}]}', "without participants"),
    ],
)  # fmt: skip
def test_each_rule_of_the_format_is_checked(text: str | bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(structure(text, PAYLOAD if text else b""))


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (b"", "0 bytes"),
        (b"\2\0\0\0\1\0\0\x000", "version 2"),
        (b"\1\0\0\0\xff\0\0\x000", "breaks off"),
        (bytes([1]) + bytes(2**20), "at most 1048576"),
    ],
)  # fmt: skip
def test_the_head_of_an_envelope_is_checked(envelope: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(Message(envelope))


def table(**changes: Any) -> Message:
    """A message of two tensors in a table, with changes."""
    columns = {
        "names": ["a", "b"], "dtypes": ["float32", "float32"], "shapes": [[2], [2]], "offsets": [0, 8],
        "sources": [0, 0],
    } | changes  # fmt: skip
    raw = json.dumps(columns).encode()
    text = json.dumps({"~w": [digest_of(raw), [-1]]})
    return Message(seal(text.encode(), PAYLOAD), (), {digest_of(raw): raw})


def test_a_table_by_hand_is_read() -> None:
    assert list(decode(table())["b"]) == [2, 3]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"offsets": [0, 4]}, "overlap"),
        ({"offsets": [0, -8]}, "cannot lie at -8"),
        ({"offsets": [0, 6]}, "cannot lie at 6"),
        ({"offsets": [0, 64]}, "cannot lie"),
        ({"offsets": [0]}, "one length"),
        ({"names": ["a", "a"]}, "each once"),
        ({"names": ["a", 1]}, "each once"),
        ({"names": [], "dtypes": [], "shapes": [], "offsets": [], "sources": []}, "0 tensors"),
        ({"sources": [0, 1]}, "no table"),
        ({"sources": [0, 2]}, "from number 0"),
        ({"sources": [0, -1]}, "blob -1"),
        ({"shapes": [[2], [15]]}, "more bytes than"),
        ({"dtypes": ["float32", "bytes"]}, "unknown dtype"),
        ({"more": 1}, "columns"),
    ],
)  # fmt: skip
def test_each_rule_of_a_table_is_checked(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(table(**changes))


def test_a_table_must_have_its_digest() -> None:
    message = table()
    (digest,) = message.tables
    with pytest.raises(DecodeError, match="does not have its digest"):
        decode(Message(message.envelope, (), {digest: b"{}"}))
    cache = TableCache()
    decode(message, tables=cache)
    assert decode(Message(message.envelope), tables=cache)  # it came before
    assert cache.num_parsed == 1


def test_a_blob_is_read_only_in_the_dtype_of_its_regions() -> None:
    message = Encoder(0).encode(np.arange(4, dtype=np.float32))
    (blob,) = message.blobs
    assert list(decode(structure('{"~t":["float32",[4],0,0]}', b"", blob))) == [0, 1, 2, 3]
    with pytest.raises(DecodeError, match="its region is 0:0"):
        decode(structure('{"~t":["int32",[4],0,0]}', b"", blob))
    for damaged in (b"", b"x" * 7, bytes(100), blob.memory.tobytes()[:-1], blob.memory.tobytes() + b"x"):
        with pytest.raises(DecodeError):
            decode(structure('{"~t":["float32",[4],0,0]}', b"", Blob(damaged)))


def test_tensors_are_counted() -> None:
    message = Encoder().encode([np.zeros(1) for _ in range(4)])
    with pytest.raises(DecodeError, match="more than 3 tensors"):
        decode(message, limits=Limits(max_tensors=3))


BOMBS = {
    "lists": "[" + ",".join(["[]"] * 249_000)[: 2**20 - 100] + "]",
    "huge shape": '{"~t":["float32",[1099511627776],0]}',
    "many claims": "[" + ",".join(['{"~t":["float32",[16],0]}'] * 20_000) + "]",
    "long text": json.dumps({"~u": "41" * 500_000}),
    "long int": json.dumps({"~i": "f" * 1_000_000}),
    "wide text": '{"~t":["str900000000",[2],0]}',
    "escapes": '["' + '\\"' * 400_000,
    "deep": "[" * 1_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_no_message_takes_much_more_memory_than_it_has_bytes(bomb: str) -> None:
    message = structure(bomb, PAYLOAD)
    tracemalloc.start()
    try:
        tolerate(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 250,000 values of at most 64 bytes, the text in four-byte characters and a copy of it.
    assert peak < 250_000 * 64 + 12 * len(message.envelope)


def test_no_code_is_named_by_bytes() -> None:
    arrived = decode(Encoder().encode({"__class__": "os.system", "py/object": "DXO", "d": DXO("x", {})}))
    assert type(arrived) is dict
    assert arrived["__class__"] == "os.system"


def test_numbers_that_nothing_here_can_hold_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for text in ('{"a":[0,{"~t":["bfloat16",[1],0]}]}', '{"a":[0,{"~s":["bfloat16","803f"]}]}'):
        with pytest.raises(DecodeError, match=r"^a\[1\]: bfloat16 needs the package ml_dtypes"):
            decode(structure(text, PAYLOAD))
