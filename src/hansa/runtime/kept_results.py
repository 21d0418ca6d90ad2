"""What a site keeps of a job on its disk: results that the server does not have yet, and what its components know.

One file for each task, durable before its result is sent::

    kept/0000000007-s3f2a....task    a line with the digest of the rest; the result's frame; the state's frame
    kept/0000000007-s3f2a....sent    the server has the result
    kept/0000000007-s3f2a....lost    the first was there, and was damaged

The name has the number of the task here, whether there is a state (`s`, or `n`), and the beginning of its id's SHA-256.
The last one that the server has stays: the state in it is where a task begins that has to be run again. Large results
lie where they are sent from. What is damaged is found by its digest, and its task is run again. If the server asks for
another one instead, it has had the result, and the state after it is lost.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hansa.errors import DecodeError
from hansa.failpoints import reach
from hansa.runtime.file_blobs import BlobFolder, Head, Packing, Unpacking, delete, files_of
from hansa.wire.message import Message
from hansa.wire.pipe import Frame, FrameReader, pack_frame

_DIGEST_CHARS = 64
_TAG_CHARS = 16

_logger = logging.getLogger("hansa.site")


@dataclass
class _Kept:
    """A task that was done."""

    number: int
    tag: str
    task_id: str
    is_sent: bool
    files: list[Path]  # of its state


class KeptResults:
    """Keeps the results of one site's part of a job, and the states after them.

    Args:
        folder: Where; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.results: dict[str, tuple[Head, list[bytes]]] = {}
        """Those that were there and that the server may not have, by task id."""
        self.state: Message | None = None
        """What the components knew after the last task that was there."""
        self.problem: str | None = None
        """Why this site cannot go on: a state is damaged that nothing but itself leads to again."""
        self._lost = [path.stem.partition("-")[2] for path in sorted(folder.glob("*.lost"))]  # tags of tasks
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._kept: list[_Kept] = []
        self._load()
        self._number = self._kept[-1].number if self._kept else 0
        self._packing = Packing(BlobFolder(folder, f"state-{self._number}"))

    # -- after a restart ---------------------------------------------------------------------------------------

    def _load(self) -> None:
        paths = sorted(self._folder.glob("*.task"))
        for index, path in enumerate(paths):
            try:
                self._take(path, _read(path))
            except (OSError, DecodeError, LookupError, TypeError, ValueError) as error:
                self._set_aside(paths[index:], error)
                break
        last = self._kept[-1] if self._kept else None
        if last is not None and len(frames := _read(self._file(last.number, last.tag))) > 1:
            head, parts = frames[1]
            copies = [_copied(Path(blob["path"])) for blob in head.get("blobs") or ()]
            blobs = [{**blob, "path": str(copy)} for blob, copy in zip(head.get("blobs") or (), copies, strict=True)]
            self.state = Unpacking().message({**head, "blobs": blobs}, parts)
        used = {file for kept in self._kept for file in kept.files}
        delete(file for file in self._folder.glob("state-*") if file not in used)

    def _set_aside(self, paths: Sequence[Path], error: Exception) -> None:
        """A file is damaged: its task, and those after it, are run again from the state before it, where that helps."""
        # The server has the result, and asks no more.
        if any(path.with_suffix(".sent").exists() and _has_state(path) for path in paths):
            self.problem = f"{paths[0]}: the state of this site is damaged, and the job cannot go on here ({error})"
            return
        _logger.error("what was kept of a task is damaged, and the task is run again: %s: %s", paths[0], error)
        for path in [path for path in paths if _has_state(path)]:
            path.with_suffix(".lost").touch()
            self._lost.append(path.stem.partition("-")[2])
        _sync(self._folder)
        delete(paths)

    def _take(self, path: Path, frames: Sequence[Frame]) -> None:
        head, parts = frames[0]
        files = [file for state, _ in frames[1:] for file in files_of(state)]
        is_sent = path.with_suffix(".sent").exists()
        for blob in [blob for state, _ in frames[1:] for blob in state.get("blobs") or ()]:
            _check(blob)
        if not is_sent:
            for blob in head.get("blobs") or ():
                _check(blob)
            self.results[head["task_id"]] = head, parts
        number, _, tag = path.stem.partition("-")
        self._kept.append(_Kept(int(number), tag, head["task_id"], is_sent, files))

    # -- while tasks are done ----------------------------------------------------------------------------------

    def problem_with(self, task_id: str) -> str | None:
        """Why a task cannot be done here: the server has a result whose state is lost, else it would ask for that."""
        if self._lost and _tag(task_id, has_state=True) != self._lost[0]:
            self.problem = f"{self._folder}: the state of this site is damaged, and the job cannot go on here"
        return self.problem

    def keep(self, head: Head, parts: Sequence[bytes], *, state: Message | None) -> None:
        """Keep a result, with what the components know now; durable when it returns. May be tried again if it fails.

        Args:
            head: The head of the frame that brings it; says the task's id.
            parts: Its parts.
            state: What the components know; None: they keep nothing.

        Raises:
            OSError: The disk.
        """
        self._number += 1
        reach("disk.kept")
        content, files = pack_frame(head, parts), []
        if state is not None:
            said, state_parts = self._packing.pack(state, [set()])
            files = files_of(said)
            content += pack_frame({"k": "state", **said}, state_parts)
            for file in files:
                _sync(file)
        tag = _tag(str(head["task_id"]), has_state=state is not None)
        path = self._file(self._number, tag)
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as stream:
            stream.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        if self._lost and tag == self._lost[0]:
            del self._lost[0]
            delete(sorted(self._folder.glob("*.lost"))[:1])
        _sync(self._folder)
        self._kept.append(_Kept(self._number, tag, str(head["task_id"]), is_sent=False, files=files))

    def sent(self, task_id: str) -> None:
        """The server has the result of a task."""
        self.results.pop(task_id, None)
        for kept in self._kept:
            if kept.task_id == task_id and not kept.is_sent:
                kept.is_sent = True
                self._file(kept.number, kept.tag).with_suffix(".sent").touch()
        last = max((kept.number for kept in self._kept if kept.is_sent), default=0)
        for kept in [kept for kept in self._kept if kept.is_sent and kept.number < last]:
            path = self._file(kept.number, kept.tag)
            delete([path, path.with_suffix(".sent"), *kept.files])
            self._kept.remove(kept)

    def _file(self, number: int, tag: str) -> Path:
        return self._folder / f"{number:010d}-{tag}.task"


def _tag(task_id: str, *, has_state: bool) -> str:
    return ("s" if has_state else "n") + hashlib.sha256(task_id.encode()).hexdigest()[:_TAG_CHARS]


def _has_state(path: Path) -> bool:
    return path.stem.partition("-")[2].startswith("s")


def _read(path: Path) -> list[Frame]:
    content = path.read_bytes()
    digest, body = content[:_DIGEST_CHARS], content[_DIGEST_CHARS + 1 :]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise DecodeError("its digest is another one")
    return FrameReader().feed(body)


def _check(blob: Head) -> None:
    with Path(blob["path"]).open("rb") as stream:
        if "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() != blob["digest"]:
            raise DecodeError(f"{blob['path']}: its digest is another one")


def _copied(path: Path) -> Path:
    """Another name for a file, for a reader that deletes what it has read."""
    copy = path.with_name(f"read-{path.name}")
    copy.unlink(missing_ok=True)
    os.link(path, copy)
    return copy


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
