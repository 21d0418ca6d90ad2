"""Statistics put together from sites' sums against NumPy on the pooled data."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hansa.algorithms.federated_statistics import (
    CellPass,
    Grid,
    MomentPass,
    Moments,
    PairPass,
    correlation,
    merge_all,
)

VALUES = st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.just(float("inf"))
QUARTERS = st.integers(-2400, 2400).map(lambda n: n / 4) | st.just(float("nan"))  # so that no value is next to an edge
SITES = st.lists(arrays(np.float64, st.tuples(st.just(2), st.integers(0, 12)), elements=VALUES), min_size=1, max_size=5)


def pooled_of(sites: list[Any]) -> Any:
    pooled = np.concatenate(sites, axis=1)
    return np.where(np.isfinite(pooled), pooled, np.nan)


def moments_of(block: Any) -> MomentPass:
    one = MomentPass(len(block))
    for start in range(0, block.shape[1], 5):
        one.take(np.ascontiguousarray(block[:, start : start + 5]))
    return one


@given(SITES)
def test_moments_and_ends_are_those_of_the_pooled_data(sites: list[Any]) -> None:
    passes = [moments_of(site) for site in sites]
    found = merge_all([each.moments for each in passes], 2)
    for index, row in enumerate(pooled_of(sites)):
        values = row[~np.isnan(row)]
        assert found.count[index] == len(values)
        assert found.missing[index] == len(row) - len(values)
        if len(values):
            scale = np.abs(values).max() + 1e-30
            np.testing.assert_allclose(found.mean[index], values.mean(), atol=1e-12 * scale)
            np.testing.assert_allclose(min(each.low[index] for each in passes), values.min())
            np.testing.assert_allclose(max(each.high[index] for each in passes), values.max())
        if len(values) > 1:
            np.testing.assert_allclose(found.sd[index], values.std(ddof=1), rtol=1e-9, atol=1e-11 * scale)
        else:
            assert np.isnan(found.sd[index])


def test_a_small_spread_about_a_large_mean_keeps_its_digits() -> None:
    # The sum of squares about zero would be 1e18 · n, and an sd of 1e-3 lost in it altogether.
    values = 1e9 + np.random.default_rng(0).normal(0, 1e-3, 10_000)[None]
    parts = [moments_of(part).moments for part in np.array_split(values, 7, axis=1)]
    # A mean near 1e9 is rounded to 1.2e-7, a ten-thousandth of the spread.
    np.testing.assert_allclose(merge_all(parts, 1).sd, values.std(ddof=1), rtol=1e-4)


def test_nothing_has_no_sd() -> None:
    assert np.isnan(Moments.nothing(1).sd).all()


@given(st.lists(arrays(np.float64, (2, 9), elements=QUARTERS), min_size=1, max_size=5))
def test_cells_are_those_of_numpy_and_all_values_are_somewhere(sites: list[Any]) -> None:
    grid = Grid(np.array([-500.0, 0.0]), np.array([500.0, 8.0]), 8)
    found = [CellPass(grid, np.array([True, True])) for _ in sites]
    for each, site in zip(found, sites, strict=True):
        each.take(site)
    for index, row in enumerate(pooled_of(sites)):
        values = row[~np.isnan(row)]
        counts, _ = np.histogram(values, bins=8, range=(grid.low[index], grid.high[index]))
        assert sum(each.cells[index] for each in found).tolist() == counts.tolist()
        assert sum(each.under[index] for each in found) == (values < grid.low[index]).sum()
        assert sum(each.over[index] for each in found) == (values > grid.high[index]).sum()


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_correlations_are_those_of_the_rows_that_have_both(sizes: list[int], seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pooled = rng.normal([[5.0], [1e4], [0.0]], 2.0, (3, sum(sizes))) + rng.normal(size=sum(sizes))
    pooled[rng.random(pooled.shape) < share] = np.nan
    mean, sd = np.array([4.0, 1.1e4, 0.0]), np.array([2.0, 2.0, 3.0])  # agreed, and not quite those of the data
    sums = None
    for part in np.split(pooled, np.cumsum(sizes)[:-1], axis=1):
        one = PairPass(mean, sd)
        one.take(np.ascontiguousarray(part))
        sums = one.sums if sums is None else sums + one.sums
    assert sums is not None
    found = correlation(sums, min_count=3)
    for i in range(3):
        for j in range(3):
            both = ~np.isnan(pooled[i]) & ~np.isnan(pooled[j])
            if both.sum() < 3:
                assert np.isnan(found[i, j])
            else:
                wanted = np.corrcoef(pooled[i, both], pooled[j, both])[0, 1]
                np.testing.assert_allclose(found[i, j], wanted, atol=1e-6)


def test_a_constant_feature_correlates_with_nothing() -> None:
    one = PairPass(np.array([3.0, 0.0]), np.array([0.0, 1.0]))
    one.take(np.stack([np.full(50, 3.0), np.arange(50.0)]))
    found = correlation(one.sums)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1, 1], 1.0)
