"""A blob that is on its way, as a file: it grows beside its place and appears there by rename, once it is right."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hansa.errors import DecodeError
from hansa.failpoints import reach
from hansa.wire.frames import BlobRef
from hansa.wire.net_options import CHUNK_BYTES


def part_of(target: Path, ref: BlobRef) -> Path:
    """Where a blob grows; another one of the same name has another place."""
    tag = hashlib.sha256(f"{ref.digest}/{ref.size_bytes}".encode()).hexdigest()[:16]
    return target.with_name(f".{target.name}.{tag}.part")


class Part:
    """A blob that grows; one thread at a time.

    Args:
        target: Where it will appear.
        ref: What it must be.
        offset: How much of what is there stays; None: all of it.

    Raises:
        DecodeError: Less is there.
        OSError: The disk.
    """

    def __init__(self, target: Path, ref: BlobRef, *, offset: int | None = None) -> None:
        self._target = target
        self._ref = ref
        self._file = part_of(target, ref)
        self._digest = hashlib.sha256()
        self._stream = os.fdopen(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", buffering=0)
        try:
            size = self._stream.seek(0, os.SEEK_END)
            self.size = size if offset is None else offset
            if self.size > size:
                raise DecodeError(f"{ref.name[:80]}: bytes from {offset} on, and {size} are there")
            self._stream.truncate(self.size)
            self._stream.seek(0)
            while data := self._stream.read(CHUNK_BYTES):
                self._digest.update(data)
        except (DecodeError, OSError):
            self._stream.close()
            raise

    def write(self, chunk: bytes) -> None:
        """The next piece.

        Raises:
            OSError: The disk.
        """
        reach("disk.blob")
        view = memoryview(chunk)
        while view:
            view = view[self._stream.write(view) :]
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """It is complete.

        Raises:
            DecodeError: It is not what it must be; nothing is left of it.
            OSError: The disk.
        """
        if self.size != self._ref.size_bytes:
            raise self.spoiled(f"has {self.size} bytes, and {self._ref.size_bytes} were announced")
        if f"sha256:{self._digest.hexdigest()}" != self._ref.digest:
            raise self.spoiled("has another digest than was announced")
        self._file.replace(self._target)

    def spoiled(self, how: str) -> DecodeError:
        """Leave nothing of it; returns the error to raise."""
        self._file.unlink(missing_ok=True)
        return DecodeError(f"{self._ref.name[:80]} {how}")

    def close(self) -> None:
        """What is there may be taken up again later, unless it is finished or spoiled."""
        self._stream.close()
