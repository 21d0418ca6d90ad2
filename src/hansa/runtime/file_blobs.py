"""Blobs on their way to or from a job process: what is small rides in the frame, what is large lies in a file."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from hansa.errors import DecodeError
from hansa.failpoints import reach
from hansa.runtime.disk_patience import IMPATIENT, DiskPatience
from hansa.tensors import Array, map_file, write_pieces
from hansa.wire.blobs import Blob, Sink, keep_in_memory
from hansa.wire.message import Message

SMALL_BYTES = 256 << 10
"""A blob of so many bytes is not worth a file, and a request of its own on the network."""
_PIECE_BYTES = 1 << 20

Head = dict[str, Any]  # Any: JSON


class BlobFolder:
    """Writes blobs into files, and digests them on the way; any thread.

    Args:
        folder: An existing folder.
        stem: What the files are called, before their number.
        on_written: Called after each file: what it was written from is not needed for a while.
        patience: What becomes of it when the disk refuses something.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        *,
        on_written: Callable[[], None] = lambda: None,
        patience: DiskPatience = IMPATIENT,
    ) -> None:
        self.folder = folder
        self._patience = patience
        self._on_written = on_written
        self.num_digests = 0
        """How often a digest was computed: once per file."""
        self._stem = stem
        self._numbers = count()

    def sink(self) -> tuple[Sink, Callable[[], None]]:
        """Where an encoder's blobs go, and what deletes their files when nobody needs them any more."""
        written: list[Path] = []

        def keep(header: bytes, pieces: Iterable[Array], /, *, size_bytes: int) -> Blob:
            if size_bytes <= SMALL_BYTES:
                return keep_in_memory(header, pieces, size_bytes=size_bytes)
            blob = self._write(header, pieces)
            assert blob.path is not None
            written.append(blob.path)
            return blob

        return keep, lambda: delete(written)

    def keep(self, blob: Blob) -> Blob:
        """A blob in memory as one in a file."""
        return self._write(b"", [blob.memory])

    def in_files(self, message: Message) -> Message:
        """A message whose large blobs lie in files."""
        kept = (
            blob if blob.path is not None or blob.size_bytes <= SMALL_BYTES else self.keep(blob)
            for blob in message.blobs
        )
        return replace(message, blobs=tuple(kept))

    def _write(self, header: bytes, pieces: Iterable[Array]) -> Blob:
        path = self.folder / f"{self._stem}-{next(self._numbers)}.safetensors"
        digest = hashlib.sha256(header)
        self._patience.write(lambda: reach("disk.tensors"))
        write_pieces(path, header, _digested(pieces, digest.update), on_refusal=self._patience.refused)
        self._patience.taken()
        self.num_digests += 1
        self._on_written()
        return Blob.map_file(path, digest=f"sha256:{digest.hexdigest()}")


def _digested(pieces: Iterable[Array], update: Callable[[Array], None]) -> Iterator[Array]:
    for piece in pieces:
        for begin in range(0, piece.nbytes, _PIECE_BYTES):  # so that what is digested is written from the cache
            part = piece[begin : begin + _PIECE_BYTES]
            update(part)
            yield part


def delete(paths: Iterable[Path]) -> None:
    """Delete files; those that are gone, or that the system keeps, are no loss."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


class ReceivedBlob(Blob):
    """A blob in a file that is nobody else's: mapped copy-on-write, so that its receiver may have its memory.

    Args:
        path: The file; it may be deleted at once.
    """

    def __init__(self, path: Path) -> None:
        self._map = map_file(path, private=True)
        super().__init__(np.frombuffer(self._map, dtype=np.uint8))

    def let_go(self) -> None:
        """Take its pages out of memory; whoever looks at them again gets them from the file.

        What was written into them is lost: only for one whose message was decoded read-only.
        """
        self._map.madvise(mmap.MADV_DONTNEED)


class Packing:
    """Puts messages into frames, for receivers that keep the tables of tensors that they were sent.

    Args:
        folder: Where blobs go that are too large for a frame and lie in no file yet.
    """

    MOST_KNOWN = 64
    MOST_KNOWN_BYTES = 1 << 20
    """How many tables a receiver keeps, and up to which size; larger ones are sent each time."""

    def __init__(self, folder: BlobFolder) -> None:
        self._folder = folder

    def pack(self, message: Message, known: Sequence[set[str]]) -> tuple[Head, list[bytes]]:
        """A message as what goes into a frame: entries for its head, and its parts.

        Args:
            message: What goes out.
            known: The tables that each receiver has; the new ones are added.
        """
        missing = [digest for digest in message.tables if not all(digest in tables for tables in known)]
        for tables in known:
            small = [digest for digest in missing if len(message.tables[digest]) <= self.MOST_KNOWN_BYTES]
            if len(tables) + len(small) <= self.MOST_KNOWN:
                tables.update(small)
        parts = [message.envelope, *(message.tables[digest] for digest in missing)]
        files: list[Head] = []
        blobs: list[Any] = []  # Any: JSON
        for blob in message.blobs:
            if blob.path is None and blob.size_bytes <= SMALL_BYTES:
                blobs.append(["part", len(parts)])
                parts.append(blob.memory.tobytes())
                continue
            kept = blob if blob.path is not None else self._folder.keep(blob)
            assert kept.path is not None
            blobs.append(len(files))
            files.append(
                {"name": kept.path.name, "path": str(kept.path), "size": kept.size_bytes, "digest": kept.digest()}
            )
        head: Head = {"m": {"tables": list(message.tables), "with": missing, "blobs": blobs}}
        if files:
            head["blobs"] = files
        return head, parts


def files_of(head: Head) -> list[Path]:
    """The files that a frame brings."""
    return [Path(blob["path"]) for blob in head.get("blobs") or ()]


class Unpacking:
    """Finds messages in the frames of one sender."""

    def __init__(self) -> None:
        self._tables: dict[str, bytes] = {}

    def know(self, tables: Mapping[str, bytes]) -> None:
        """Take over tables that the sender counts on, by digest."""
        self._tables.update(tables)

    def message(self, head: Head, parts: Sequence[bytes]) -> Message:
        """The message of a frame. Its files are deleted; what is mapped lives as long as somebody looks at it.

        Raises:
            DecodeError: The frame has no message, or not all of it.
        """
        files = files_of(head)
        try:
            said = head["m"]
            fresh = dict(zip(said["with"], parts[1:], strict=False))
            small = {digest: table for digest, table in fresh.items() if len(table) <= Packing.MOST_KNOWN_BYTES}
            if len(self._tables) + len(small) <= Packing.MOST_KNOWN:
                self._tables.update(small)
            tables = {digest: fresh.get(digest) or self._tables[digest] for digest in said["tables"]}
            blobs = [
                ReceivedBlob(files[which]) if isinstance(which, int) else Blob(parts[which[1]])
                for which in said["blobs"]
            ]
            return Message(parts[0], tuple(blobs), tables)
        except (TypeError, ValueError, LookupError, AttributeError, OSError) as error:
            raise DecodeError(f"a frame has no message: {type(error).__name__}: {error}") from error
        finally:
            delete(files)
