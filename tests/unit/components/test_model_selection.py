"""IntimeModelSelectionHandler."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.handlers.intime_model_selection_handler import IntimeModelSelectionHandler
from sides import Side

BEST = AppEventType.GLOBAL_BEST_MODEL_AVAILABLE


def result(site: str, metric: Any, *, round_number: int = 1, steps: Any = None) -> Shareable:
    meta = {} if metric is None else {MetaKey.INITIAL_METRICS: metric}
    if steps is not None:
        meta[MetaKey.NUM_STEPS_CURRENT_ROUND] = steps
    shareable = DXO(DataKind.WEIGHT_DIFF, {"w": 1.0}, meta).to_shareable()
    shareable.set_header(AppConstants.CONTRIBUTION_ROUND, round_number)
    shareable.set_peer_props({ReservedKey.IDENTITY_NAME: site})
    return shareable


def run_round(side: Side, results: list[Shareable], *, round_number: int = 1) -> None:
    for each in results:
        side.fire(
            AppEventType.BEFORE_CONTRIBUTION_ACCEPT,
            **{AppConstants.CURRENT_ROUND: round_number, AppConstants.TRAINING_RESULT: each},
        )
    side.fire(AppEventType.BEFORE_AGGREGATION, **{AppConstants.CURRENT_ROUND: round_number})


def selecting(**arguments: Any) -> tuple[IntimeModelSelectionHandler, Side]:
    handler = IntimeModelSelectionHandler(**arguments)
    return handler, Side("project", [handler])


def test_the_mean_of_a_round_above_the_best_so_far_is_announced_once() -> None:
    handler, side = selecting()
    assert handler.best_val_metric == -math.inf
    run_round(side, [result("site-1", 0.5), result("site-2", 0.75)])
    # (0.5 + 0.75) / 2 = 0.625
    assert handler.best_val_metric == 0.625
    assert side.fired.count(BEST) == 1
    assert side.fired[-2:] == [AppEventType.BEFORE_AGGREGATION, BEST]
    run_round(side, [result("site-1", 0.625, round_number=2)], round_number=2)
    run_round(side, [result("site-1", 0.5, round_number=3)], round_number=3)
    assert (handler.best_val_metric, side.fired.count(BEST)) == (0.625, 1)


def test_weights_are_steps_times_the_weight_of_the_site() -> None:
    handler, side = selecting(weigh_by_local_iter=True, aggregation_weights={"site-1": 0.5})
    run_round(side, [result("site-1", 1.0, steps=4), result("site-2", 0.0, steps=1), result("site-3", 0.0)])
    # weights 4 * 0.5 = 2, 1 * 1 = 1, 1 * 1 = 1: (2 * 1 + 0 + 0) / 4
    assert handler.best_val_metric == 0.5


def test_steps_do_not_matter_unless_asked_for() -> None:
    handler, side = selecting()
    run_round(side, [result("site-1", 1.0, steps=99), result("site-2", 0.0, steps=1)])
    assert handler.best_val_metric == 0.5


def test_round_0_other_rounds_and_results_without_a_metric_do_not_count() -> None:
    handler, side = selecting()
    run_round(side, [result("site-1", 0.9, round_number=0)], round_number=0)
    run_round(side, [result("site-1", 0.9, round_number=1), result("site-2", None, round_number=2)], round_number=2)
    assert handler.best_val_metric == -math.inf
    assert BEST not in side.fired


@pytest.mark.parametrize("metric", ["good", math.nan, math.inf, True, [0.5]])
def test_a_metric_that_is_no_finite_number_is_ignored_with_a_warning(
    metric: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handler, side = selecting()
    run_round(side, [result("site-1", metric), result("site-2", 0.25)])
    assert handler.best_val_metric == 0.25
    assert "site-1: initial_metrics in round 1 is no finite number" in caplog.text
    run_round(side, [result("site-1", metric, round_number=2), result("site-2", 0.5, round_number=2)], round_number=2)
    assert handler.best_val_metric == 0.5
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_metric_that_is_missing_at_some_sites_is_said_once_for_each(caplog: pytest.LogCaptureFixture) -> None:
    handler, side = selecting()
    for number in (1, 2):
        some = [result("site-2", 0.25, round_number=number), result("site-1", None, round_number=number)]
        run_round(side, some, round_number=number)
    assert handler.best_val_metric == 0.25
    assert caplog.text.count("site-1: initial_metrics is missing, while other sites send it") == 1


def test_where_nobody_measures_nothing_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    _, side = selecting()
    run_round(side, [result("site-1", None), result("site-2", None)])
    assert caplog.records == []


def test_of_a_loss_smaller_is_better() -> None:
    handler, side = selecting(larger_is_better=False)
    assert handler.best_val_metric == math.inf
    for number, loss in ((1, 2.0), (2, 0.5), (3, 1.0)):
        run_round(side, [result("site-1", loss, round_number=number)], round_number=number)
    assert (handler.best_val_metric, side.fired.count(BEST)) == (0.5, 2)


def test_one_of_several_metrics() -> None:
    handler, side = selecting(validation_metric_name="loss", larger_is_better=False)
    run_round(side, [result("site-1", {"accuracy": 0.9, "loss": 0.5}), result("site-2", {"loss": 0.25})])
    # (0.5 + 0.25) / 2
    assert handler.best_val_metric == 0.375


def test_in_a_collection_the_weights_tell_what_the_collection_does_not() -> None:
    handler, side = selecting(weigh_by_local_iter=True)
    sent = []
    for site, metric, steps in (("site-1", 1.0, 3), ("site-2", 0.0, 1)):
        weights = DXO(DataKind.WEIGHT_DIFF, {}, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps})
        meta = {MetaKey.INITIAL_METRICS: metric}
        both = DXO(DataKind.COLLECTION, {AppConstants.MODEL_WEIGHTS: weights}, meta).to_shareable()
        both.set_header(AppConstants.CONTRIBUTION_ROUND, 1)
        both.set_peer_props({ReservedKey.IDENTITY_NAME: site})
        sent.append(both)
    run_round(side, sent)
    # (3 * 1.0 + 1 * 0.0) / 4
    assert handler.best_val_metric == 0.75


def test_another_name_of_the_metric() -> None:
    handler, side = selecting(validation_metric_name="dice")
    shareable = DXO(DataKind.WEIGHTS, {}, {"dice": 0.5}).to_shareable()
    shareable.set_header(AppConstants.CONTRIBUTION_ROUND, 1)
    run_round(side, [shareable])
    assert handler.best_val_metric == 0.5


def test_the_result_is_also_found_in_the_peer_context() -> None:
    handler, side = selecting()
    peer = FLContext()
    peer.set_prop(FLContextKey.SHAREABLE, result("site-1", 0.5), private=True, sticky=False)
    side.fire(
        AppEventType.BEFORE_CONTRIBUTION_ACCEPT, **{AppConstants.CURRENT_ROUND: 1, FLContextKey.PEER_CONTEXT: peer}
    )
    side.fire(AppEventType.BEFORE_AGGREGATION)
    assert handler.best_val_metric == 0.5


@pytest.mark.parametrize("key", [ReservedKey.IDENTITY_NAME, FLContextKey.CLIENT_NAME])
def test_a_result_that_does_not_name_its_site_is_the_peers(key: str) -> None:
    handler, side = selecting(aggregation_weights={"site-1": 3.0})
    for site, metric in (("site-1", 1.0), ("site-2", 0.0)):
        peer = FLContext()
        peer.set_prop(key, site, private=False, sticky=False)
        unnamed = result(site, metric)
        unnamed.set_peer_props({})
        side.fire(
            AppEventType.BEFORE_CONTRIBUTION_ACCEPT,
            **{
                AppConstants.CURRENT_ROUND: 1,
                AppConstants.TRAINING_RESULT: unnamed,
                FLContextKey.PEER_CONTEXT: peer,
            },
        )
    side.fire(AppEventType.BEFORE_AGGREGATION)
    # (3 * 1.0 + 1 * 0.0) / (3 + 1) = 0.75
    assert handler.best_val_metric == 0.75


def test_what_came_after_a_round_was_folded_does_not_count_in_the_next() -> None:
    handler, side = selecting()
    run_round(side, [result("site-1", 0.5)])
    side.fire(
        AppEventType.BEFORE_CONTRIBUTION_ACCEPT,
        **{AppConstants.CURRENT_ROUND: 1, AppConstants.TRAINING_RESULT: result("site-2", 1.0)},
    )
    side.fire(AppEventType.ROUND_STARTED, **{AppConstants.CURRENT_ROUND: 2})
    run_round(side, [result("site-1", 0.5, round_number=2)], round_number=2)
    assert handler.best_val_metric == 0.5


@settings(max_examples=200)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_the_score_does_not_depend_on_the_order_of_arrival(metrics: list[float]) -> None:
    sent = [result(f"site-{i % 3}", metric, steps=i + 1) for i, metric in enumerate(metrics)]
    scores = set()
    for order in itertools.islice(itertools.permutations(sent), 24):
        handler, side = selecting(weigh_by_local_iter=True)
        run_round(side, list(order))
        scores.add(handler.best_val_metric)
    assert len(scores) == 1


def test_the_best_score_survives_a_restart() -> None:
    handler, side = selecting()
    run_round(side, [result("site-1", 0.5)])
    again, other_side = selecting()
    again.restore(handler.state())
    run_round(other_side, [result("site-1", 0.5)])
    assert (again.best_val_metric, BEST in other_side.fired) == (0.5, False)
