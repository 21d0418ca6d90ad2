"""Schedules by round: worked by hand, against torch's, and what their config may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.algorithms.schedules import from_config, value_at


def values(config: object, rounds: int, **options: Any) -> list[float]:
    schedule = from_config(config, key="learning_rate")
    return [value_at(schedule, r, **options) for r in range(rounds)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (0.1, [0.1, 0.1, 0.1]),
        ({"schedule": "constant", "value": 3}, [3, 3, 3]),
        ({"schedule": "step", "initial": 8, "factor": 0.5, "every": 2}, [8, 8, 4, 4, 2]),
        ({"schedule": "exponential", "initial": 8, "factor": 0.5}, [8, 4, 2, 1]),
        # (1 + cos(pi r / 4)) / 2 of 10, and 1 more; then it stays
        (
            {"schedule": "cosine", "initial": 11, "final": 1, "rounds": 4},
            [11, 1 + 8.535533905932738, 6, 1 + 1.4644660940672622, 1, 1],
        ),
        ({"schedule": "linear", "initial": 1, "rounds": 4}, [1, 0.75, 0.5, 0.25, 0, 0]),
        ({"schedule": "linear", "initial": 0, "final": 2, "rounds": 2}, [0, 1, 2]),
        ({"schedule": "piecewise", "values": [[0, 1], [2, 0.5], [3, 0.25]]}, [1, 1, 0.5, 0.25, 0.25]),
    ],
)
def test_by_hand(config: object, expected: list[float]) -> None:
    assert values(config, len(expected)) == pytest.approx(expected, abs=1e-12)


def test_warm_up_goes_in_even_steps_to_the_first_value_and_the_schedule_begins_there() -> None:
    # 1 + (5 - 1) (r + 1) / 4 for three rounds, then 5, 2.5, ...
    config = {"schedule": "exponential", "initial": 5, "factor": 0.5, "warmup_rounds": 3, "warmup_from": 1}
    assert values(config, 5) == [2, 3, 4, 5, 2.5]
    # The end stays where it was: 2 rounds of warm-up leave 4 of 6.
    config = {"schedule": "linear", "initial": 1.2, "rounds": 6, "warmup_rounds": 2}
    assert values(config, 7) == pytest.approx([0.4, 0.8, 1.2, 0.9, 0.6, 0.3, 0.0])
    assert values({"schedule": "constant", "value": 1.0, "warmup_rounds": 1}, 3) == [0.5, 1.0, 1.0]


def test_without_rounds_a_schedule_lasts_as_long_as_the_run() -> None:
    assert values({"schedule": "linear", "initial": 1}, 3, num_rounds=4) == [1, 0.75, 0.5]
    assert values({"schedule": "linear", "initial": 1, "rounds": 2}, 3, num_rounds=4) == [1, 0.5, 0]
    with pytest.raises(ValueError, match=r"learning_rate\.rounds is missing, and nothing says how many"):
        values({"schedule": "cosine", "initial": 1}, 1)


@pytest.mark.parametrize(
    ("config", "name", "arguments"),
    [
        ({"schedule": "step", "initial": 0.1, "factor": 0.3, "every": 3}, "StepLR", {"step_size": 3, "gamma": 0.3}),
        ({"schedule": "exponential", "initial": 0.1, "factor": 0.9}, "ExponentialLR", {"gamma": 0.9}),
        (
            {"schedule": "cosine", "initial": 0.1, "final": 0.01, "rounds": 20},
            "CosineAnnealingLR",
            {"T_max": 20, "eta_min": 0.01},
        ),
        (
            {"schedule": "linear", "initial": 0.1, "final": 0.02, "rounds": 20},
            "LinearLR",
            {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 20},
        ),
    ],
)
def test_the_same_as_torchs_where_both_exist(config: dict[str, Any], name: str, arguments: dict[str, Any]) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config["initial"])
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert values(config, 20) == pytest.approx(expected, rel=1e-9)


@given(
    st.integers(0, 30),
    st.floats(1e-6, 10),
    st.floats(0, 10),
    st.sampled_from(["cosine", "linear"]),
)
def test_a_schedule_with_an_end_stays_between_its_ends(warm: int, initial: float, final: float, kind: str) -> None:
    config = {"schedule": kind, "initial": initial, "final": final, "rounds": warm + 7, "warmup_rounds": warm}
    after = values(config, warm + 12)[warm:]
    assert after[0] == pytest.approx(initial)
    assert after[7:] == pytest.approx([final] * 5, abs=1e-12)
    assert all(min(initial, final) - 1e-9 <= value <= max(initial, final) + 1e-9 for value in after)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("fast", "learning_rate must be a number or a schedule such as .* but got 'fast'"),
        (True, "learning_rate must be a number or a schedule"),
        (float("inf"), "learning_rate must be a number or a schedule"),
        ({"initial": 1}, "learning_rate must be a number or a schedule"),
        ({"schedule": "cosin"}, r"learning_rate\.schedule: there is no schedule 'cosin'; known are constant, step, "),
        ({"schedule": ["step"]}, r"learning_rate\.schedule: there is no schedule"),
        ({"schedule": "step", "initial": 1, "every": 2}, r"learning_rate\.factor is missing; a schedule 'step' needs"),
        (
            {"schedule": "constant", "value": 1, "final": 0},
            r"learning_rate\.final: a schedule 'constant' has no such key; it has value, warmup_rounds, warmup_from",
        ),
        ({"schedule": "constant", "value": "1"}, r"learning_rate\.value must be a number, but got '1'"),
        (
            {"schedule": "step", "initial": 1, "factor": 0, "every": 2},
            r"learning_rate\.factor must be a number above 0, but got 0",
        ),
        (
            {"schedule": "step", "initial": 1, "factor": 0.5, "every": 0},
            r"learning_rate\.every must be a whole number of at least 1, but got 0",
        ),
        (
            {"schedule": "linear", "initial": 1, "rounds": 2.5},
            r"learning_rate\.rounds must be a whole number of at least 1, but got 2.5",
        ),
        (
            {"schedule": "linear", "initial": 1, "rounds": 3, "warmup_rounds": 3},
            r"learning_rate\.rounds must be above warmup_rounds, but got 3",
        ),
        (
            {"schedule": "constant", "value": 1, "warmup_rounds": -1},
            r"learning_rate\.warmup_rounds must be a whole number of at least 0, but got -1",
        ),
        ({"schedule": "piecewise", "values": []}, r"learning_rate\.values must be a list of \[from round, value\]"),
        ({"schedule": "piecewise", "values": [[0]]}, r"learning_rate\.values\[0\] must be \[from round, value\]"),
        ({"schedule": "piecewise", "values": [[1, 1]]}, r"learning_rate\.values\[0\] must begin at round 0, but got 1"),
        (
            {"schedule": "piecewise", "values": [[0, 1], [5, 2], [5, 3]]},
            r"learning_rate\.values\[2\] must begin after round 5, but got 5",
        ),
    ],
)
def test_bad_config_names_the_key(config: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        from_config(config, key="learning_rate")


def test_growth_beyond_all_numbers_is_an_error_and_not_infinity() -> None:
    schedule = from_config({"schedule": "exponential", "initial": 1, "factor": 10}, key="mu")
    with pytest.raises(ValueError, match="mu grows beyond all numbers by round 400"):
        value_at(schedule, 400)
