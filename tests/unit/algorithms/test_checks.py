"""What is refused, and that the refusal names the tensor and the first bad value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.algorithms.checks import HEADROOM, Reference, check_finite, check_values, check_weight
from hansa.errors import RuleError

MODEL = {
    "fc1.weight": np.zeros((4, 8), np.float32),
    "b": np.zeros(4, np.float32),
    "n": np.array(0),
    "mask": np.zeros(2, bool),
}


def model() -> Reference:
    reference = Reference()
    reference.learn(MODEL, owner="the model")
    return reference


def spoilt(value: float, dtype: type = np.float32) -> np.ndarray[Any, Any]:
    array = np.ones((4, 8), dtype)
    array[3, 7] = value
    return array


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"fc1.weight": spoilt(np.nan)}, "tensor 'fc1.weight' has NaN at [3, 7]"),
        ({"fc1.weight": spoilt(np.inf, np.float64)}, "tensor 'fc1.weight' has Inf at [3, 7]"),
        ({"fc1.weight": spoilt(-np.inf, np.float16)}, "tensor 'fc1.weight' has Inf at [3, 7]"),
        ({"z": np.array([1j, complex(0, np.nan)])}, "tensor 'z' has NaN at [1]"),
        ({"s": math.nan}, "tensor 's' has NaN"),
        ({"s": np.array(math.inf)}, "tensor 's' has Inf"),
        ({"fc1.weight": spoilt(3e38)}, "tensor 'fc1.weight' has 3e+38 at [3, 7], too large to be summed with weight 5"),
        ({"b": np.zeros(3)}, "tensor 'b' has shape (3,), the model has (4,)"),
        ({"b": np.zeros((4, 1))}, "tensor 'b' has shape (4, 1), the model has (4,)"),
        ({"b": np.zeros(4, np.complex64)}, "tensor 'b' is of type complex64, the model has float32"),
        ({"b": np.zeros(4, bool)}, "tensor 'b' is of type bool, the model has float32"),
        ({"mask": np.zeros(2)}, "tensor 'mask' is of type float64, the model has bool"),
        ({"n": np.array(1.5)}, "tensor 'n' has 1.5, the model has int64"),
        ({"n": np.array(1e30)}, "tensor 'n' has 1e+30, the model has int64"),
        ({"b": np.array(list("abcd"))}, "tensor 'b' holds no numbers but <U1"),
    ],
)
def test_reasons(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(RuleError) as caught:
        check_values({"fine": np.ones(3), **values}, model(), weight=5)
    assert caught.value.reason == reason


def test_the_first_bad_value_in_any_memory_order() -> None:
    array = np.asfortranarray(np.ones((3, 4)))
    array[1, 2] = array[2, 0] = np.nan
    for view in (array, np.ascontiguousarray(array), np.repeat(array, 2, axis=1)[:, ::2]):
        with pytest.raises(RuleError, match=r"NaN at \[1, 2\]"):
            check_finite("w", view)
    with pytest.raises(RuleError, match=r"NaN at \[5\]"):
        check_finite("w", np.where(np.arange(20) == 10, np.nan, 1j)[::2])


def test_a_bad_value_beyond_the_first_piece() -> None:
    array = np.ones(3_000_000, np.float32)
    array[2_999_999] = np.inf
    with pytest.raises(RuleError, match=r"Inf at \[2999999\]"):
        check_finite("w", array)


def test_classes_of_numbers() -> None:
    checked = check_values({"b": np.arange(4), "n": 3.0, "mask": np.ones(2, bool), "new": np.array([1, 2])}, model())
    assert checked["b"].array.dtype == np.float32  # integers may stand for floats
    assert checked["n"].array.dtype == np.int64  # whole floats for integers: learners subtract counters in float32
    assert checked["new"].array.dtype == np.int64  # nothing is known about this one
    widths = check_values({"b": np.zeros(4, np.float64), "n": np.array(3, np.uint8)}, model())
    assert widths["b"].array.dtype == np.float64  # widths are the sum's affair
    assert widths["n"].array.dtype == np.uint8


def test_arrays_are_not_copied() -> None:
    array = np.ones(4, np.float32)
    assert check_values({"b": array}, model())["b"].array is array


def test_names() -> None:
    some = {"b": np.zeros(4)}
    assert list(check_values({**some, "new": 1.0}, model())) == ["b", "new"]
    assert list(check_values(some, model(), names="subset")) == ["b"]
    with pytest.raises(RuleError, match="tensor 'new' is not expected"):
        check_values({**some, "new": 1.0}, model(), names="subset")
    with pytest.raises(RuleError, match=r"tensor 'fc1.weight' is missing, the model has it"):
        check_values(some, model(), names="exact")
    assert list(check_values(MODEL, model(), names="exact")) == list(MODEL)


def test_a_reference_learns_new_names_only() -> None:
    reference = model()
    reference.learn({"b": np.zeros(9), "new": np.zeros(2), "odd": b"encrypted"}, owner="an earlier contribution")
    assert reference.specs["b"].shape == (4,)
    assert "odd" not in reference.specs
    with pytest.raises(RuleError, match=r"'new' has shape \(3,\), an earlier contribution has \(2,\)"):
        check_values({"new": np.zeros(3)}, reference)


@pytest.mark.parametrize("weight", [1, 0.5, np.float32(2), np.int64(3), np.array([4.0]).reshape(()), True, 1e9])
def test_weights_that_count(weight: object) -> None:
    assert check_weight(weight) == float(weight)  # type: ignore[arg-type]  # whatever has __float__


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (0, "is 0, which is not above 0"),
        (-3.0, "is -3, which is not above 0"),
        (math.nan, "is nan, which is not above 0"),
        (math.inf, "is inf, which is above the cap of 1e+09"),
        (1e12, r"is 1e\+12, which is above the cap of 1e\+09"),
        (10**400, "is inf, which is above"),
        ("10", "is '10', not a number"),
        (None, "is None, not a number"),
        (np.array([1.0, 2.0]), "not a number"),
    ],
)
def test_weights_that_do_not(weight: object, words: str) -> None:
    with pytest.raises(RuleError, match=words.replace("1e+09", r"1e\+09")):
        check_weight(weight)


def test_the_cap_is_the_jobs() -> None:
    assert check_weight(5, max_weight=5) == 5
    with pytest.raises(RuleError, match="steps is 6, which is above the cap of 5"):
        check_weight(6, max_weight=5, name="steps")


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=40),
    st.floats(1e-3, 1e9),
    st.sampled_from([np.float32, np.float64]),
)
def test_law_the_fast_look_and_the_close_one_agree(numbers: list[float], weight: float, dtype: type) -> None:
    array = np.array(numbers, dtype)
    limit = float(np.finfo(dtype).max) / HEADROOM / max(weight, 1.0)
    fits = all(abs(number) <= limit for number in numbers)  # False for NaN and infinities
    try:
        check_finite("w", array, weight=weight)
    except RuleError:
        assert not fits
    else:
        assert fits
