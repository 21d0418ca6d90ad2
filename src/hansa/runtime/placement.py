"""Which sites live in which process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_MOST_BLOCKS = 64  # as in hansa.algorithms.fold, which the runtime may not know; a test compares them


def placement(names: Sequence[str], num_workers: int) -> list[list[str]]:
    """Which sites live in which worker: runs of the sorted names, cut where blocks of the fold's tree end.

    Args:
        names: All sites, sorted by code point.
        num_workers: How many workers there may be; no more than blocks are used.
    """
    size = -(-len(names) // _MOST_BLOCKS)
    num_blocks = -(-len(names) // size)
    num_workers = min(num_workers, num_blocks)
    cuts = [round(index * num_blocks / num_workers) * size for index in range(num_workers + 1)]
    return [list(names[begin:end]) for begin, end in pairwise(cuts)]
