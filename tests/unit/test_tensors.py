"""The safetensors layout: by hand, as law, and against hostile files."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hansa import tensors
from hansa.errors import DecodeError, EncodeError

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64,)),
)
arrays = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name.isprintable()),
    dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    max_size=5,
)


def file(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays, st.booleans())
def test_what_is_written_is_read(tmp_path: Path, value: dict[str, np.ndarray[Any, Any]], mmap: bool) -> None:
    tensors.write(tmp_path / "t", value)
    read = tensors.read(tmp_path / "t", mmap)
    assert read.keys() == value.keys()
    for name, array in value.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert (read[name].dtype, read[name].shape) == (native.dtype, native.shape)
        assert read[name].tobytes() == native.tobytes()
        assert read[name].flags.aligned


def test_a_file_by_hand(tmp_path: Path) -> None:
    value = {"b": np.array([1, 2], np.int8), "a": np.array([[1.0]], np.float32), "c": np.array(3, np.int8)}
    tensors.write(tmp_path / "t", value, {"who": "é"})
    raw = (tmp_path / "t").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    # The wider dtype first; within one dtype the order given; 1.0 is 0x3f800000.
    assert list(json.loads(raw[8 : 8 + length]).items()) == [
        ("__metadata__", {"who": "é"}),
        ("a", {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}),
        ("b", {"dtype": "I8", "shape": [2], "data_offsets": [4, 6]}),
        ("c", {"dtype": "I8", "shape": [], "data_offsets": [6, 7]}),
    ]
    assert raw[8:9] == b"{"
    assert raw[8 + length :] == b"\0\0\x80\x3f\1\2\3"
    assert (8 + length) % 64 == 0
    assert tensors.parse_header(memoryview(raw)).metadata == {"who": "é"}


def test_files_of_other_software_are_read(tmp_path: Path) -> None:
    header = {
        "x": {"dtype": "I16", "shape": [2], "data_offsets": [1, 5]},
        "y": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    }
    (tmp_path / "t").write_bytes(file(json.dumps(header).encode() + b"   ", b"\x07\1\0\2\0"))
    read = tensors.read(tmp_path / "t")
    assert read["x"].tolist() == [1, 2]
    assert read["y"].tolist() == [7]


def test_mapped_arrays_are_read_only_and_others_writable(tmp_path: Path) -> None:
    tensors.write(tmp_path / "t", {"a": np.zeros(3)})
    assert not tensors.read(tmp_path / "t")["a"].flags.writeable
    read = tensors.read(tmp_path / "t", mmap=False)
    read["a"][0] = 1
    assert tensors.read(tmp_path / "t")["a"][0] == 0


def test_bits_of_a_dtype_that_numpy_lacks(tmp_path: Path) -> None:
    tensors.write(tmp_path / "t", {"w": np.array([0x3F80], np.uint16)}, dtypes={"w": "BF16"})  # 1.0
    header = tensors.parse_header(memoryview((tmp_path / "t").read_bytes()))
    assert header.entries["w"].dtype == "BF16"
    assert tensors.read(tmp_path / "t")["w"].view(np.uint16).tolist() == [0x3F80]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    tensors.write(tmp_path / "t", {"a": np.zeros(3)})
    for bad in (np.array([None]), np.zeros(2, "c16"), np.array(["x"])):
        with pytest.raises(EncodeError, match="cannot encode b"):
            tensors.write(tmp_path / "t", {"a": np.ones(3), "b": bad})
    for tag in ("F32", "BF16", "X"):
        with pytest.raises(EncodeError, match="cannot encode b"):
            tensors.write(tmp_path / "t", {"b": np.zeros(2)}, dtypes={"b": tag})
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert tensors.read(tmp_path / "t")["a"].sum() == 0


def test_many_tensors_are_written_in_batches(tmp_path: Path) -> None:
    value = {f"w{i}": np.full((2, 3), i)[:, ::2] for i in range(1000)}
    tensors.write(tmp_path / "t", value)
    read = tensors.read(tmp_path / "t")
    assert all(np.array_equal(read[name], value[name]) for name in value)


def entry(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes"),
        (b"1234567", "7 bytes"),
        (file({}, length=2**63), "cannot have a header"),
        (file({}, length=3), "cannot have a header"),
        (file(b"[]"), "must be an object"),
        (file(b"{x"), "no JSON"),
        (file(b"\xff\xff"), "no UTF-8"),
        (file(b"[" * 5000), "levels"),
        (file(b'{"w":{},"w":{}}'), "twice"),
        (file({"__metadata__": {"a": 1}}), "metadata"),
        (file({"w": []}), "must have dtype"),
        (file(entry(more=1), bytes(8)), "must have dtype"),
        (file(entry(dtype="F99"), bytes(8)), "unknown dtype"),
        (file(entry(dtype=["F32"]), bytes(8)), "unknown dtype"),
        (file(entry(shape=[-2]), bytes(8)), "cannot hold -2"),
        (file(entry(shape=[2.0]), bytes(8)), "cannot hold 2.0"),
        (file(entry(shape=[2**40, 2**40])), "beyond any memory"),
        (file(entry(shape="2"), bytes(8)), "list"),
        (file(entry(data_offsets=[0, 9]), bytes(9)), "cannot lie at 0:9"),
        (file(entry(data_offsets=[-8, 0]), bytes(8)), "cannot lie at"),
        (file(entry(data_offsets=[1, 9]), bytes(9)), "begins at 1"),
        (file(entry(data_offsets=[0]), bytes(8)), "two offsets"),
        (file(entry(), bytes(7)), "end at 8"),
        (file(entry(), bytes(9)), "end at 8"),
        (file(entry() | {"v": entry()["w"]}, bytes(8)), "begins at 0"),
    ],
)  # fmt: skip
def test_each_rule_of_the_layout_is_checked(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        tensors.parse_header(memoryview(raw))


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_a_header_or_our_error(data: bytes, length: int) -> None:
    for raw in (data, length.to_bytes(8, "little") + data, file(data, b"")):
        with contextlib.suppress(DecodeError):
            tensors.parse_header(memoryview(raw))
