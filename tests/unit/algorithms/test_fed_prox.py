"""FedProx on unlike sites: its fixed point is where the arithmetic says."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.algorithms.fed_prox import proximal_gradient, proximal_term
from unit.algorithms.quadratics import Vector, descend, error, fixed_point, joint_optimum, unlike_sites

RATE, STEPS, ROUNDS = 0.05, 20, 600


def run(mu: float) -> Vector:
    sites, x = unlike_sites(), np.zeros(3)
    for _ in range(ROUNDS):
        received = {"w": x}
        x = np.mean(
            [
                descend(
                    x,
                    lambda w, site=site, received=received: (
                        site.gradient(w) + proximal_gradient({"w": w}, received, mu=mu)["w"]
                    ),
                    num_steps=STEPS,
                    rate=RATE,
                )
                for site in sites
            ],
            axis=0,
        )
    return x


@pytest.mark.parametrize("mu", [0.0, 0.5, 5.0])
def test_it_comes_to_rest_at_the_fixed_point_that_is_worked_out_by_hand(mu: float) -> None:
    sites = unlike_sites()
    assert error(run(mu), fixed_point(sites, num_steps=STEPS, rate=RATE, mu=mu)) < 1e-9


def test_the_stronger_the_term_the_nearer_the_optimum_of_all() -> None:
    sites = unlike_sites()
    errors = [error(run(mu), joint_optimum(sites)) for mu in (0.0, 0.5, 5.0)]
    assert errors[0] > errors[1] > errors[2] > 1e-3


def test_value_and_gradient_by_hand() -> None:
    # mu/2 = 0.25; differences 2, -1 and 3: 0.25 (4 + 1 + 9) = 3.5; gradients 0.5 times the differences.
    weights = {"w": np.array([3.0, 0.0], np.float32), "b": np.array(4.0, np.float32)}
    received = {"w": np.array([1.0, 1.0], np.float32), "b": np.array(1.0, np.float32), "steps": np.array(9)}
    assert proximal_term(weights, received, mu=0.5) == 3.5
    gradient = proximal_gradient(weights, received, mu=np.float64(0.5))
    assert {name: value.tolist() for name, value in gradient.items()} == {"w": [1.0, -0.5], "b": 1.5}
    assert {value.dtype.name for value in gradient.values()} == {"float32"}


def test_the_gradient_is_that_of_the_value() -> None:
    rng = np.random.default_rng(3)
    weights, received = ({"w": rng.normal(size=5)} for _ in range(2))
    along = np.eye(5)[2] * 1e-6
    rise = proximal_term({"w": weights["w"] + along}, received, mu=0.7) - proximal_term(weights, received, mu=0.7)
    assert rise / 1e-6 == pytest.approx(proximal_gradient(weights, received, mu=0.7)["w"][2], abs=1e-5)


def test_the_value_is_added_up_in_float64() -> None:
    # 2**24 + 1 has no place in float32.
    weights = {"big": np.array([4096.0], np.float32), "small": np.array([1.0], np.float32)}
    received = {name: np.zeros(1, np.float32) for name in weights}
    assert proximal_term(weights, received, mu=2.0) == 2**24 + 1


@pytest.mark.parametrize("function", [proximal_term, proximal_gradient])
def test_what_is_refused(function: type) -> None:
    one = {"w": np.ones(1)}
    with pytest.raises(ValueError, match="mu must be at least 0, but got -0.1"):
        function(one, one, mu=-0.1)
    with pytest.raises(ValueError, match="mu must be at least 0, but got nan"):
        function(one, one, mu=float("nan"))
    with pytest.raises(ValueError, match="received has no tensor 'w'"):
        function(one, {}, mu=0.1)
