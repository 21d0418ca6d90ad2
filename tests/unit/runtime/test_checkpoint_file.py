"""The file of a checkpoint: what goes in comes out, the old one stays until the new one is whole, damage is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.errors import DecodeError
from hansa.runtime.checkpoint_file import read_file, write_file
from hansa.wire.codec import Encoder, Message, decode

VALUES: dict[str, Any] = {
    "server": {"w": np.arange(100_000, dtype=np.float32), "n": 3, "name": "ä"},
    "site/a": {"w": np.arange(100_000, dtype=np.float64), "b": np.int8([1, 2])},
    "site/b": {"small": np.ones(3)},
    "site/c": {},
}


def encoded(values: dict[str, Any]) -> dict[str, Message]:
    return {name: Encoder().encode(value) for name, value in values.items()}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    write_file(tmp_path / "state", {"every": 1, "sites": ["a", "ö"]}, encoded(VALUES))
    facts, messages = read_file(tmp_path / "state")
    assert facts == {"every": 1, "sites": ["a", "ö"]}
    assert list(messages) == list(VALUES)
    for name, message in messages.items():
        value = decode(message, arrays="own")
        assert value.keys() == VALUES[name].keys()
        for key, item in VALUES[name].items():
            np.testing.assert_array_equal(value[key], item)
            if isinstance(item, np.ndarray):
                assert value[key].dtype == item.dtype
                value[key][:] = 0  # arrays of its own: the file stays as it is
    assert read_file(tmp_path / "state")[0] == facts
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_layouts_of_tensors_that_many_sites_share_are_written_once(tmp_path: Path) -> None:
    value = {f"layer-{number}": np.zeros(1000, np.float32) for number in range(100)}
    write_file(tmp_path / "one", {}, encoded({"site/0": value}))
    write_file(tmp_path / "two", {}, encoded({f"site/{number}": value for number in range(2)}))
    table = sum(map(len, Encoder().encode(value).tables.values()))
    assert table > 1000
    assert (tmp_path / "two").stat().st_size < 2 * (tmp_path / "one").stat().st_size - table // 2


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.9, 1.0])
def test_a_bit_that_has_turned_is_seen(tmp_path: Path, share: float) -> None:
    path = tmp_path / "state"
    write_file(path, {"every": 1}, encoded(VALUES))
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="its digest is another one"):
        read_file(path)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 40, 1000])
def test_a_file_that_was_cut_is_seen(tmp_path: Path, size: int) -> None:
    path = tmp_path / "state"
    write_file(path, {"every": 1}, encoded(VALUES))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DecodeError):
        read_file(path)


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_file(path, {"every": 1}, encoded(VALUES))
    (tmp_path / ".state.new").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(path, {"every": 2}, encoded(VALUES))
    assert read_file(path)[0] == {"every": 1}


def test_what_a_crash_has_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".state.new").write_bytes(b"half a check")
    write_file(tmp_path / "state", {"every": 1}, encoded(VALUES))
    assert read_file(tmp_path / "state")[0] == {"every": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
