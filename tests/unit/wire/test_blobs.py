"""Blobs: regions, files, digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from hansa import tensors
from hansa.errors import DecodeError
from hansa.wire.blobs import Blob
from hansa.wire.codec import Encoder, FileSink
from hansa.wire.open_ports import get_open_ports


def blob() -> Blob:
    value = {
        "a": np.arange(3, dtype=np.float32), "b": np.arange(4, dtype=np.int8), "c": np.array(7, dtype=np.float32),
        "d": np.array([1 + 2j]), "e": np.arange(2, dtype=np.float64), "f": np.zeros((0, 2), np.int64),
    }  # fmt: skip
    (result,) = Encoder(0).encode(value).blobs
    return result


def test_tensors_of_one_dtype_are_one_flat_region() -> None:
    regions = blob().regions()
    assert list(regions["float32"]) == [0, 1, 2, 7]
    assert list(regions["int8"]) == [0, 1, 2, 3]
    assert list(regions["complex128"]) == [1 + 2j]
    assert list(regions["float64"]) == [0, 1]
    assert regions["int64"].size == 0
    assert not any(region.flags.writeable for region in regions.values())
    assert all(region.flags.aligned for region in regions.values())


def test_a_blob_is_a_safetensors_file(tmp_path: Path) -> None:
    blob().write_file(tmp_path / "b")
    raw = (tmp_path / "b").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    # By hand: complex128 and float64 take 16 bytes each, four float32 16 more, int8 the last 4.
    assert header == {
        "complex128": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]},
        "float64": {"dtype": "F64", "shape": [2], "data_offsets": [16, 32]},
        "int64": {"dtype": "I64", "shape": [0], "data_offsets": [32, 32]},
        "float32": {"dtype": "F32", "shape": [4], "data_offsets": [32, 48]},
        "int8": {"dtype": "I8", "shape": [4], "data_offsets": [48, 52]},
    }
    assert (8 + length) % 64 == 0
    assert len(raw) == 8 + length + 52
    assert list(tensors.read(tmp_path / "b")["float32"]) == [0, 1, 2, 7]


def test_a_file_is_mapped_and_has_the_same_digest(tmp_path: Path) -> None:
    memory = blob()
    memory.write_file(tmp_path / "b")
    mapped = Blob.map_file(tmp_path / "b")
    assert mapped.size_bytes == memory.size_bytes == (tmp_path / "b").stat().st_size
    assert mapped.digest() == memory.digest()
    assert mapped.digest() == "sha256:" + hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest()
    assert not mapped.memory.flags.writeable
    assert list(mapped.regions()["float32"]) == [0, 1, 2, 7]


def test_a_blob_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        blob().memory[0] = 1


def test_an_empty_file_is_no_blob(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    with pytest.raises(DecodeError, match="empty"):
        Blob.map_file(tmp_path / "b")


def test_a_tensor_file_of_other_regions_has_no_flat_regions(tmp_path: Path) -> None:
    tensors.write(tmp_path / "b", {"conv.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(DecodeError, match="no region 'conv.weight'"):
        Blob.map_file(tmp_path / "b").regions()


def test_each_blob_of_a_task_has_a_file_of_its_own(tmp_path: Path) -> None:
    encoder = Encoder(0, FileSink(tmp_path, "round-3"))
    encoder.encode(np.zeros(3))
    encoder.encode(np.ones(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-3-0.safetensors", "round-3-1.safetensors"]


def test_open_ports_are_different_and_can_be_bound() -> None:
    ports = get_open_ports(20)
    assert len(set(ports)) == 20
    assert all(1024 <= port < 65536 for port in ports)
    assert get_open_ports(0) == []
