"""Dividing a data set over sites."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hansa.algorithms.partition import Parts, by_key, describe, dirichlet, iid, label_counts, quantity_skew, shards

LABELS = np.repeat(np.arange(10), 120)
WAYS: dict[str, Callable[[int], Parts]] = {
    "iid": lambda seed: iid(1200, 7, seed=seed),
    "dirichlet": lambda seed: dirichlet(LABELS, 7, alpha=0.5, seed=seed),
    "dirichlet, balanced": lambda seed: dirichlet(LABELS, 7, alpha=0.1, seed=seed, balanced=True),
    "shards": lambda seed: shards(LABELS, 7, per_site=3, seed=seed),
    "quantity skew": lambda seed: quantity_skew(1200, 7, alpha=0.5, seed=seed),
    "by key": lambda seed: by_key(LABELS, 7, seed=seed),
}


def is_partition(parts: Parts, size: int) -> bool:
    is_sorted = all((np.diff(part) > 0).all() for part in parts)
    return is_sorted and np.array_equal(np.sort(np.concatenate(parts)), np.arange(size))


@pytest.mark.parametrize("way", WAYS)
def test_every_example_is_at_one_site_and_the_seed_decides_at_which(way: str) -> None:
    parts = WAYS[way](3)
    assert len(parts) == 7
    assert is_partition(parts, 1200)
    again, other = WAYS[way](3), WAYS[way](4)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(parts, other, strict=True))


@given(size=st.integers(1, 300), sites=st.integers(1, 20), seed=st.integers(0, 99))
def test_iid_sizes_differ_by_at_most_one(size: int, sites: int, seed: int) -> None:
    assume(sites <= size)
    parts = iid(size, sites, seed=seed)
    assert is_partition(parts, size)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-3, 3), min_size=20, max_size=200),
    sites=st.integers(1, 6),
    alpha=st.sampled_from([0.05, 0.3, 1.0, 1e6]),
    seed=st.integers(0, 99),
    balanced=st.booleans(),
)
def test_a_dirichlet_split_is_a_partition_with_the_minimum_at_each_site_or_an_error(
    labels: list[int], sites: int, alpha: float, seed: int, balanced: bool
) -> None:
    try:
        parts = dirichlet(np.array(labels), sites, alpha=alpha, seed=seed, min_size=3, balanced=balanced)
    except ValueError:
        parts = None
    if parts is None:
        assert alpha < 1 or 6 * sites > len(labels)  # else one of a thousand draws would do
        return
    assert is_partition(parts, len(labels))
    assert min(len(part) for part in parts) >= 3


def test_a_small_alpha_makes_sites_unlike_and_a_large_one_alike() -> None:
    def largest_share(alpha: float) -> float:
        counts = label_counts(dirichlet(LABELS, 8, alpha=alpha, seed=0), LABELS)
        return float((counts.max(axis=0) / counts.sum(axis=0)).mean())

    shares = [largest_share(alpha) for alpha in (0.1, 0.3, 1.0, 1000.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.5
    assert shares[-1] < 0.16  # an eighth, and what chance adds


def test_the_dirichlet_split_of_a_seed_stays_what_it_was() -> None:
    parts = dirichlet(LABELS, 4, alpha=0.5, seed=7)
    digest = hashlib.sha256(b"|".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()
    assert digest.startswith("7440f245ac89359d")


def test_a_balanced_site_gets_no_more_labels_once_it_has_its_share() -> None:
    for seed in range(20):
        counts = label_counts(dirichlet(LABELS, 8, alpha=0.1, seed=seed, balanced=True), LABELS)
        had_enough = np.cumsum(counts, axis=1)[:, :-1] >= 1200 / 8
        assert had_enough.any()
        assert (counts[:, 1:][had_enough] == 0).all()
    plain = label_counts(dirichlet(LABELS, 8, alpha=0.1, seed=0), LABELS)
    assert (plain[:, 1:][np.cumsum(plain, axis=1)[:, :-1] >= 1200 / 8] > 0).any()


@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=200),
    sites=st.integers(1, 8),
    per_site=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_a_site_of_shards_sees_few_labels(labels: list[int], sites: int, per_site: int, seed: int) -> None:
    assume(sites * per_site <= len(labels))
    values = np.array(labels)
    parts = shards(values, sites, per_site=per_site, seed=seed)
    assert is_partition(parts, len(labels))
    # In each shard the sorted labels begin or change: all shards together hold at most one label more per cut.
    seen = sum(len(np.unique(values[part])) for part in parts)
    assert seen <= sites * per_site - 1 + len(set(labels))


def test_shards_that_fit_the_labels_give_each_site_as_many_labels_as_shards() -> None:
    counts = label_counts(shards(LABELS, 5, per_site=2, seed=0), LABELS)
    assert (np.count_nonzero(counts, axis=1) == 2).all()
    assert (counts.sum(axis=1) == 240).all()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(20, 500), sites=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_skew_of_quantity_leaves_each_site_its_minimum(size: int, sites: int, seed: int) -> None:
    parts = quantity_skew(size, sites, alpha=1.0, seed=seed, min_size=2)
    assert is_partition(parts, size)
    assert min(len(part) for part in parts) >= 2


def test_a_skew_of_quantity_makes_large_and_small_sites_of_the_same_mixture() -> None:
    parts = quantity_skew(1200, 5, alpha=0.5, seed=1)
    sizes = [len(part) for part in parts]
    assert max(sizes) > 3 * min(sizes)
    largest = label_counts(parts, LABELS)[int(np.argmax(sizes))]
    assert largest.min() > 0.5 * largest.mean()


def test_every_key_is_a_site() -> None:
    keys = np.array(["well b", "well a", "well b", "well c"])
    assert [part.tolist() for part in by_key(keys)] == [[1], [0, 2], [3]]


@given(keys=st.lists(st.integers(0, 12), min_size=1, max_size=100), sites=st.integers(1, 5), seed=st.integers(0, 99))
def test_keys_that_are_grouped_stay_whole(keys: list[int], sites: int, seed: int) -> None:
    assume(sites <= len(set(keys)))
    values = np.array(keys)
    parts = by_key(values, sites, seed=seed)
    assert is_partition(parts, len(keys))
    held = [set(values[part].tolist()) for part in parts]
    assert sum(len(each) for each in held) == len(set(keys))
    assert max(len(each) for each in held) - min(len(each) for each in held) <= 1


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: iid(3, 4, seed=0), "cannot divide 3 examples over 4 sites"),
        (lambda: iid(3, 0, seed=0), "over 0 sites"),
        (lambda: dirichlet(LABELS, 8, alpha=0.0, seed=0), "alpha 0.0"),
        (lambda: dirichlet(LABELS, 8, alpha=float("nan"), seed=0), "alpha nan"),
        (lambda: dirichlet(LABELS, 8, alpha=float("inf"), seed=0), "alpha inf"),
        (lambda: dirichlet(LABELS, 200, alpha=1.0, seed=0), "at least 10 each"),
        (lambda: dirichlet(LABELS, 11, alpha=1e-6, seed=0), "no draw in 1000 gave each of 11 sites 10 examples"),
        (lambda: shards(LABELS, 601, per_site=2, seed=0), "cannot cut 1200 examples into 601 x 2 shards"),
        (lambda: shards(LABELS, 4, per_site=0, seed=0), "4 x 0 shards"),
        (lambda: quantity_skew(1200, 8, alpha=-1.0, seed=0), "alpha must be a number above 0, not -1.0"),
        (lambda: quantity_skew(1200, 100, alpha=0.01, seed=0), "no draw in 1000 gave each of 100 sites"),
        (lambda: by_key(LABELS, 11), "cannot divide 10 keys over 11 sites"),
        (lambda: by_key(LABELS[:0]), "cannot divide 0 examples"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused_in_one_line(make: Callable[[], Parts], cause: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_table_counts_by_site_and_label() -> None:
    labels = np.array([5, 3, 5, 5, 3])
    parts = [np.array([0, 1]), np.array([2, 3, 4])]
    assert label_counts(parts, labels).tolist() == [[1, 1], [1, 2]]
    assert describe(parts, labels).splitlines() == [
        "  site  3  5  all",
        "site-1  1  1    2",
        "site-2  1  2    3",
        "   all  2  3    5",
    ]
