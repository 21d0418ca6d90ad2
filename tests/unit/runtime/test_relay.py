"""Frames between job processes and the network: paths stay here, and names of blobs are nothing but names."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.errors import DecodeError
from hansa.runtime.relay import from_network, to_network
from hansa.runtime.run_paths import RunPaths, file_name
from hansa.wire.frames import BlobRef, Frame

BLOB = {"name": "train-0.safetensors", "path": "/here/out/train-0.safetensors", "size": 12, "digest": "sha256:00"}


def test_a_path_does_not_leave_and_is_made_anew_at_the_receiver() -> None:
    frame, files = to_network("0001-x", {"k": "result", "number": 3, "blobs": [BLOB]}, [b"envelope"])
    assert files == [Path("/here/out/train-0.safetensors")]
    assert frame == Frame(
        "relay", "0001-x", {"k": "result", "number": 3}, (b"envelope",), (BlobRef(BLOB["name"], 12, "sha256:00"),)
    )
    head = from_network(frame, Path("/there/in"))
    assert head["blobs"] == [{**BLOB, "path": "/there/in/train-0.safetensors"}]


def test_blobs_in_the_head_of_a_frame_that_has_none_are_dropped() -> None:
    # else a peer could have a process read (and delete) any file here
    frame = Frame("relay", "0001-x", {"k": "result", "blobs": [{**BLOB, "path": "/etc/passwd"}]})
    assert from_network(frame, Path("/there/in")) == {"k": "result"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", ".hidden", "a..b", "x" * 201, "a\nb", "ä"])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="is no name for a blob"):
        file_name(name)
    with pytest.raises(DecodeError, match="is no name for a blob"):
        from_network(Frame("relay", "j", {}, (), (BlobRef(name, 1, "sha256:00"),)), Path("/there"))


def test_what_a_process_says_about_blobs_is_checked() -> None:
    with pytest.raises(DecodeError, match="no blob in it"):
        to_network("j", {"k": "task", "blobs": [{"name": "a"}]}, [])


def test_where_things_lie(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, 7, "site-1")
    paths.make()
    assert paths.app == tmp_path / "run_7" / "app_site-1"
    assert paths.folder.stat().st_mode & 0o077 == 0
    (paths.incoming / "x").write_bytes(b"x")
    paths.drop_blobs()
    assert list(paths.folder.iterdir()) == []
