"""The sparse vector technique: what is sent, how it is spread, and what it costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hansa.algorithms.percentile_sharing import largest
from hansa.algorithms.sparse_vector import SparseVector, laplace


def seeded(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return lambda num: rng.uniform(np.nextafter(0, 1), 1, num)


def test_laplace_noise_is_spread_as_it_should_be() -> None:
    drawn = laplace(seeded(0), 200_000, scale=2.0)
    assert abs(np.mean(drawn)) < 0.03  # a deviation of the mean is 2 sqrt(2 / 200,000) = 0.0063
    assert np.mean(np.abs(drawn)) == pytest.approx(2.0, rel=0.02)  # the mean size of Lap(b) is b
    assert np.mean(drawn > 2 * math.log(2) * 2) == pytest.approx(0.5 * 0.25, rel=0.05)  # P(X > t) = exp(-t / b) / 2


def test_with_hardly_any_noise_the_largest_are_chosen_as_they_are() -> None:
    vector = SparseVector(0.3, 1e9, 1e9, bound=1.0, threshold=0.45)
    values = np.array([0.1, -0.5, 0.2, 0.9, -3.0, 0.4, 0.0, 0.3, 0.1, 0.05])
    chosen = vector.choose(values, seeded(1))
    np.testing.assert_allclose(chosen, [0, -0.5, 0, 0.9, -1.0, 0, 0, 0, 0, 0], atol=1e-6)


@given(
    values=arrays.arrays(np.float64, st.integers(0, 200), elements=st.floats(-10, 10)),
    fraction=st.floats(0.01, 1),
    seed=st.integers(0, 2**32),
)
def test_so_many_are_sent_and_all_are_bounded(values: np.ndarray[Any, Any], fraction: float, seed: int) -> None:
    vector = SparseVector(fraction, 1.0, 1.0, bound=0.5, threshold=0.01)
    before = values.copy()
    chosen = vector.choose(values, seeded(seed))
    assert chosen.shape == values.shape
    assert (
        np.count_nonzero(chosen) <= vector.num_sent(values.size) == min(len(values), math.ceil(fraction * len(values)))
    )
    assert np.abs(chosen).max(initial=0) <= 0.5
    np.testing.assert_array_equal(values, before)


def test_a_threshold_above_everything_ends() -> None:
    chosen = SparseVector(0.5, 1e9, 1e9, bound=1.0, threshold=5.0).choose(np.ones(10), seeded(0))
    assert not chosen.any()


def test_which_is_sent_does_not_depend_on_its_place() -> None:
    """All alike and half of them sent: each place is chosen half of the time."""
    vector = SparseVector(0.5, 1.0, 1.0, bound=1.0, threshold=0.0)
    times = sum((vector.choose(np.full(8, 0.5), seeded(seed)) != 0).astype(int) for seed in range(2000))
    assert np.all(np.abs(times - 1000) < 120)  # a deviation is 22


def test_the_cost_is_that_of_threshold_questions_and_values() -> None:
    # c = ceil(0.1 * 1000) = 100; epsilon_2 = 0.1 * 200^(2/3) = 3.41995...; values: 100 * 0.2
    vector = SparseVector(0.1, 0.1, 0.2, bound=1.0, threshold=0.0)
    assert vector.spent(1000) == pytest.approx(0.1 + 0.1 * 200 ** (2 / 3) + 20.0)
    assert vector.spent(1000) == pytest.approx(23.52, abs=0.01)


def test_two_neighbours_are_told_apart_no_better_than_the_cost_allows() -> None:
    """One number, always sent: the likelihood ratio of any outcome is at most exp(epsilon)."""
    vector = SparseVector(1.0, 0.5, 0.5, bound=1.0, threshold=0.0)
    uniform = seeded(7)
    one, other = (
        np.array([vector.choose(np.array([value]), uniform)[0] for _ in range(4000)]) for value in (1.0, -1.0)
    )
    for low, high in ((-1.1, -0.999), (-0.5, 0.5), (0.999, 1.1)):
        ratio = np.mean((one >= low) & (one <= high)) / np.mean((other >= low) & (other <= high))
        assert 1 / math.exp(vector.spent(1)) < ratio < math.exp(vector.spent(1))
    assert np.mean(one >= 0.999) > 1.1 * np.mean(other >= 0.999)  # and they do differ


def test_the_largest_part_of_an_update() -> None:
    values = np.array([0.0, 1.0, -2.0, 3.0, -4.0])
    np.testing.assert_array_equal(largest(values, percentile=50, bound=2.5), [0, 0, -2.0, 2.5, -2.5])
    np.testing.assert_array_equal(largest(values, percentile=0, bound=9), values)
    assert largest(np.zeros(0), percentile=10, bound=1).shape == (0,)
