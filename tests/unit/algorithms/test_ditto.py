"""Ditto's personal model lies between training alone and the global model."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.algorithms import ditto
from unit.algorithms.quadratics import Vector, error, joint_optimum, unlike_sites

SITE = unlike_sites()[0]
GLOBAL = joint_optimum(unlike_sites())


def personal(ditto_lambda: float, *, steps: int = 20_000) -> Vector:
    rate = 1.0 / (5.0 + ditto_lambda)  # stable: the curvature is below 4 + lambda
    received = {"w": GLOBAL}
    v = ditto.init(received)
    for _ in range(steps):
        v = ditto.personal_step(
            v, {"w": SITE.gradient(v["w"])}, received=received, ditto_lambda=ditto_lambda, learning_rate=rate
        )
    return v["w"]


@pytest.mark.parametrize("ditto_lambda", [0.0, 1.0, 100.0])
def test_it_reaches_the_personal_optimum(ditto_lambda: float) -> None:
    # grad F(v) + lambda (v - w) = 0: (A + lambda I) v = A b + lambda w.
    a, b = SITE.curvature, SITE.optimum
    optimum = np.linalg.solve(a + ditto_lambda * np.eye(3), a @ b + ditto_lambda * GLOBAL)
    assert error(personal(ditto_lambda), optimum) < 1e-9


def test_without_lambda_it_trains_alone_and_with_a_large_one_it_is_the_global_model() -> None:
    assert error(personal(0.0), SITE.optimum) < 1e-9
    # The deviation is about |A (b - w)| / lambda.
    assert error(personal(1e7), GLOBAL) < 1e-5
    assert error(SITE.optimum, GLOBAL) > 0.1  # so that these are two different models


def test_a_step_by_hand() -> None:
    # 2 - 0.1 (4 + 0.5 (2 - 1)) = 1.55; what has no gradient stays.
    before = {"w": np.array([2.0], np.float32), "steps": np.array(3)}
    gradient, received = {"w": np.array([4.0], np.float32)}, {"w": np.array([1.0], np.float32)}
    after = ditto.personal_step(
        before, gradient, received=received, ditto_lambda=np.float64(0.5), learning_rate=np.float64(0.1)
    )
    assert after["w"].tolist() == pytest.approx([1.55])
    assert after["w"].dtype == np.float32
    assert after["steps"] is before["steps"]
    assert before["w"].tolist() == [2.0]


def test_the_personal_model_begins_as_a_copy() -> None:
    received = {"w": np.ones(2)}
    assert not np.shares_memory(ditto.init(received)["w"], received["w"])


def test_what_is_refused() -> None:
    one = {"w": np.ones(1)}
    with pytest.raises(ValueError, match="ditto_lambda must be at least 0, but got -1"):
        ditto.personal_step(one, one, received=one, ditto_lambda=-1, learning_rate=0.1)
    with pytest.raises(ValueError, match="personal has no tensor 'w'"):
        ditto.personal_step({}, one, received=one, ditto_lambda=1, learning_rate=0.1)
