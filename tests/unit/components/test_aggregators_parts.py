"""The parts below the aggregators that applications use on their own: one DXO, plain dicts."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.engine import RoundKey
from hansa.apis.fl_context import FLContext
from hansa.components.aggregators.dxo_aggregator import DXOAggregator
from hansa.components.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from hansa.errors import RuleError


def test_helper_by_hand() -> None:
    # x: (2*1 + 6*3) / (1 + 3) = 5;   y only from the second: 8
    helper = WeightedAggregationHelper(exclude_vars="^skip")
    assert helper.add({"x": np.array([2.0]), "skip.me": "anything"}, 1, "a", 0)
    assert helper.add({"x": np.array([6.0]), "y": np.array([8.0])}, 3, "b", 0)
    assert helper.get_len() == 2
    assert helper.get_history() == [
        {"contributor_name": "a", "round": 0, "weight": 1},
        {"contributor_name": "b", "round": 0, "weight": 3},
    ]
    assert {name: value.tolist() for name, value in helper.get_result().items()} == {"x": [5.0], "y": [8.0]}
    assert helper.get_len() == 0
    assert helper.get_result() == {}


def test_helper_counts_each_contributor_once() -> None:
    helper = WeightedAggregationHelper()
    assert helper.add({"x": 1.0}, 1, "a", 0) is True
    assert helper.add({"x": 9.0}, 1, "a", 0) is False
    assert helper.get_len() == 1
    assert helper.get_result() == {"x": 1.0}


def test_helper_starts_over() -> None:
    helper = WeightedAggregationHelper()
    helper.add({"x": 1.0}, 1, "a", 0)
    helper.reset_stats()
    assert (helper.get_len(), helper.get_history(), helper.num_held) == (0, [], 0)
    assert helper.add({"x": 2.0}, 1, "a", 1)
    assert helper.get_result() == {"x": 2.0}


def test_helper_refuses_what_is_no_number() -> None:
    helper = WeightedAggregationHelper()
    with pytest.raises(RuleError, match="'x' is a str"):
        helper.add({"x": "text"}, 1, "a", 0)
    assert helper.get_len() == 0
    with pytest.raises(ValueError, match="exclude_vars"):
        WeightedAggregationHelper(3)  # type: ignore[arg-type]  # as a config may have it


def test_dxo_aggregator() -> None:
    # (1*2 + 4*1) / (2 + 1) = 2
    aggregator, fl_ctx = DXOAggregator(expected_data_kind=DataKind.WEIGHTS, name_postfix="_extra"), FLContext()
    assert aggregator.logger.name == "DXOAggregator_extra"
    fl_ctx.set_prop("current_round", 3)
    steps = MetaKey.NUM_STEPS_CURRENT_ROUND
    assert aggregator.accept(DXO(DataKind.WEIGHTS, {"x": 1.0}, {steps: 2}), "a", 3, fl_ctx)
    assert not aggregator.accept(DXO(DataKind.WEIGHTS, {"x": 1.0}, {steps: 2}), "a", 3, fl_ctx)
    assert fl_ctx.get_prop(RoundKey.REFUSAL) == "a second contribution to round 3"
    assert not aggregator.accept("text", "b", 3, fl_ctx)  # type: ignore[arg-type]  # as user code may have it
    assert aggregator.accept(DXO(DataKind.WEIGHTS, {"x": 4.0}, {steps: 1}), "b", 3, fl_ctx)
    mean = aggregator.aggregate(fl_ctx)
    assert (mean.data_kind, mean.data) == (DataKind.WEIGHTS, {"x": 2.0})
    assert aggregator.accept(DXO(DataKind.WEIGHTS, {"x": 1.0}, {steps: 2}), "a", 3, fl_ctx)
    aggregator.reset_aggregation_helper()
    assert aggregator.aggregate(fl_ctx).data == {}
