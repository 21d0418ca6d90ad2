"""The robust rules as an aggregator: by hand, in any order, mixed, for all kinds of numbers."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from hansa.apis.dxo import DataKind, from_shareable
from hansa.apis.engine import RoundKey
from hansa.components.aggregators.robust_aggregator import RobustAggregator
from hansa.errors import RuleError
from unit.components.test_aggregators import context, result

RULES = ("median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centred_clipping")


def combined(aggregator: RobustAggregator, values: dict[str, Any], fl_ctx: Any = None) -> dict[str, Any]:
    fl_ctx = fl_ctx or context()
    kind = aggregator._checks.expected_data_kind
    for site, given in values.items():
        data = given if isinstance(given, dict) else {"w": np.asarray(given, np.float64)}
        assert aggregator.accept(result(site, data, 7, kind=kind), fl_ctx), fl_ctx.get_prop(RoundKey.REFUSAL)
    dxo = from_shareable(aggregator.aggregate(fl_ctx))
    assert dxo.data_kind == aggregator._checks.expected_data_kind
    return dict(dxo.data)


ONE_OF_FIVE = {"a": [1.0, 2.0], "b": [2.0, 2.5], "c": [3.0, 1.5], "d": [2.0, 2.0], "bad": [-1e6, 1e6]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rule": "median"}, [2.0, 2.0]),
        ({"rule": "trimmed_mean"}, [5 / 3, 13 / 6]),  # 1, 2, 2 and 2, 2, 2.5: without the least and the largest
        ({"rule": "krum"}, [2.0, 2.0]),
        ({"rule": "multi_krum"}, [2.0, 2.0]),  # the mean of all but the bad one
        ({"rule": "multi_krum", "mixing": "nnm"}, None),
        ({"rule": "geometric_median"}, None),
        ({"rule": "centred_clipping", "radius": 3.0}, None),
        ({"rule": "median", "mixing": "bucketing", "bucket_size": 1}, [2.0, 2.0]),
    ],
)
def test_one_bad_of_five_moves_it_little(arguments: dict[str, Any], expected: list[float] | None) -> None:
    found = combined(RobustAggregator(**arguments), ONE_OF_FIVE)["w"]
    if expected is not None:
        np.testing.assert_allclose(found, expected)
    assert np.linalg.norm(found - [2.0, 2.0]) < 2.5


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mixing", ["none", "nnm", "bucketing"])
def test_the_order_does_not_matter_and_the_next_round_begins_with_nothing(rule: Any, mixing: Any) -> None:
    aggregator = RobustAggregator(rule, mixing=mixing)
    orders = list(itertools.permutations(ONE_OF_FIVE))[::40]
    bits = {combined(aggregator, {site: ONE_OF_FIVE[site] for site in order})["w"].tobytes() for order in orders}
    assert len(bits) == 1
    assert from_shareable(aggregator.aggregate(context())).data == {}


@pytest.mark.parametrize("rule", RULES)
def test_tensors_of_all_kinds_come_back_as_they_were(rule: Any) -> None:
    model = {
        "f": np.ones((2, 3), np.float32),
        "half": np.ones(2, ml_dtypes.bfloat16),
        "steps": np.array(7),
        "none": np.zeros((0, 4)),
    }
    values = {
        site: {name: (value * number).astype(value.dtype) for name, value in model.items()}
        for number, site in enumerate("abcde", start=1)
    }
    aggregator = RobustAggregator(rule, expected_data_kind=DataKind.WEIGHTS)
    found = combined(aggregator, values, context(model=model))
    for name, value in model.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
    assert 7 <= int(found["steps"]) <= 35
    assert float(np.float32(found["half"][0])) == pytest.approx(float(found["f"][0, 0]), rel=0.01)


def test_a_site_that_claims_a_large_weight_weighs_no_more() -> None:
    aggregator, fl_ctx = RobustAggregator("trimmed_mean", num_bad=0), context()
    for site, steps, value in (("a", 1, 1.0), ("b", 1e9, 4.0)):
        assert aggregator.accept(result(site, {"w": np.array([value])}, steps), fl_ctx)
    assert from_shareable(aggregator.aggregate(fl_ctx)).data["w"].tolist() == [2.5]


def test_what_cannot_count_is_refused_with_a_reason() -> None:
    aggregator, fl_ctx = RobustAggregator(), context(model={"w": np.zeros(2)})
    refused = {
        "a second contribution": result("a", {"w": np.zeros(2)}),
        "has NaN": result("b", {"w": np.array([np.nan, 0])}),
        "has shape (3,)": result("b", {"w": np.zeros(3)}),
        "it is for round 5": result("b", {"w": np.zeros(2)}, round_number=5),
        "expected data of kind WEIGHT_DIFF": result("b", {"w": np.zeros(2)}, kind=DataKind.WEIGHTS),
    }
    assert aggregator.accept(result("a", {"w": np.zeros(2)}), fl_ctx)
    for reason, shareable in refused.items():
        assert not aggregator.accept(shareable, fl_ctx)
        assert reason in fl_ctx.get_prop(RoundKey.REFUSAL)
    loose = RobustAggregator(names="any")
    assert loose.accept(result("a", {"w": np.zeros(2)}), context())
    assert not loose.accept(result("b", {"v": np.zeros(2)}), fl_ctx)
    assert "a robust rule needs the same of all" in fl_ctx.get_prop(RoundKey.REFUSAL)


def test_half_of_them_cannot_be_bad() -> None:
    aggregator, fl_ctx = RobustAggregator(num_bad=1), context()
    for site in ("a", "b"):
        aggregator.accept(result(site, {"w": np.zeros(2)}), fl_ctx)
    with pytest.raises(RuleError, match="1 of 2 sites cannot be taken for bad"):
        aggregator.aggregate(fl_ctx)


def test_clipping_of_whole_weights_begins_at_the_model() -> None:
    model = {"w": np.array([10.0, 10.0])}
    aggregator = RobustAggregator("centred_clipping", radius=1.0, expected_data_kind=DataKind.WEIGHTS)
    values = {site: [10.0, 11.0] for site in "abc"} | {"bad": [1e9, 10.0]}
    found = combined(aggregator, values, context(model=model))["w"]
    assert np.linalg.norm(found - model["w"]) <= 3.0  # three steps of at most 1
    assert found[0] < 11


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rule": "mode"}, "rule must be one of median"),
        ({"mixing": "stir"}, "mixing must be one of none, nnm, bucketing"),
        ({"num_bad": -1}, "num_bad must be a whole number"),
        ({"bucket_size": 0}, "bucket_size must be a whole number"),
        ({"radius": 0}, "radius must be above 0"),
    ],
)
def test_arguments_are_held_to_their_ranges(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RobustAggregator(**arguments)
