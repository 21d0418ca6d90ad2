"""Frames on their way between a job process and the network: whose files they bring, and where these lie here.

A job process says `head["blobs"]` with name, path, size and digest. Paths mean nothing elsewhere: a frame of the
network has name, size and digest alone, and whoever receives it says where the file lies there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hansa.errors import DecodeError
from hansa.runtime.run_paths import file_name
from hansa.wire.frames import BlobRef, Frame

Head = dict[str, Any]  # Any: JSON

RELAY = "relay"


def to_network(job: str, head: Head, parts: Sequence[bytes]) -> tuple[Frame, list[Path]]:
    """A frame of a job process for the network, and the files that its receiver will want.

    Raises:
        DecodeError: The process has said something else than a frame with blobs.
    """
    rest = dict(head)
    refs, paths = [], []
    for blob in rest.pop("blobs", None) or ():
        try:
            refs.append(BlobRef(file_name(blob["name"]), int(blob["size"]), str(blob["digest"])))
            paths.append(Path(blob["path"]))
        except (TypeError, KeyError, ValueError) as error:
            raise DecodeError(f"a job process has sent a frame with no blob in it: {blob!r:.80}") from error
    return Frame(RELAY, job, rest, tuple(parts), tuple(refs)), paths


def from_network(frame: Frame, folder: Path) -> Head:
    """The head of a relayed frame as a job process here takes it; its blobs lie in a folder."""
    head = dict(frame.head)
    if frame.blobs:
        head["blobs"] = [
            {"name": ref.name, "path": str(folder / file_name(ref.name)), "size": ref.size_bytes, "digest": ref.digest}
            for ref in frame.blobs
        ]
    else:
        head.pop("blobs", None)
    return head
