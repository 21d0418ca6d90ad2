"""What is gathered gives the bits of what is not, is checked alike, and leaves what came in alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.algorithms.checks import Reference, check_values
from hansa.algorithms.fold import Fold
from hansa.algorithms.layout import Memory
from hansa.algorithms.reading import FEW, GATHERED_BYTES, Reader
from hansa.algorithms.weighted_mean import Term, WeightedMean
from hansa.errors import RuleError

DTYPES = [np.float32, np.float16, np.float64, np.int64, np.uint8, np.bool_, np.complex64, np.dtype(">f4")]


def variables(seed: int, dtypes: list[Any] = DTYPES) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        return {f"v{i}": (random.normal(size=(3, 1 + i % 3)) * 60).astype(dtype) for i, dtype in enumerate(dtypes)}


def reference_of(values: dict[str, Any]) -> Reference:
    reference = Reference()
    reference.learn(values, owner="the model")
    return reference


def mean_of(contributions: list[tuple[dict[str, Any], float]], *, gathered: bool) -> dict[str, Any]:
    rule, reference = WeightedMean(), reference_of(contributions[0][0])
    names = [f"s{i}" for i in range(len(contributions))]
    fold: Fold[Term] = Fold(names, rule.combine)
    for name, (values, weight) in zip(names, contributions, strict=True):
        if gathered:
            term = rule.weighted(rule.read(values, reference, weight=weight), weight)
        else:
            term = rule.term(check_values(values, reference, weight=weight), weight)
        fold.add(name, term)
        rule.own(term)
    return rule.mean(fold.finish())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from([1.0, 0.3, 7.0, 1e5])), min_size=1, max_size=9),
    st.permutations(DTYPES),
)
def test_law_gathering_leaves_no_trace(drawn: list[tuple[int, float]], dtypes: list[Any]) -> None:
    contributions = [(variables(seed, dtypes), weight) for seed, weight in drawn]
    before = [{name: value.copy() for name, value in values.items()} for values, _ in contributions]
    one, other = mean_of(contributions, gathered=True), mean_of(contributions, gathered=False)
    assert list(one) == list(other)
    for name, mean in one.items():
        assert (mean.dtype, mean.shape) == (other[name].dtype, other[name].shape)
        assert mean.tobytes() == other[name].tobytes()
    for (values, _), kept in zip(contributions, before, strict=True):
        assert all(values[name].tobytes() == kept[name].tobytes() for name in values)


def test_what_is_gathered() -> None:
    many = {f"v{i}": np.ones(3, np.float32) for i in range(FEW + 1)}
    reader, reference = Reader(Memory()), reference_of(many)
    assert reader.read(many, reference, weight=1.0).regions is None  # the first is looked at closely
    regions = reader.read(many, reference, weight=1.0).regions
    assert regions is not None
    assert [region.tolist() for region in regions] == [[1.0] * 3 * (FEW + 1)]
    # Another form, another reference, few tensors, large ones: as they are.
    assert reader.read({**many, "v0": np.ones(3)}, reference, weight=1.0).regions is None
    assert reader.read(many, reference_of(many), weight=1.0).regions is None
    for values in (
        {f"v{i}": np.ones(3, np.float32) for i in range(FEW)},
        {f"v{i}": np.ones(GATHERED_BYTES // 16, np.float32) for i in range(FEW + 1)},
    ):
        expected = reference_of(values)
        for _ in range(2):
            assert reader.read(values, expected, weight=1.0).regions is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.complex64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_bad_value_is_named(dtype: type, bad: float) -> None:
    many = {f"v{i}": np.ones((2, 3), dtype) for i in range(9)}
    spoilt = {name: value.copy() for name, value in many.items()}
    spoilt["v4"][1, 2] = spoilt["v7"][0, 0] = bad
    reader, reference = Reader(Memory()), reference_of(many)
    reader.read(many, reference, weight=1.0)
    with pytest.raises(RuleError, match=r"tensor 'v4' has (NaN|Inf) at \[1, 2\]"):
        reader.read(spoilt, reference, weight=1.0)
    again = reader.read(many, reference, weight=1.0).regions
    assert again is not None
    assert all((region == 1).all() for region in again)


def test_large_values_that_are_small_enough_pass_the_closer_look() -> None:
    # 1e25 squared is no float32, but far below the largest float32 / 2**20.
    many = {f"v{i}": np.full(2, 1e25, np.float32) for i in range(9)}
    reader, reference = Reader(Memory()), reference_of(many)
    for _ in range(2):
        reader.read(many, reference, weight=1.0)
    with pytest.raises(RuleError, match=r"'v0' has 1e\+25 at \[0\], too large to be summed with weight 1e\+09"):
        reader.read(many, reference, weight=1e9)


def test_the_same_names_with_another_shape_or_kind_are_seen() -> None:
    many = {f"v{i}": np.ones(4, np.float32) for i in range(9)}
    reader, reference = Reader(Memory()), reference_of(many)
    reader.read(many, reference, weight=1.0)
    with pytest.raises(RuleError, match=r"tensor 'v3' has shape \(2, 2\)"):
        reader.read({**many, "v3": np.ones((2, 2), np.float32)}, reference, weight=1.0)
    with pytest.raises(RuleError, match="tensor 'v3' is of type bool"):
        reader.read({**many, "v3": np.ones(4, bool)}, reference, weight=1.0)
    masked = reader.read({**many, "v3": np.ma.masked_array(np.ones(4, np.float32))}, reference, weight=1.0)
    assert type(masked.arrays[3]) is np.ndarray


def test_tensors_are_looked_at_one_by_one_only_once() -> None:
    many = {f"v{i}": np.ones(4, np.float32) for i in range(200)}
    reader, reference = Reader(Memory()), reference_of(many)
    for _ in range(10):
        reader.read(many, reference, weight=1.0)
    assert reader.num_close_looks == 1
