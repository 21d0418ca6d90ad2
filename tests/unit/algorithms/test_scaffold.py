"""SCAFFOLD on unlike sites: it finds the optimum of all where federated averaging does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa.algorithms import scaffold
from unit.algorithms.quadratics import Site, Vector, error, fed_avg, joint_optimum, unlike_sites

RATE, STEPS, ROUNDS = 0.05, 10, 400


def run(
    sites: list[Site], *, option: int, rounds: int = ROUNDS, sampled: int | None = None, dtype: type = np.float64
) -> scaffold.ServerState:
    rng = np.random.default_rng(1)
    x: dict[str, Any] = {"w": np.zeros(3, dtype)}
    server = scaffold.init(x)
    controls = [scaffold.init_control(x) for _ in sites]
    for _ in range(rounds):
        asked = range(len(sites)) if sampled is None else rng.choice(len(sites), sampled, replace=False)
        weight_diffs, control_diffs = [], []
        for i in asked:
            received, c = server.weights, server.control
            y = dict(received)
            for _ in range(STEPS):
                gradient = {"w": sites[i].gradient(y["w"]).astype(dtype)}
                slope = scaffold.corrected_gradient(gradient, control=controls[i], control_global=c)
                y = {"w": y["w"] - RATE * slope["w"]}
            if option == 1:
                new = {"w": sites[i].gradient(received["w"]).astype(dtype)}
            else:
                new = scaffold.new_control(
                    controls[i], control_global=c, received=received, trained=y, num_steps=STEPS, learning_rate=RATE
                )
            weight_diffs.append(y["w"] - received["w"])
            control_diffs.append(new["w"] - controls[i]["w"])
            controls[i] = new
        server = scaffold.server_update(
            server,
            mean_weight_diff={"w": np.mean(weight_diffs, axis=0, dtype=dtype)},
            mean_control_diff={"w": np.mean(control_diffs, axis=0, dtype=dtype)},
            fraction=len(weight_diffs) / len(sites),
        )
    return server


@pytest.mark.parametrize("option", [1, 2])
def test_it_reaches_the_optimum_of_all_where_federated_averaging_stops_beside_it(option: int) -> None:
    sites = unlike_sites()
    optimum = joint_optimum(sites)
    server = run(sites, option=option)
    assert error(server.weights["w"], optimum) < 1e-6
    averaged = fed_avg(sites, np.zeros(3), rounds=ROUNDS, num_steps=STEPS, rate=RATE)
    assert error(averaged, optimum) > 1e-2
    # At the optimum of all, the mean of the sites' gradients is zero, and so is the global control.
    assert error(server.control["w"], np.zeros(3)) < 1e-5


def test_with_two_of_four_sites_in_each_round() -> None:
    sites = unlike_sites()
    server = run(sites, option=2, rounds=1500, sampled=2)
    assert error(server.weights["w"], joint_optimum(sites)) < 1e-6


def test_one_round_by_hand() -> None:
    # x = 1, c = 0.5, c_i = 0.25, eta_l = 0.1, K = 2, gradient of (y - 3)^2 / 2 is y - 3:
    #   y = 1 - 0.1 (-2 - 0.25 + 0.5) = 1.175;  y = 1.175 - 0.1 (-1.825 + 0.25) = 1.3325
    #   c_i+ = 0.25 - 0.5 + (1 - 1.3325) / 0.2 = -1.9125
    received, own, c = {"w": np.array([1.0])}, {"w": np.array([0.25])}, {"w": np.array([0.5])}
    y = received
    for _ in range(2):
        slope = scaffold.corrected_gradient({"w": y["w"] - 3}, control=own, control_global=c)
        y = {"w": y["w"] - 0.1 * slope["w"]}
    assert y["w"].tolist() == pytest.approx([1.3325])
    new = scaffold.new_control(own, control_global=c, received=received, trained=y, num_steps=2, learning_rate=0.1)
    assert new["w"].tolist() == pytest.approx([-1.9125])
    # Two of eight sites answered: x + 0.5 * 0.4 = 1.2 and c + 0.25 * (-2) = 0.
    server = scaffold.server_update(
        scaffold.ServerState(received, c),
        mean_weight_diff={"w": np.array([0.4])},
        mean_control_diff={"w": np.array([-2.0])},
        server_learning_rate=0.5,
        fraction=0.25,
    )
    assert server.weights["w"].tolist() == pytest.approx([1.2])
    assert server.control["w"].tolist() == [0.0]
    assert received["w"].tolist() == [1.0]
    assert c["w"].tolist() == [0.5]


def test_float32_stays_float32_and_nothing_is_written_into() -> None:
    server = run(unlike_sites(), option=2, rounds=3, dtype=np.float32)
    assert server.weights["w"].dtype == server.control["w"].dtype == np.float32
    frozen = {"w": np.ones(2, np.float32)}
    frozen["w"].flags.writeable = False
    made = [
        scaffold.corrected_gradient(frozen, control=frozen, control_global=frozen),
        scaffold.new_control(
            frozen,
            control_global=frozen,
            received=frozen,
            trained=frozen,
            num_steps=1,
            learning_rate=np.float64(0.1),  # NumPy's own would widen
        ),
        scaffold.server_update(
            scaffold.ServerState(frozen, frozen),
            mean_weight_diff=frozen,
            mean_control_diff=frozen,
            server_learning_rate=np.float64(1),
        ).weights,
    ]
    assert [each["w"].dtype for each in made] == [np.float32] * 3
    assert not any(np.shares_memory(each["w"], frozen["w"]) for each in made)


def test_tensors_that_are_not_trained_have_no_control() -> None:
    weights = {"w": np.ones(2), "steps": np.array(7)}
    server = scaffold.init(weights, trained={"w": weights["w"]})
    assert list(server.control) == ["w"]
    moved = scaffold.server_update(
        server, mean_weight_diff={"steps": np.array(1.5)}, mean_control_diff={"w": np.ones(2)}
    )
    assert moved.weights["steps"] == 8  # 8.5, to even
    assert moved.weights["steps"].dtype == weights["steps"].dtype
    assert moved.weights["w"].tolist() == [1.0, 1.0]


def wrong(**changes: Any) -> dict[str, Vector]:
    one = {"w": np.ones(1)}
    values = {"control_global": one, "received": one, "trained": one, "num_steps": 1, "learning_rate": 0.1, **changes}
    return scaffold.new_control(one, **values)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_steps": 0}, "0 steps of learning rate 0.1"),
        ({"learning_rate": 0.0}, "1 steps of learning rate 0.0"),
        ({"received": {}}, "received has no tensor 'w'"),
        ({"trained": {"w": np.ones(2)}}, r"trained has 'w' in shape \(2,\), where \(1,\) is expected"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        wrong(**changes)


def test_a_fraction_of_sites_is_above_zero_and_at_most_one() -> None:
    server = scaffold.init({"w": np.ones(1)})
    for fraction in (0.0, 1.5):
        with pytest.raises(ValueError, match="fraction"):
            scaffold.server_update(server, mean_weight_diff={}, mean_control_diff={}, fraction=fraction)
    with pytest.raises(ValueError, match="weights has no tensor 'other'"):
        scaffold.server_update(server, mean_weight_diff={"other": np.ones(1)}, mean_control_diff={})
