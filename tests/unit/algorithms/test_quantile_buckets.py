"""Quantiles from buckets against those of the pooled data."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hansa.algorithms.cell_suppression import hidden_cells
from hansa.algorithms.quantile_buckets import Buckets, quantiles

LOW, HIGH, CELLS, BINS = 0.0, 100.0, 40, 8
SITES = st.lists(arrays(np.float64, st.integers(0, 60), elements=st.integers(0, 400).map(lambda n: n / 4)), min_size=1)


def told(values: Any, floor: int) -> Buckets:
    cells, _ = np.histogram(values, CELLS, (LOW, HIGH))
    bins = cells.reshape(BINS, -1).sum(axis=1)
    [hidden] = hidden_cells(bins[None], floor)
    found = Buckets.of(cells, bins=bins, hidden=hidden, least=floor)
    assert found.count.sum() == len(values)
    if len(values) >= floor:
        assert (found.count >= floor).all()
    return found


@settings(deadline=None)
@given(SITES, st.integers(1, 12), st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.9, 1.0]))
def test_a_quantile_lies_within_its_bounds(sites: list[Any], floor: int, level: float) -> None:
    parts = [told(site, floor) for site in sites]
    (found,) = quantiles(parts, [level], low=LOW, high=HIGH, num_cells=CELLS)
    pooled = np.concatenate(sites)
    if not len(pooled):
        assert np.isnan(found.value)
        return
    wanted = np.quantile(pooled, level, method="inverted_cdf")
    assert found.low - 1e-9 <= wanted <= found.high + 1e-9
    assert found.low <= found.value <= found.high


def test_many_values_give_a_quantile_to_a_cell_or_two() -> None:
    pooled = np.random.default_rng(1).normal(size=30_000)
    parts = []
    for site in np.array_split(pooled, 3):
        cells, _ = np.histogram(site, 1200, (-6.0, 6.0))
        bins = cells.reshape(20, -1).sum(axis=1)
        [hidden] = hidden_cells(bins[None], 10)
        parts.append(Buckets.of(cells, bins=bins, hidden=hidden, least=20))
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        (found,) = quantiles(parts, [level], low=-6.0, high=6.0, num_cells=1200)
        assert abs(found.value - np.quantile(pooled, level)) < 0.02
        assert found.high - found.low < 0.06
