"""Memory comes back when the last array over it is gone, and not before."""

from __future__ import annotations

import gc

import numpy as np

from hansa.wire.buffers import Recycler
from hansa.wire.codec import Encoder, decode


def test_memory_is_used_again_once_no_array_over_it_is_alive() -> None:
    recycler = Recycler()
    weights = {"a": np.zeros(10_000), "b": np.ones(10_000)}
    message = Encoder().encode(weights)
    first = decode(message, allocate=recycler)
    second = decode(message, allocate=recycler)
    assert recycler.num_allocations == 2
    assert not np.shares_memory(first["a"], second["a"])
    kept = first["b"].reshape(100, 100)[5:]
    del first
    gc.collect()
    third = decode(message, allocate=recycler)
    assert recycler.num_allocations == 3  # a view of a view still holds the first
    assert kept.sum() == 9_500
    del second, kept
    gc.collect()
    assert recycler.idle_bytes == 2 * 160_000
    fourth, fifth = decode(message, allocate=recycler), decode(message, allocate=recycler)
    assert recycler.num_allocations == 3
    assert recycler.idle_bytes == 0
    assert not np.shares_memory(fourth["a"], fifth["a"])
    assert not np.shares_memory(third["a"], fifth["a"])
    assert fourth["b"].sum() == 10_000


def test_unused_memory_has_a_bound() -> None:
    recycler = Recycler(max_idle_bytes=250)
    arrays = [recycler(100) for _ in range(4)]
    del arrays
    gc.collect()
    assert recycler.idle_bytes == 200
    assert recycler(100).nbytes == 100
    assert recycler.num_allocations == 4
    assert recycler(7).flags.writeable


def test_other_sizes_do_not_share_memory() -> None:
    recycler = Recycler()
    recycler(100)
    gc.collect()
    assert recycler(50).nbytes == 50
    assert recycler.num_allocations == 2
