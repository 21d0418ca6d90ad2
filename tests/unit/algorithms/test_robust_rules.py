"""Rules that a few bad sites cannot lead astray: by hand, against the updates themselves, and under attack."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.algorithms import robust_rules as rules


def points(seed: int, num_sites: int, size: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_sites, size))


def distances(x: np.ndarray) -> np.ndarray:
    return rules.squared_distances([list(x[:, :3].reshape(len(x), 3, 1)), list(x[:, 3:])])


def test_median_and_trimmed_mean_by_hand() -> None:
    values = np.array([[1.0, 5.0], [2.0, -100.0], [3.0, 7.0], [1000.0, 9.0]], np.float32)
    assert rules.median(values).tolist() == [2.5, 6.0]
    assert rules.trimmed_mean(values, 1).tolist() == [2.5, 6.0]
    assert rules.trimmed_mean(values, 0).tolist() == [251.5, -19.75]
    assert rules.median(values).dtype == np.float32
    assert rules.median(np.array([[1], [2]])).tolist() == [1.5]
    with pytest.raises(ValueError, match="2 of 4 sites cannot be taken for bad"):
        rules.trimmed_mean(values, 2)


def test_distances_are_added_up_over_tensors_and_pieces() -> None:
    x = points(0, 5)
    expected = ((x[:, None] - x[None, :]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances(x), expected, atol=1e-12)
    np.testing.assert_allclose(rules.squared_distances([list(x)], piece=2), expected, atol=1e-12)
    large = [np.full(3, 1e8), np.full(3, 1e8) + np.array([1e-3, 0, 0])]
    assert rules.squared_distances([large])[0, 1] == pytest.approx(1e-6, rel=1e-3)  # the square of 1e8 would hide it
    with pytest.raises(ValueError, match="no tensors"):
        rules.squared_distances([])


@given(seed=st.integers(0, 2**32), num_sites=st.integers(2, 9))
def test_mixing_the_distances_is_mixing_the_updates(seed: int, num_sites: int) -> None:
    x, rng = points(seed, num_sites), np.random.default_rng(seed)
    mixing = rng.random((4, num_sites))
    mixing /= mixing.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rules.mixed_distances(distances(x), mixing), distances(mixing @ x), atol=1e-9)
    to_sum = ((x - mixing[0] @ x) ** 2).sum(axis=1)
    np.testing.assert_allclose(rules.distances_to_sum(distances(x), mixing[0]), to_sum, atol=1e-9)


def test_krum_by_hand() -> None:
    x = np.array([[0.0], [1.0], [2.0], [10.0], [1.1]])
    far = rules.squared_distances([list(x)])
    # f = 1: two nearest neighbours each. Sums: 0: 1 + 1.21; 1: 0.01 + 1; 2: 0.81 + 1; 10: 64 + 79.21; 1.1: 0.01 + 0.81.
    assert rules.krum(far, 1).tolist() == [0, 0, 0, 0, 1]
    assert rules.krum(far, 1, num_chosen=3).tolist() == pytest.approx([0, 1 / 3, 1 / 3, 0, 1 / 3])
    with pytest.raises(ValueError, match="6 of 5 updates cannot be chosen"):
        rules.krum(far, 1, num_chosen=6)


def test_the_geometric_median_adds_up_to_the_least() -> None:
    x = points(3, 6)
    weights = rules.geometric_median(distances(x), steps=500)

    def total(point: np.ndarray) -> float:
        return float(np.sqrt(((x - point) ** 2).sum(axis=1)).sum())

    found = weights @ x
    for seed in range(50):
        assert total(found) <= total(found + 1e-3 * points(seed, 1)[0]) + 1e-9
    assert weights.sum() == pytest.approx(1)
    assert rules.geometric_median(np.zeros((4, 4))).tolist() == [0.25] * 4
    # Three on a line: the middle one. And one in the very place of the mean is no division by zero.
    line = rules.squared_distances([[np.array([value]) for value in (0.0, 1.0, 10.0)]])
    assert rules.geometric_median(line, steps=10_000) @ [0, 1, 10] == pytest.approx(1, abs=1e-3)


def test_clipping_pulls_by_so_much_and_no_more() -> None:
    x = np.array([[3.0, 0.0], [0.0, 4.0], [1000.0, 0.0], [0.0, 0.0]])  # the last is where it begins
    begin = np.array([0.0, 0.0, 0.0, 1.0])
    far = rules.squared_distances([list(x)])
    weights = rules.centred_clipping(far, begin, radius=2.0, steps=1)
    np.testing.assert_allclose(weights @ x, [(2 + 2) / 3, 2 / 3])  # each pulls by 2 along its own way
    mean = rules.centred_clipping(far, begin, radius=1e9, steps=1)
    np.testing.assert_allclose(mean @ x, x[:3].mean(axis=0))
    assert np.linalg.norm(rules.centred_clipping(far, begin, radius=2.0, steps=5) @ x) < 5 * 2.0
    still = rules.centred_clipping(np.zeros((3, 3)), np.array([0, 0, 1.0]), radius=1.0)
    assert still.sum() == pytest.approx(1)


def test_the_nearest_are_averaged() -> None:
    far = rules.squared_distances([[np.array([value]) for value in (0.0, 1.0, 3.0, 100.0)]])
    assert rules.nearest_neighbours(far, 1).tolist() == [
        pytest.approx([1 / 3, 1 / 3, 1 / 3, 0]),
        pytest.approx([1 / 3, 1 / 3, 1 / 3, 0]),
        pytest.approx([1 / 3, 1 / 3, 1 / 3, 0]),
        pytest.approx([0, 1 / 3, 1 / 3, 1 / 3]),
    ]


def test_buckets_hold_everybody_once() -> None:
    mixing = rules.buckets(7, 3, seed="round 4")
    assert mixing.shape == (3, 7)
    np.testing.assert_allclose(mixing.sum(axis=1), 1)
    assert sorted(np.count_nonzero(mixing, axis=1)) == [1, 3, 3]
    assert np.count_nonzero(mixing, axis=0).tolist() == [1] * 7
    np.testing.assert_array_equal(mixing, rules.buckets(7, 3, seed="round 4"))
    assert (mixing != rules.buckets(7, 3, seed="round 5")).any()
    with pytest.raises(ValueError, match="at least 1"):
        rules.buckets(3, 0, seed="")


RULES = {
    "median": lambda x, f: rules.median(x),
    "trimmed mean": rules.trimmed_mean,
    "krum": lambda x, f: rules.krum(distances(x), f) @ x,
    "multi-krum": lambda x, f: rules.krum(distances(x), f, num_chosen=len(x) - f) @ x,
    "geometric median": lambda x, f: rules.geometric_median(distances(x)) @ x,
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("attack", ["far", "sign", "same"])
def test_two_bad_of_nine_move_it_little(name: str, mixes: bool, attack: str) -> None:
    """The result stays as near to the honest mean as honest updates are; the plain mean does not."""
    honest = 1 + 0.1 * points(5, 7)
    bad = {"far": 1e6 * points(6, 2), "sign": -10 * honest[:2], "same": np.full((2, 7), 1e3)}[attack]
    x = np.concatenate([honest, bad])
    mixed = rules.nearest_neighbours(distances(x), 2) @ x if mixes else x
    off = np.linalg.norm(RULES[name](mixed, 2) - honest.mean(axis=0))
    most = 3 * np.linalg.norm(honest - honest.mean(axis=0), axis=1).max()
    assert off < most < np.linalg.norm(x.mean(axis=0) - honest.mean(axis=0))


def test_without_bad_ones_all_of_them_are_near_the_mean() -> None:
    x = points(8, 9)
    for rule in RULES.values():
        assert np.linalg.norm(rule(x, 0) - x.mean(axis=0)) < math.sqrt(7) * 1.6
    np.testing.assert_allclose(rules.trimmed_mean(x, 0), x.mean(axis=0))
