"""Moments by class, and k-means: parts give what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.algorithms.k_means import lloyd_step, merged_centers, start_centers
from hansa.algorithms.pooled_statistics import moments_by_class, pooled_moments

RNG = np.random.default_rng(0)


def test_parts_have_the_moments_of_the_whole_even_where_squares_would_cancel() -> None:
    x, y = RNG.normal(1e6, 1.0, (90, 3)), RNG.integers(0, 3, 90)
    parts = [(x[:10], y[:10]), (x[10:60], y[10:60]), (x[:0], y[:0]), (x[60:], y[60:])]
    moments = [moments_by_class(*part, classes=[0, 1, 2]) for part in parts]
    counts, means, variances = pooled_moments(*(np.stack(each) for each in zip(*moments, strict=True)))
    whole = moments_by_class(x, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(counts, whole[0])
    np.testing.assert_allclose(means, whole[1], rtol=1e-12)
    np.testing.assert_allclose(variances, whole[2], rtol=1e-9)


def test_a_class_that_nobody_has_is_nothing() -> None:
    counts, means, variances = moments_by_class(np.ones((2, 1)), [0, 0], classes=[0, 1])
    assert (counts.tolist(), means.tolist(), variances.tolist()) == ([2, 0], [[1], [0]], [[0], [0]])


def test_a_step_by_hand() -> None:
    # 0 and 2 are nearest to 1, 10 to 9; nothing is nearest to 50.
    centers, counts, inertia = lloyd_step(np.array([[0.0], [2.0], [10.0]]), np.array([[1.0], [9.0], [50.0]]))
    assert centers.tolist() == [[1.0], [10.0], [50.0]]
    assert counts.tolist() == [2, 1, 0]
    assert inertia == 3.0  # 1 + 1 + 1


def test_merged_steps_are_the_step_over_all_rows() -> None:
    rows, before = RNG.normal(size=(100, 2)), RNG.normal(size=(5, 2))
    before[4] = 100.0  # no row is near
    parts = [lloyd_step(part, before) for part in (rows[:7], rows[7:7], rows[7:])]
    merged, counts = merged_centers(np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]), before=before)
    centers, expected, _ = lloyd_step(rows, before)
    np.testing.assert_allclose(merged, centers, rtol=1e-12)
    np.testing.assert_array_equal(counts, expected)
    assert merged[4].tolist() == [100.0, 100.0]


@pytest.mark.parametrize("clusters", [1, 3, 5])
def test_a_start_finds_groups_and_repeats_itself(clusters: int) -> None:
    points = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    found = start_centers(points, np.array([1.0, 1.0, 1.0, 3.0, 1.0]), clusters)
    np.testing.assert_array_equal(found, start_centers(points, np.array([1.0, 1.0, 1.0, 3.0, 1.0]), clusters))
    if clusters == 3:
        np.testing.assert_allclose(np.sort(found[:, 0]), [0.05, 5.075, 9.0])  # (5 + 3 · 5.1) / 4


def test_more_centres_than_points_coincide() -> None:
    assert start_centers(np.ones((1, 2)), np.ones(1), 3).tolist() == [[1.0, 1.0]] * 3
