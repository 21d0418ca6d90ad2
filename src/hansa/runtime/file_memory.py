"""Memory that lies in files, for sums and models that wait for the rest of a round."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from pathlib import Path

import numpy as np

from hansa.tensors import Array

_SMALL_BYTES = 1 << 20


class FileMemory:
    """An `Allocate` whose pages need not stay in memory: what a process does not work on lies in the system's cache.

    With sites that answer in any order, a fold keeps sums that wait for their neighbours; those would take memory for
    each of them. One thread at a time.

    Args:
        folder: Where the files are; they have no names, and are gone with the memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def allocate(self, size_bytes: int) -> Array:
        """Writable bytes; common memory where they are few, or the disk has no room."""
        if size_bytes < _SMALL_BYTES:
            return np.empty(size_bytes, np.uint8)
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, size_bytes)  # later, a full disk would end the process
                memory = mmap.mmap(file.fileno(), size_bytes)
        except OSError:
            return np.empty(size_bytes, np.uint8)
        self._maps.add(memory)
        return np.frombuffer(memory, np.uint8)

    def let_go(self) -> None:
        """Take all pages out of this process; whoever looks at them again gets them from the system's cache."""
        for memory in list(self._maps):
            memory.madvise(mmap.MADV_DONTNEED)
