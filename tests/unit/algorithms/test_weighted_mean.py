"""The weighted mean: worked by hand, against a float64 reference, bit by bit whatever the order, type by type."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.algorithms.arrays import as_value
from hansa.algorithms.fold import Fold
from hansa.algorithms.weighted_mean import PIECE, Term, WeightedMean, weighted_mean
from hansa.errors import RuleError

Contributions = dict[str, tuple[dict[str, Any], float]]


def folded(contributions: Contributions, arrivals: list[str], targets: list[str]) -> dict[str, Any]:
    rule = WeightedMean()
    fold: Fold[Term] = Fold(targets, rule.combine)
    for site in arrivals:
        term = rule.term(*contributions[site])
        fold.add(site, term)
        rule.own(term)
    return rule.mean(fold.finish())


def digest(means: dict[str, Any]) -> str:
    state = hashlib.sha256()
    for name, value in means.items():
        array = np.asarray(value)
        state.update(f"{name} {array.dtype} {array.shape} {type(value)}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def test_three_sites_by_hand() -> None:
    # FedAvg with 10, 30 and 60 samples, so shares 0.1, 0.3, 0.6:
    #   w[0] = 0.1 * 1 + 0.3 * 2 + 0.6 * 4 = 0.1 + 0.6 + 2.4 = 3.1
    #   w[1] = 0.1 * 0 + 0.3 * (-10) + 0.6 * 5 = 0 - 3 + 3   = 0
    #   b    = 0.1 * 7 + 0.3 * 7 + 0.6 * 7                   = 7
    means = weighted_mean(
        {
            "site-1": ({"w": np.array([1.0, 0.0]), "b": 7.0}, 10),
            "site-2": ({"w": np.array([2.0, -10.0]), "b": 7.0}, 30),
            "site-3": ({"w": np.array([4.0, 5.0]), "b": 7.0}, 60),
        }
    )
    np.testing.assert_allclose(means["w"], [3.1, 0.0], rtol=1e-15)
    assert means["b"] == 7.0


def test_each_variable_over_the_sites_that_have_it() -> None:
    # x: (2*1 + 6*3) / (1 + 3) = 5; y only from a: 10; z only from b: 20; names in the order of the fold.
    means = weighted_mean(
        {
            "a": ({"x": np.array([2.0]), "y": np.array([10.0])}, 1),
            "b": ({"z": np.array([20.0]), "x": np.array([6.0])}, 3),
        }
    )
    assert {name: value.tolist() for name, value in means.items()} == {"x": [5.0], "y": [10.0], "z": [20.0]}
    assert list(means) == ["x", "y", "z"]


def test_mixed_widths_promote() -> None:
    # (1.5 * 1 + 2.5 * 3) / 4 = 2.25, in the wider of float32 and float64.
    a, b = np.array([1.5], np.float32), np.array([2.5], np.float64)
    for first, second in (((a, 1), (b, 3)), ((b, 3), (a, 1))):
        mean = weighted_mean({"p": ({"x": first[0]}, first[1]), "q": ({"x": second[0]}, second[1])})["x"]
        assert mean.dtype == np.float64
        assert mean.tolist() == [2.25]


def test_float16_is_summed_in_float32() -> None:
    # 2048 + 1 is no float16 (spacing 2 there); the sum of 1024 ones and a 2048 would stick, the mean must not.
    ones = {f"s{i:04}": ({"x": np.ones(1, np.float16)}, 1) for i in range(4096)}
    mean = weighted_mean(ones)["x"]
    assert mean.dtype == np.float16
    assert mean.tolist() == [1.0]
    assert weighted_mean({"a": ({"x": np.array([60000.0], np.float16)}, 1000.0)})["x"].tolist() == [60000.0]


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.int64, [1, 2], 2),  # 1.5 to even
        (np.int64, [2, 3], 2),  # 2.5 to even
        (np.int32, [-1, -2], -2),  # -1.5 to even
        (np.uint8, [255, 255], 255),
        (np.uint8, [0, 255], 128),  # 127.5 to even
        (np.bool_, [True, False], False),  # 0.5 to even
        (np.bool_, [True, True], True),
        (np.int64, [2**63 - 1, 2**63 - 1], 2**63 - 1024),  # the float64 below; the next one up is no int64
    ],
)
def test_integers_half_to_even(dtype: type, values: list[int], expected: int) -> None:
    mean = weighted_mean({str(i): ({"n": np.array([value], dtype)}, 1) for i, value in enumerate(values)})["n"]
    assert mean.dtype == dtype
    assert mean.tolist() == [expected]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(1, 1000)), min_size=1, max_size=9))
def test_integer_means_are_exact(pairs: list[tuple[int, int]]) -> None:
    mean = weighted_mean({str(i): ({"n": np.array([v], np.int32)}, w) for i, (v, w) in enumerate(pairs)})["n"]
    exact = Fraction(sum(v * w for v, w in pairs), sum(w for _, w in pairs))
    # Sums stay below 2**45 and so are exact; only the division rounds, which can move a value onto a half.
    assert abs(int(mean[0]) - exact) <= Fraction(1, 2) + Fraction(1, 2**20)


def test_scalars_and_arrays_without_dimensions() -> None:
    numbers = weighted_mean({"a": ({"i": 1, "f": np.float32(1.0)}, 1), "b": ({"i": 2, "f": np.float32(2.0)}, 1)})
    assert isinstance(numbers["i"], np.float64)  # a Python number has no dtype
    assert numbers["i"] == 1.5
    assert isinstance(numbers["f"], np.float32)
    arrays = weighted_mean({"a": ({"x": np.array(1.0)}, 1), "b": ({"x": 2.0}, 1)})
    assert isinstance(arrays["x"], np.ndarray)
    assert arrays["x"].shape == ()
    assert weighted_mean({"a": ({"x": [1, 2]}, 1), "b": ({"x": [2, 4]}, 1)})["x"].tolist() == [1.5, 3.0]


def test_empty_things() -> None:
    assert weighted_mean({}) == {}
    assert weighted_mean({"a": ({}, 1), "b": ({}, 2)}) == {}
    assert weighted_mean({"a": ({"x": np.zeros((0, 3), np.float32)}, 1)})["x"].shape == (0, 3)


def test_complex_and_memory_orders() -> None:
    assert weighted_mean({"a": ({"z": np.array([1 + 2j])}, 1), "b": ({"z": np.array([3 + 0j])}, 1)})["z"][0] == 2 + 1j
    plain = np.arange(12.0).reshape(3, 4)
    for other in (np.asfortranarray(plain), np.repeat(plain, 2, axis=1)[:, ::2], plain.astype(">f8")):
        mean = weighted_mean({"a": ({"x": plain}, 1), "b": ({"x": other}, 1)})["x"]
        np.testing.assert_array_equal(mean, plain)


def test_no_array_that_comes_in_is_written_or_kept() -> None:
    rule = WeightedMean()
    given_arrays = [np.full(5, float(i)) for i in range(1, 5)]
    for array in given_arrays:
        array.flags.writeable = False
    fold: Fold[Term] = Fold("abcd", rule.combine)
    for site, array in zip("abcd", given_arrays, strict=True):
        term = rule.term({"x": array}, 2.0)
        fold.add(site, term)
        rule.own(term)
        array.flags.writeable = True
        array[:] = np.nan  # whoever handed it in goes on using it
    mean = rule.mean(fold.finish())["x"]
    assert mean.tolist() == [2.5] * 5
    assert not any(np.shares_memory(mean, array) for array in given_arrays)
    mean += 1  # ours to write


def test_results_survive_the_next_fold() -> None:
    rule = WeightedMean()

    def once(value: float) -> Any:
        fold: Fold[Term] = Fold("abcd", rule.combine)
        for site in "abcd":
            term = rule.term({"x": np.full(5, value)}, 1.0)
            fold.add(site, term)
            rule.own(term)
        return rule.mean(fold.finish())["x"]

    first = once(1.0)
    assert once(2.0).tolist() == [2.0] * 5
    assert first.tolist() == [1.0] * 5


def test_pieces_do_not_show() -> None:
    # Two sites: one product is stored, the other is added piece by piece; here three and a bit of them.
    random = np.random.default_rng(0)
    a, b = (random.normal(size=3 * PIECE + 7).astype(np.float32) for _ in range(2))
    mean = weighted_mean({"a": ({"x": a}, 0.3), "b": ({"x": b}, 0.7)})["x"]
    whole = (a * np.float32(0.3) + b * np.float32(0.7)) / np.float32(1.0)
    assert mean.tobytes() == whole.tobytes()


def test_a_true_division_ends_it() -> None:
    # 49 * (1 / 49) is the double below 1.
    assert weighted_mean({"a": ({"x": np.ones(1)}, 49)})["x"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("text", "'x' is a str, not an array of numbers"),
        (None, "'x' is a NoneType"),
        ({"y": 1}, "'x' is a dict"),
        (["1.5"], "'x' is a list"),
        ([[1], [1, 2]], "'x' is a list"),
        (np.array(["a"]), "'x' holds no numbers but <U1"),
        (np.array([None]), "'x' holds no numbers but object"),
    ],
)
def test_what_is_no_number(value: object, words: str) -> None:
    with pytest.raises(RuleError) as caught:
        weighted_mean({"a": ({"x": value}, 1)})
    assert words in str(caught.value)


def test_shapes_must_agree() -> None:
    with pytest.raises(RuleError, match=r"tensor 'x' has shape \(3,\), elsewhere \(2,\)"):
        weighted_mean({"a": ({"x": np.zeros(2)}, 1), "b": ({"x": np.zeros(3)}, 1)})


def test_hundred_clients_in_float64() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(100, 500)) * 10.0 ** random.integers(-3, 4, size=(100, 1))
    weights = random.integers(1, 10_000, size=100)
    mean = weighted_mean({f"s{i}": ({"x": values[i]}, int(weights[i])) for i in range(100)})["x"]
    shares = [Fraction(int(w), int(weights.sum())) for w in weights]
    exact = np.array([float(sum(Fraction(v) * s for v, s in zip(column, shares, strict=True))) for column in values.T])
    np.testing.assert_allclose(mean, exact, rtol=1e-7)


def test_torch_tensors() -> None:
    import torch

    a = torch.tensor([1.0, 2.0], requires_grad=True)
    b = torch.tensor([3.0, 4.0], dtype=torch.bfloat16)
    means = weighted_mean({"a": ({"x": a}, 1), "b": ({"x": b}, 1)})
    assert means["x"].dtype == np.float32
    assert means["x"].tolist() == [2.0, 3.0]


def test_a_torch_tensor_in_bfloat16_is_taken_as_it_is() -> None:
    import ml_dtypes
    import torch

    tensor = torch.tensor([1.0, 2.5], dtype=torch.bfloat16)
    taken = as_value("x", tensor).array
    assert taken.dtype == ml_dtypes.bfloat16
    tensor[0] = 3.0
    assert taken.tolist() == [3.0, 2.5]  # the tensor's own memory


DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_])


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Contributions, list[str], list[str]]:
    """Contributions, an order of arrival, and targets (some absent, some sites not among them)."""
    num_sites = draw(st.integers(1, 9))
    names = draw(st.lists(st.sampled_from("pqrst"), min_size=1, max_size=4, unique=True))
    dtypes = {name: draw(DTYPES) for name in names}
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    contributions: Contributions = {}
    for site in [f"s{i}" for i in range(num_sites)]:
        left_out = draw(st.sets(st.sampled_from(names), max_size=1))
        values = {n: (random.normal(size=(3, 2)) * 100).astype(dtypes[n]) for n in names if n not in left_out}
        if values and draw(st.booleans()):  # a site that sends another width
            name = next(iter(values))
            values[name] = values[name].astype(np.float64 if dtypes[name] is np.float32 else dtypes[name])
        contributions[site] = (values, draw(st.floats(1e-3, 1e6)))
    arrivals = draw(st.permutations(sorted(contributions)))
    targets = draw(st.lists(st.sampled_from([f"s{i}" for i in range(12)]), unique=True))
    return contributions, arrivals, targets


@settings(max_examples=1000, deadline=None)
@given(rounds())
def test_law_the_order_of_arrival_leaves_no_trace(drawn: tuple[Contributions, list[str], list[str]]) -> None:
    contributions, arrivals, targets = drawn
    assert digest(folded(contributions, arrivals, targets)) == digest(
        folded(contributions, sorted(contributions), targets)
    )


@settings(max_examples=1000, deadline=None)
@given(rounds(), st.floats(1e-3, 1e3))
def test_law_only_the_proportions_of_weights_matter(
    drawn: tuple[Contributions, list[str], list[str]], scale: float
) -> None:
    contributions, arrivals, targets = drawn
    scaled = {site: (values, weight * scale) for site, (values, weight) in contributions.items()}
    plain, other = folded(contributions, arrivals, targets), folded(scaled, arrivals, targets)
    assert plain.keys() == other.keys()
    for name, mean in plain.items():
        # A mean near a half may round either way, and a float16 may end one step further.
        step = {"f": 1e-5, "i": 0, "b": 0}[mean.dtype.kind] if mean.dtype != np.float16 else 2e-3
        if mean.dtype.kind == "f":
            np.testing.assert_allclose(mean, other[name], rtol=step, atol=step * 100)
        else:
            assert np.max(np.abs(mean.astype(int) - other[name].astype(int))) <= 1


@settings(max_examples=1000, deadline=None)
@given(rounds())
def test_law_it_is_the_mean(drawn: tuple[Contributions, list[str], list[str]]) -> None:
    contributions, arrivals, targets = drawn
    means = folded(contributions, arrivals, targets)
    assert set(means) == {name for values, _ in contributions.values() for name in values}
    for name, mean in means.items():
        terms = [(values[name], weight) for values, weight in contributions.values() if name in values]
        reference = sum(np.asarray(v, np.float64) * w for v, w in terms) / sum(w for _, w in terms)
        largest = max(float(np.max(np.abs(np.asarray(v, np.float64)))) for v, _ in terms)
        coarsest = max(ROUNDING[v.dtype.name] for v, _ in terms)
        tolerance = coarsest * largest + (0.5 + 1e-9 if mean.dtype.kind in "ib" else 0.0)
        assert np.max(np.abs(np.asarray(mean, np.float64) - reference)) <= tolerance


# At most 9 terms: 9 products, 8 additions, a weight and a divisor rounded, a division: 20 half units of the last place
# of the sum's type; float16 rounds once more, to 11 bits, in the end.
ROUNDING = {"float64": 20 * 2.0**-53, "float32": 20 * 2.0**-24, "float16": 2.0**-11 + 20 * 2.0**-24}
ROUNDING |= {"int64": ROUNDING["float64"], "bool": ROUNDING["float64"]}
