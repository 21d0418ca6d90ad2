"""Optimizers on the server: by hand, against torch's, and on unlike sites."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hansa.algorithms import fed_opt
from unit.algorithms.quadratics import descend, error, fixed_point, joint_optimum, unlike_sites


def moved(rule: fed_opt.Rule, diffs: list[float], rate: float = 1.0, dtype: type = np.float64) -> list[float]:
    """What each of these mean differences of one weight adds to it."""
    state, steps = fed_opt.init(), []
    for diff in diffs:
        updates, state = fed_opt.step(rule, state, {"w": np.array([diff], dtype)}, learning_rate=rate)
        assert updates["w"].dtype == dtype
        steps.append(float(updates["w"][0]))
    return steps


def test_sgd_by_hand() -> None:
    assert moved(fed_opt.make_rule("sgd"), [1.0, -2.0], rate=0.5) == [0.5, -1.0]
    # b = 1, then 0.5 * 1 + 1 = 1.5
    assert moved(fed_opt.make_rule("sgd", momentum=0.5), [1.0, 1.0]) == [1.0, 1.5]
    # D + 0.5 b: 1.5, then 1 + 0.75
    assert moved(fed_opt.make_rule("sgd", momentum=0.5, nesterov=True), [1.0, 1.0]) == [1.5, 1.75]


def test_the_papers_adam_yogi_and_adagrad_by_hand() -> None:
    # beta_1 = 0.5, beta_2 = 0.75, tau = 0.5, so that v begins at 0.25; D = 1, then 2.
    #   m: 0.5, 1.25
    #   Adam     v = 0.75 * 0.25 + 0.25 * 1 = 0.4375, then 0.75 * 0.4375 + 0.25 * 4 = 1.328125
    #   Yogi     v = 0.25 - 0.25 * 1 * sign(0.25 - 1) = 0.5, then 0.5 - 0.25 * 4 * sign(0.5 - 4) = 1.5
    #   Adagrad  v = 1.25, then 5.25; with beta_1 = 0 m is 1, then 2
    arguments = {"beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.5}
    expected = [0.5 / (math.sqrt(0.4375) + 0.5), 1.25 / (math.sqrt(1.328125) + 0.5)]
    assert moved(fed_opt.make_rule("adam", **arguments), [1.0, 2.0]) == pytest.approx(expected)
    expected = [0.5 / (math.sqrt(0.5) + 0.5), 1.25 / (math.sqrt(1.5) + 0.5)]
    assert moved(fed_opt.make_rule("yogi", **arguments), [1.0, 2.0]) == pytest.approx(expected)
    expected = [1 / (math.sqrt(1.25) + 0.5), 2 / (math.sqrt(5.25) + 0.5)]
    assert moved(fed_opt.make_rule("adagrad", epsilon=0.5), [1.0, 2.0]) == pytest.approx(expected)


def test_yogi_lets_its_accumulator_sink_where_adam_would_forget() -> None:
    # v = 4, D = 1: 4 - 0.25 * 1 * sign(4 - 1) = 3.75, where Adam has 0.75 * 4 + 0.25 = 3.25
    rules = [
        fed_opt.make_rule(name, beta_1=0.0, beta_2=0.75, epsilon=1e-9, initial_accumulator=4.0)
        for name in ("yogi", "adam")
    ]
    steps = [moved(rule, [1.0])[0] for rule in rules]
    assert steps == pytest.approx([1 / math.sqrt(3.75), 1 / math.sqrt(3.25)])


def torch_optimizers() -> list[tuple[fed_opt.Rule, str, dict[str, Any]]]:
    rule = fed_opt.make_rule
    return [
        (rule("sgd"), "SGD", {}),
        (rule("sgd", momentum=0.9), "SGD", {"momentum": 0.9}),
        (rule("sgd", momentum=0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
        (
            rule("adam", beta_2=0.999, epsilon=1e-8, bias_correction=True),
            "Adam",
            {"betas": (0.9, 0.999), "eps": 1e-8},
        ),
        (rule("adagrad", epsilon=1e-10, initial_accumulator=0.0), "Adagrad", {"eps": 1e-10}),
    ]


@pytest.mark.parametrize(("rule", "name", "arguments"), torch_optimizers(), ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_as_torchs_where_both_exist(
    rule: fed_opt.Rule, name: str, arguments: dict[str, Any], dtype: str
) -> None:
    import torch

    rng = np.random.default_rng(5)
    weights = {"w": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=2).astype(dtype)}
    parameters = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in weights.items()}
    optimizer = getattr(torch.optim, name)(parameters.values(), lr=0.05, **arguments)
    state = fed_opt.init()
    for _ in range(30):
        diffs = {key: rng.normal(size=value.shape).astype(dtype) for key, value in weights.items()}
        for key, parameter in parameters.items():
            parameter.grad = -torch.tensor(diffs[key])
        optimizer.step()
        updates, state = fed_opt.step(rule, state, diffs, learning_rate=0.05)
        weights = {key: value + updates[key] for key, value in weights.items()}
    for key, parameter in parameters.items():
        np.testing.assert_allclose(weights[key], parameter.detach().numpy(), rtol=0, atol=1e-6)
        assert weights[key].dtype == dtype


@pytest.mark.parametrize(
    ("rule", "rate", "tolerance"),
    [
        (fed_opt.make_rule("sgd"), 0.5, 1e-6),
        (fed_opt.make_rule("sgd", momentum=0.9), 0.1, 1e-6),
        (fed_opt.make_rule("sgd", momentum=0.9, nesterov=True), 0.1, 1e-6),
        (fed_opt.make_rule("adam", epsilon=0.1), 0.05, 1e-6),
        (fed_opt.make_rule("yogi", epsilon=0.1), 0.05, 1e-6),
        (fed_opt.make_rule("adagrad", epsilon=0.1), 0.5, 1e-6),
    ],
    ids=lambda value: getattr(value, "optimizer", None),
)
def test_all_come_to_rest_where_the_mean_difference_is_zero(rule: fed_opt.Rule, rate: float, tolerance: float) -> None:
    # One local step: there the mean difference is minus the mean gradient, so it is the optimum of all. With several
    # it is where federated averaging rests, which no optimizer on the server can mend.
    sites = unlike_sites()
    targets = {1: joint_optimum(sites), 8: fixed_point(sites, num_steps=8, rate=0.1)}
    assert error(targets[1], targets[8]) > 1e-2
    for num_steps, target in targets.items():
        x, state = np.zeros(3), fed_opt.init()
        for _ in range(3000):
            diffs = [descend(x, site.gradient, num_steps=num_steps, rate=0.1) - x for site in sites]
            updates, state = fed_opt.step(rule, state, {"w": np.mean(diffs, axis=0)}, learning_rate=rate)
            x = x + updates["w"]
        assert error(x, target) < tolerance


@pytest.mark.parametrize("optimizer", fed_opt.OPTIMIZERS)
def test_state_goes_through_plain_values_and_back(optimizer: str) -> None:
    rule = fed_opt.make_rule(optimizer, **({"momentum": 0.9} if optimizer == "sgd" else {"beta_1": 0.5}))
    first, second = {"w": np.array([1.0, -2.0], np.float32)}, {"w": np.array([3.0, 0.5], np.float32)}
    _, state = fed_opt.step(rule, fed_opt.init(), first, learning_rate=0.1)
    plain = state.to_plain()
    assert plain["num_steps"] == {"w": 1}
    assert plain["first"]["w"].dtype == np.float32
    assert ("w" in plain["second"]) == (optimizer != "sgd")
    expected, _ = fed_opt.step(rule, state, second, learning_rate=0.1)
    again, _ = fed_opt.step(rule, fed_opt.State.from_plain(plain), second, learning_rate=0.1)
    assert again["w"].tobytes() == expected["w"].tobytes()


def test_what_is_absent_keeps_its_memory_and_nothing_is_written_into() -> None:
    rule = fed_opt.make_rule("sgd", momentum=0.5)
    diff = {"w": np.ones(1), "b": np.ones(1)}
    for value in diff.values():
        value.flags.writeable = False
    _, one = fed_opt.step(rule, fed_opt.init(), diff, learning_rate=1.0)
    _, two = fed_opt.step(rule, one, {"w": diff["w"]}, learning_rate=1.0)
    assert two.moments["b"] is one.moments["b"]
    assert two.moments["b"].num_steps == 1
    assert two.moments["w"].num_steps == 2
    assert one.moments["w"].first is not None
    assert one.moments["w"].first.tolist() == [1.0]
    assert not np.shares_memory(one.moments["w"].first, diff["w"])


def test_float16_and_scalars_keep_their_dtype() -> None:
    assert moved(fed_opt.make_rule("sgd", momentum=0.5), [1.0, 1.0], dtype=np.float16) == [1.0, 1.5]
    updates, _ = fed_opt.step(
        fed_opt.make_rule("adam"), fed_opt.init(), {"w": np.array(1.0, np.float32)}, learning_rate=np.float64(0.1)
    )
    assert isinstance(updates["w"], np.ndarray)
    assert updates["w"].dtype == np.float32
    assert updates["w"].shape == ()


@pytest.mark.parametrize(
    ("optimizer", "arguments", "text"),
    [
        ("adamw", {}, "there is no optimizer 'adamw'; known are sgd, adam, yogi, adagrad"),
        ("adam", {"momentum": 0.9}, "optimizer 'adam' takes no argument 'momentum'; it takes beta_1, beta_2, epsilon"),
        ("sgd", {"momentum": 1.0}, r"momentum must be in \[0, 1\), but got 1.0"),
        ("sgd", {"momentum": "much"}, "momentum must be a number, but got 'much'"),
        ("sgd", {"nesterov": True}, "nesterov needs a momentum above 0"),
        ("sgd", {"nesterov": 1}, "nesterov must be true or false, but got 1"),
        ("adam", {"beta_2": float("nan")}, "beta_2 must be a number, but got nan"),
        ("yogi", {"epsilon": 0}, "epsilon must be above 0, but got 0"),
        ("yogi", {"bias_correction": True}, "optimizer 'yogi' takes no argument 'bias_correction'"),
        ("adagrad", {"initial_accumulator": -1}, "initial_accumulator must be at least 0, but got -1"),
        ("adam", {"bias_correction": True, "initial_accumulator": 1.0}, "leave out initial_accumulator"),
    ],
)
def test_what_is_refused(optimizer: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fed_opt.make_rule(optimizer, **arguments)


def test_an_update_of_another_shape_names_the_tensor() -> None:
    rule = fed_opt.make_rule("adam")
    _, state = fed_opt.step(rule, fed_opt.init(), {"w": np.ones(2)}, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"the update of 'w' has shape \(3,\), those before had \(2,\)"):
        fed_opt.step(rule, state, {"w": np.ones(3)}, learning_rate=0.1)
