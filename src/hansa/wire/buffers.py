"""Memory that is used again: writing to pages that are there already costs half of writing to new ones."""

from __future__ import annotations

import threading
import weakref

import numpy as np

from hansa.tensors import Array


class Recycler:
    """Gives memory for copies, and takes it back once no array over it is alive.

    Made for `decode(..., allocate=Recycler())` in a process that receives a model of one size round after round.
    Any thread may use it.

    Args:
        max_idle_bytes: How much memory may lie about unused; what comes back beyond that goes to the system.
    """

    def __init__(self, max_idle_bytes: int = 1 << 30) -> None:
        self._max_idle_bytes = max_idle_bytes
        self._idle: list[Array] = []
        self._lock = threading.RLock()  # memory may come back in the midst of a call, by garbage collection
        self.num_allocations = 0
        """How often the system had to be asked."""

    @property
    def idle_bytes(self) -> int:
        """Memory that waits to be used again."""
        with self._lock:
            return sum(memory.nbytes for memory in self._idle)

    def __call__(self, size_bytes: int) -> Array:
        """An array of that many uint8, its content arbitrary."""
        memory = self._find(size_bytes)
        # Views refer to the array that first has the memory, not to those in between. So the lease is made of a
        # memoryview: it is the first for all views of it, and dies after the last of them.
        lease = np.frombuffer(memoryview(memory), dtype=np.uint8)
        weakref.finalize(lease, self._give_back, memory).atexit = False
        return lease

    def _find(self, size_bytes: int) -> Array:
        with self._lock:
            for index, memory in enumerate(self._idle):
                if memory.nbytes == size_bytes:
                    return self._idle.pop(index)
            self.num_allocations += 1
        return np.empty(size_bytes, dtype=np.uint8)

    def _give_back(self, memory: Array) -> None:
        with self._lock:
            self._idle.append(memory)
            while self._idle and self.idle_bytes > self._max_idle_bytes:
                self._idle.pop(0)
