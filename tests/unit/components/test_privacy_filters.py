"""FLARE's two privacy filters on whole results."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.components.filters import PercentilePrivacy, SVTPrivacy

W = np.array([[0.02, -0.4], [1.0, 0.0]], np.float32)
B = np.array([3, -8])


def update(steps: Any = 2, **data: Any) -> Shareable:
    meta = {} if steps is None else {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}
    return DXO(DataKind.WEIGHT_DIFF, data or {"w": W, "b": B}, meta).to_shareable()


def data_of(result: Shareable) -> dict[str, Any]:
    return dict(from_shareable(result).data)


def test_percentile_is_taken_over_the_whole_model_and_per_step() -> None:
    # Per step of two: 0.01, 0.2, 0.5, 0 and 1.5, 4; the median of the six sizes is 0.35.
    result = data_of(PercentilePrivacy(percentile=50, gamma=2.0).process(update(), FLContext()))
    np.testing.assert_allclose(result["w"], [[0, 0], [1.0, 0]], atol=1e-7)
    np.testing.assert_array_equal(result["b"], [3, -4])
    assert (result["w"].dtype, result["b"].dtype) == (np.float32, B.dtype)
    np.testing.assert_array_equal(W, np.array([[0.02, -0.4], [1.0, 0.0]], np.float32))  # nothing is written into


def test_without_steps_it_is_one() -> None:
    result = data_of(PercentilePrivacy(percentile=0, gamma=0.5).process(update(None), FLContext()))
    np.testing.assert_allclose(result["w"], [[0.02, -0.4], [0.5, 0]], atol=1e-7)


def test_svt_sends_a_part_with_noise_and_says_what_it_costs(caplog: pytest.LogCaptureFixture) -> None:
    values = np.linspace(-1, 1, 1000, dtype=np.float32)
    with caplog.at_level(logging.INFO):
        sent = [
            data_of(SVTPrivacy(0.1, gamma=0.1, tau=0.0, seed=seed).process(update(4, w=values), FLContext()))["w"]
            for seed in (1, 1, 2)
        ]
    np.testing.assert_array_equal(sent[0], sent[1])
    assert not np.array_equal(sent[0], sent[2])
    assert np.count_nonzero(sent[0]) == 100
    assert np.abs(sent[0]).max() <= 4 * 0.1 + 1e-6
    assert "sends 100 of 1000 numbers with noise; this update costs epsilon 13.52" in caplog.text


def test_without_a_seed_the_noise_is_the_systems_and_never_the_same() -> None:
    first, second = (
        data_of(SVTPrivacy(0.5, gamma=1.0).process(update(1, w=np.ones(100)), FLContext()))["w"] for _ in range(2)
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("made", [PercentilePrivacy(), SVTPrivacy(seed=0)])
def test_what_has_no_weights_passes_and_weights_that_are_no_update_do_not(made: Any) -> None:
    failed = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    metrics = DXO(DataKind.METRICS, {"accuracy": 0.5}).to_shareable()
    for passing in (failed, metrics, Shareable()):
        assert made.process(passing, FLContext()) is passing
    whole = DXO(DataKind.WEIGHTS, {"w": W}).to_shareable()
    several = DXO(DataKind.COLLECTION, {"a": DXO(DataKind.WEIGHT_DIFF, {"w": W})}).to_shareable()
    for kept in (whole, several):
        with pytest.raises(ValueError, match=r"works on an update \(WEIGHT_DIFF\), and the result is of kind"):
            made.process(kept, FLContext())
    with pytest.raises(ValueError, match="the update is not finite"):
        made.process(update(1, w=np.array([1.0, np.nan])), FLContext())
    with pytest.raises(ValueError, match="must be a number above 0, not 0"):
        made.process(update(0), FLContext())
    assert data_of(made.process(update(1, w=np.zeros(0)), FLContext()))["w"].shape == (0,)


@pytest.mark.parametrize(
    "arguments",
    [{"fraction": 0}, {"fraction": 1.5}, {"epsilon": 0}, {"noise_var": -1}, {"gamma": 0}, {"tau": -1}],
)
def test_svts_numbers_are_held_to_their_ranges(arguments: dict[str, float]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be"):
        SVTPrivacy(**arguments)


def test_percentiles_numbers_are_held_to_their_ranges() -> None:
    with pytest.raises(ValueError, match="percentile must be from 0 to 100"):
        PercentilePrivacy(101)
    with pytest.raises(ValueError, match="gamma must be above 0"):
        PercentilePrivacy(gamma=0)
