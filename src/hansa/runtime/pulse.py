"""What a worker is busy with, readable by the parent at any time, also after the worker's death."""

from __future__ import annotations

import time

import numpy as np

from hansa.tensors import Array

SIZE_BYTES = 64


class Pulse:
    """Two numbers in memory that two processes share: the task under way, and since when.

    Args:
        memory: At least `SIZE_BYTES` bytes, at a multiple of 8.
    """

    def __init__(self, memory: Array) -> None:
        self._words = memory[:SIZE_BYTES].view(np.int64)

    def begin(self, number: int) -> None:
        """A task begins."""
        self._words[1] = time.monotonic_ns()
        self._words[0] = number

    def rest(self) -> None:
        """Nothing is under way."""
        self._words[0] = 0

    @property
    def number(self) -> int:
        """The task under way; 0 for none."""
        return int(self._words[0])

    @property
    def since(self) -> float:
        """When it began, in seconds of `time.monotonic`, which all processes of a machine share."""
        return float(self._words[1]) / 1e9
