"""A log that a process writes to for ever, without filling the disk."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 64 << 20
"""What a log may have before its middle is taken out."""
_LOOK_S = 1.0
_SOON_S = 0.1
_CHUNK_BYTES = 1 << 20


class CappedLog:
    """A file that another process writes at its end; when it is too long, its first and last quarters stay.

    Nobody reads what the process prints on its way: a process that prints must not wait for another. So a log may grow
    beyond the cap between two checks, and what is written in the very moment of a cut may be lost with it.

    Args:
        path: The file; made if it is not there, continued if it is.
        max_bytes: The cap.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        """For the one who writes."""
        self._own = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._max_bytes = max_bytes
        self._num_cut = 0
        self._size = 0

    def check(self) -> float:
        """Cut the log if it is too long; in how many seconds to look again."""
        size = os.fstat(self._own).st_size
        grown, self._size = size - self._size, size
        if size > self._max_bytes:
            self._cut(size)
            self._size = os.fstat(self._own).st_size
        return _SOON_S if grown > self._max_bytes // 8 else _LOOK_S

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)
        os.close(self._own)

    def _cut(self, size: int) -> None:
        begin = self._after_line(self._max_bytes // 4)
        end = self._after_line(size - self._max_bytes // 4)
        self._num_cut += end - begin
        said = f"[hansa] {self._num_cut} bytes were taken out here: a log may have {self._max_bytes}\n".encode()
        os.pwrite(self._own, said, begin)
        begin += len(said)
        while chunk := os.pread(self._own, _CHUNK_BYTES, end):
            os.pwrite(self._own, chunk, begin)
            begin += len(chunk)
            end += len(chunk)
            if end > size + self._max_bytes:  # it is written faster than copied
                break
        os.ftruncate(self._own, begin)

    def _after_line(self, offset: int) -> int:
        """Where the next line begins, if it is near."""
        found = os.pread(self._own, 4096, offset).find(b"\n")
        return offset + found + 1
