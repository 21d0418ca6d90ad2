"""What a job's process on the server is given when it is started anew: a file of frames, as they went over its pipe.

::

    {"k": "recall"}    which start this is, and what the workflows had decided
    {"k": "tables"}    layouts of tensors that a site has sent and will not send again
    {"k": "commit"}    the last one
    {"k": "result"}    each result that was received since
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.errors import DecodeError, RunError
from hansa.runtime.file_blobs import Head, Unpacking
from hansa.runtime.workflow_progress import Progress
from hansa.wire.codec import decode
from hansa.wire.message import Message
from hansa.wire.pipe import Frame, FrameReader, pack_frame

_logger = logging.getLogger("hansa.server")


@dataclass
class Recall:
    """Where a run goes on.

    Attributes:
        start: Which start of the job's process this is, from 1.
        progress: The last commit.
        decisions: What the workflows have decided since.
        results: What sites have sent since, by task id: what came, and its message.
        unpacking: What sites have sent before, and will not send again.
        history_lines: How many lines the history had at the commit.
    """

    start: int = 1
    progress: Progress = field(default_factory=Progress)
    decisions: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    results: dict[str, tuple[Head, Message]] = field(default_factory=dict)
    unpacking: dict[str, Unpacking] = field(default_factory=dict)
    history_lines: int = 0


def write_recall(path: Path, frames: Iterable[tuple[Head, Sequence[bytes]]]) -> None:
    """Write the frames for `read_recall`."""
    with path.open("wb") as stream:
        for head, parts in frames:
            stream.write(pack_frame(head, parts))


def read_recall(path: Path) -> Recall:
    """What the file says; the files of its blobs are taken over, as with frames of a pipe.

    Raises:
        RunError: It cannot be read.
    """
    recall = Recall()
    try:
        for frame in FrameReader().feed(path.read_bytes()):
            _take(recall, frame)
    except (OSError, DecodeError, LookupError, TypeError) as error:
        raise RunError(f"what was kept of the run cannot be read: {error}") from error
    return recall


def _take(recall: Recall, frame: Frame) -> None:
    head, parts = frame
    match head["k"]:
        case "recall":
            recall.start, recall.decisions = head["start"], head["decisions"]
        case "tables":
            recall.unpacking.setdefault(head["site"], Unpacking()).know(dict(zip(head["digests"], parts, strict=True)))
        case "commit":
            recall.progress = Progress.of(decode(Unpacking().message(head, parts), arrays="own"))
            recall.history_lines = head["history_lines"]
        case "result":
            unpacking = recall.unpacking.setdefault(head["site"], Unpacking())
            try:
                recall.results[head["task_id"]] = head, unpacking.message(head, parts)
            except DecodeError as error:  # the site's affair, not the run's: it is asked again
                _logger.warning("a result of %s cannot be read, and is asked for again: %s", head["site"], error)
