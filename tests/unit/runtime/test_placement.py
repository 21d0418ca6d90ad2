"""Which sites live in which process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.algorithms.fold import MAX_BLOCKS, block_size, outlets_of
from hansa.runtime import placement as module
from hansa.runtime.placement import placement


def names(number: int) -> list[str]:
    return sorted(f"site-{index + 1}" for index in range(number))


@given(st.integers(1, 2000), st.integers(1, 80))
def test_runs_of_whole_blocks_as_equal_as_can_be(num_sites: int, num_workers: int) -> None:
    sites = names(num_sites)
    runs = placement(sites, num_workers)
    assert [site for run in runs for site in run] == sites
    size = block_size(num_sites)
    assert all(len(run) % size == 0 for run in runs[:-1])
    blocks = [-(-len(run) // size) for run in runs]
    assert min(blocks) >= 1
    assert max(blocks) - min(blocks) <= 1
    assert len(runs) == min(num_workers, -(-num_sites // size))


@given(st.integers(1, 500), st.integers(1, 8))
def test_no_site_must_send_its_result_whole(num_sites: int, num_workers: int) -> None:
    # Where all sites are targets, each block is held by one process, so that each lies in one node that goes out.
    size = block_size(num_sites)
    sites = names(num_sites)
    covered = [
        block for run in placement(sites, num_workers) for span in outlets_of(sites, run) for block in range(*span)
    ]
    assert sorted(covered) == list(range(-(-num_sites // size)))


def test_the_blocks_are_those_of_the_fold() -> None:
    assert module._MOST_BLOCKS == MAX_BLOCKS
    assert [len(run) for run in placement(names(MAX_BLOCKS), 1000)] == [1] * MAX_BLOCKS
    # 65 sites are 33 blocks, 32 of two and one of one
    assert [len(run) for run in placement(names(MAX_BLOCKS + 1), 1000)] == [2] * 32 + [1]


@pytest.mark.parametrize(
    ("num_sites", "num_workers", "expected"),
    [(1, 5, [1]), (4, 2, [2, 2]), (7, 2, [4, 3]), (7, 5, [1, 2, 1, 2, 1]), (100, 3, [34, 32, 34]), (99, 1, [99])],
)
def test_worked_examples(num_sites: int, num_workers: int, expected: list[int]) -> None:
    # 100 sites are 50 blocks of 2, cut at blocks 17 and 33.
    assert [len(run) for run in placement(names(num_sites), num_workers)] == expected
