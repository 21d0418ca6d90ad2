"""Sums over some of a round's sites."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.apis.partial import Partial
from hansa.errors import RuleError


def _partial(site: str, value: float, weight: float = 1.0) -> Partial:
    return Partial({"w": np.array([value * weight])}, weight, (site,), {site: {"loss": value}})


def test_merging_adds_sums_and_weights_and_keeps_each_sites_meta() -> None:
    # Site a: value 2, weight 3, so sum 6. Site b: value 5, weight 1, so sum 5. Together 11, weight 4.
    both = _partial("a", 2.0, 3.0).merge(_partial("b", 5.0))
    assert both.sum["w"].tolist() == [11.0]
    assert both.weight == 4.0
    assert both.participants == ("a", "b")
    assert both.meta == {"a": {"loss": 2.0}, "b": {"loss": 5.0}}


def test_merging_leaves_both_terms_alone() -> None:
    left, right = _partial("a", 2.0), _partial("b", 5.0)
    left.merge(right)
    assert (left.sum["w"].tolist(), right.sum["w"].tolist()) == ([2.0], [5.0])


def test_a_site_counts_once() -> None:
    left = _partial("a", 1.0).merge(_partial("b", 1.0))
    with pytest.raises(RuleError, match="b: contributes twice") as refused:
        left.merge(_partial("b", 2.0))
    assert refused.value.site == "b"
    with pytest.raises(RuleError, match="a: contributes twice"):
        Partial({}, 2.0, ("a", "a"))


def test_names_that_only_one_side_has_keep_their_own_weight() -> None:
    # w comes from both (weight 1 + 2), only_left from the left (1), only_right from the right (2).
    left = Partial({"w": np.array([1.0]), "only_left": np.array([7.0])}, 1.0, ("a",))
    right = Partial({"w": np.array([2.0]), "only_right": np.array([8.0])}, 2.0, ("b",))
    both = left.merge(right)
    assert {name: array.tolist() for name, array in both.sum.items()} == {
        "w": [3.0],
        "only_left": [7.0],
        "only_right": [8.0],
    }
    assert both.weight == {"w": 3.0, "only_left": 1.0, "only_right": 2.0}
    assert both.weight_of("only_right") == 2.0
    assert both.weight_of("unknown") == 0.0


def test_weights_by_name_merge_with_one_weight_for_all() -> None:
    left = Partial({"w": np.array([1.0])}, {"w": 1.5}, ("a",))
    assert left.merge(_partial("b", 1.0, 2.0)).weight == {"w": 3.5}


@pytest.mark.parametrize(
    ("weight", "participants", "meta", "text"),
    [
        (1.0, (), {}, "without participants"),
        (1.0, ("a",), {"b": {}}, "b: has meta"),
        ({"v": 1.0}, ("a",), {}, "differ in 'v'"),
    ],
)
def test_refuses_what_does_not_fit(
    weight: float | dict[str, float], participants: tuple[str, ...], meta: dict[str, dict[str, object]], text: str
) -> None:
    with pytest.raises(RuleError, match=text):
        Partial({"w": np.array([1.0])}, weight, participants, meta)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1000, 1000), st.integers(1, 50)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_any_grouping_of_sites_has_the_same_sum(sites: list[tuple[int, int]], random: Random) -> None:
    parts = [_partial(f"site-{at}", float(value), float(weight)) for at, (value, weight) in enumerate(sites)]
    while len(parts) > 1:  # small integers: floats add them exactly, so order cannot matter
        right = parts.pop(random.randrange(len(parts)))
        left = parts.pop(random.randrange(len(parts)))
        parts.append(left.merge(right))
    (whole,) = parts
    assert sorted(whole.participants) == sorted(f"site-{at}" for at in range(len(sites)))
    assert Fraction(whole.sum["w"].item()) == sum(value * weight for value, weight in sites)
    assert whole.weight == sum(weight for _, weight in sites)
