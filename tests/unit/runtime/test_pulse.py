"""What a worker is busy with, as its parent sees it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hansa.runtime.pulse import SIZE_BYTES, Pulse


def test_nothing_is_under_way_in_fresh_memory() -> None:
    assert Pulse(np.zeros(SIZE_BYTES, np.uint8)).number == 0


@pytest.mark.parametrize("number", [1, 2**40])
def test_who_shares_the_memory_sees_the_task_and_since_when(number: int) -> None:
    memory = np.zeros(SIZE_BYTES, np.uint8)
    worker, parent = Pulse(memory), Pulse(memory)
    before = time.monotonic()
    worker.begin(number)
    after = time.monotonic()
    assert parent.number == number
    assert before - 1e-6 <= parent.since <= after + 1e-6


def test_each_task_has_its_own_beginning() -> None:
    memory = np.zeros(SIZE_BYTES, np.uint8)
    worker, parent = Pulse(memory), Pulse(memory)
    worker.begin(1)
    first = parent.since
    worker.begin(2)
    assert parent.number == 2
    assert parent.since > first


def test_rest_ends_it() -> None:
    memory = np.zeros(SIZE_BYTES, np.uint8)
    worker, parent = Pulse(memory), Pulse(memory)
    worker.begin(3)
    worker.rest()
    assert parent.number == 0


def test_it_writes_nowhere_else() -> None:
    memory = np.zeros(2 * SIZE_BYTES, np.uint8)
    Pulse(memory).begin(2**62)
    assert not memory[SIZE_BYTES:].any()
