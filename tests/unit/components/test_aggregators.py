"""Both mean aggregators: the numbers by hand, each refusal, collections, and bits that do not know the order."""

from __future__ import annotations

import hashlib
import itertools
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.fl_constant import ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.shareable import Shareable, make_reply
from hansa.components.aggregators import AccumulateWeightedAggregator, InTimeAccumulateWeightedAggregator
from hansa.components.aggregators.mean_aggregator import MeanAggregator

BOTH = [InTimeAccumulateWeightedAggregator, AccumulateWeightedAggregator]


class Engine:
    """As little of an engine as there can be; keeps what was fired."""

    def __init__(self) -> None:
        self.fired: list[str] = []

    def new_context(self) -> FLContext:
        return context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.fired.append(event_type)


def context(round_number: int | None = 0, model: dict[str, Any] | None = None, targets: Any = None) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.set_prop(ReservedKey.ENGINE, Engine())
    fl_ctx.set_prop(AppConstants.CURRENT_ROUND, round_number)
    if model is not None:
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(model, {}))
    if targets is not None:
        fl_ctx.set_prop(RoundKey.TARGETS, targets)
    return fl_ctx


def result(
    site: str | None,
    data: dict[str, Any],
    steps: Any = None,
    *,
    kind: str = DataKind.WEIGHT_DIFF,
    round_number: int | None = 0,
    **meta: Any,
) -> Shareable:
    if steps is not None:
        meta[MetaKey.NUM_STEPS_CURRENT_ROUND] = steps
    shareable = DXO(kind, data, meta).to_shareable()
    shareable.set_header(AppConstants.CONTRIBUTION_ROUND, round_number)
    if site is not None:
        shareable.set_peer_props({ReservedKey.IDENTITY_NAME: site})
    return shareable


def means(aggregator: MeanAggregator, fl_ctx: FLContext) -> dict[str, Any]:
    return from_shareable(aggregator.aggregate(fl_ctx)).data


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_fedavg_of_three_sites_by_hand() -> None:
    # Steps 10, 30, 60 of 100, so shares 0.1, 0.3, 0.6:
    #   w[0] = 0.1 * 1 + 0.3 * 2 + 0.6 * 4 = 3.1,   w[1] = 0.1 * 0 + 0.3 * (-10) + 0.6 * 5 = 0
    for cls in BOTH:
        aggregator, fl_ctx = cls(), context()
        assert aggregator.accept(result("site-1", {"w": np.array([1.0, 0.0])}, 10), fl_ctx)
        assert aggregator.accept(result("site-2", {"w": np.array([2.0, -10.0])}, 30), fl_ctx)
        assert aggregator.accept(result("site-3", {"w": np.array([4.0, 5.0])}, 60), fl_ctx)
        dxo = from_shareable(aggregator.aggregate(fl_ctx))
        assert dxo.data_kind == DataKind.WEIGHT_DIFF
        np.testing.assert_allclose(dxo.data["w"], [3.1, 0.0], rtol=1e-15)


def test_client_weights_by_hand() -> None:
    # Values 2 and 4, one step each, client weights 0.5: in time (2*0.5 + 4*0.5) / (0.5 + 0.5) = 3.
    # Under the other name FLARE divides by the steps alone: (2*0.5 + 4*0.5) / (1 + 1) = 1.5.
    # With weights 1 and 3 and steps 10 and 20: (2*10 + 4*60) / 70 = 26/7, or / 30 = 26/3.
    for cls, half, uneven in ((BOTH[0], 3.0, 26 / 7), (BOTH[1], 1.5, 26 / 3)):
        aggregator, fl_ctx = cls(aggregation_weights={"a": 0.5, "b": 0.5}), context()
        assert aggregator.accept(result("a", {"x": 2.0}, 1), fl_ctx)
        assert aggregator.accept(result("b", {"x": 4.0}, 1), fl_ctx)
        assert means(aggregator, fl_ctx)["x"] == half
        aggregator = cls(aggregation_weights={"a": 1, "b": 3})
        assert aggregator.accept(result("a", {"x": 2.0}, 10), fl_ctx)
        assert aggregator.accept(result("b", {"x": 4.0}, 20), fl_ctx)
        assert means(aggregator, fl_ctx)["x"] == pytest.approx(uneven, rel=1e-15)


def test_the_divisor_of_the_accumulating_one_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    aggregator, fl_ctx = AccumulateWeightedAggregator(aggregation_weights={"a": 0.5, "b": 0.5, "c": 1.0}), context()
    for site in "abc":
        assert aggregator.accept(result(site, {"x": 1.0}, 1), fl_ctx)
    said = warnings_in(caplog)
    assert len(said) == 1
    assert "client weight 0.5 of a" in said[0]


@pytest.mark.parametrize("cls", BOTH)
def test_missing_steps_and_weights_count_one(cls: type[MeanAggregator], caplog: pytest.LogCaptureFixture) -> None:
    # Client weight of b 1.0 as it is not listed, steps of both 1.0: (2 + 4) / 2.
    aggregator, fl_ctx = cls(aggregation_weights={"a": 1.0}), context()
    assert aggregator.accept(result("a", {"x": 2.0}), fl_ctx)
    assert aggregator.accept(result("b", {"x": 4.0}), fl_ctx)
    assert aggregator.accept(result("c", {"x": 3.0}), fl_ctx)
    assert means(aggregator, fl_ctx)["x"] == 3.0
    assert sum("NUM_STEPS_CURRENT_ROUND" in line for line in warnings_in(caplog)) == 1
    assert sum("aggregation_weights" in line for line in warnings_in(caplog)) == 1


@pytest.mark.parametrize("cls", BOTH)
def test_nothing_accepted_and_state_reset(cls: type[MeanAggregator]) -> None:
    aggregator, fl_ctx = cls(expected_data_kind=DataKind.WEIGHTS), context()
    empty = from_shareable(aggregator.aggregate(fl_ctx))
    assert (empty.data_kind, empty.data) == (DataKind.WEIGHTS, {})
    for value in (1.0, 5.0):  # the same site in two rounds, another shape in the second
        assert aggregator.accept(result("a", {"x": np.full(int(value), value)}, 1, kind=DataKind.WEIGHTS), fl_ctx)
        assert means(aggregator, fl_ctx)["x"].tolist() == [value] * int(value)
    assert means(aggregator, fl_ctx) == {}


def test_names_may_be_missing_or_extra_and_excluded_ones_go() -> None:
    aggregator = InTimeAccumulateWeightedAggregator(exclude_vars="bias")
    fl_ctx = context(model={"w": np.zeros(1, np.float32), "fc.bias": np.zeros(1)})
    assert aggregator.accept(result("a", {"w": np.ones(1, np.float32), "fc.bias": np.array([np.nan])}, 1), fl_ctx)
    # hello-tf2's filter sends float64 zeros for a float32 layer
    assert aggregator.accept(result("b", {"w": np.zeros(1, np.float64), "new": np.full(1, 7.0)}, 1), fl_ctx)
    data = means(aggregator, fl_ctx)
    assert {name: value.tolist() for name, value in data.items()} == {"w": [0.5], "new": [7.0]}


W, B = np.ones(2, np.float32), np.ones(1)
NAMES: list[tuple[str, dict[str, Any], str | None]] = [
    ("any", {}, None),
    ("any", {"w": W, "new": B}, None),
    ("subset", {"w": W}, None),
    ("subset", {"w": W, "new": B}, "tensor 'new' is not expected"),
    ("subset", {}, "it has no tensor that is expected"),
    ("exact", {"b": B, "w": W, "fc.bias": B}, None),  # what is excluded does not matter, nor does the order
    ("exact", {"w": W}, "tensor 'b' is missing, the model has it"),
    ("exact", {"w": W, "b": B, "new": B}, "tensor 'new' is not expected"),
    ("exact", {}, "tensor 'w' is missing, the model has it"),
]


@pytest.mark.parametrize(("names", "data", "reason"), NAMES)
def test_names_as_a_job_wants_them(names: Any, data: dict[str, Any], reason: str | None) -> None:
    model = {"w": W, "b": B, "fc.bias": B}
    for cls in BOTH:
        aggregator, fl_ctx = cls(exclude_vars="bias", names=names), context(model=model)
        assert aggregator.accept(result("a", {"w": W, "b": B}, 1), fl_ctx)  # from here on there is a fast path
        assert aggregator.accept(result("b", data, 1), fl_ctx) == (reason is None)
        assert fl_ctx.get_prop(RoundKey.REFUSAL) == reason
        aggregator.aggregate(fl_ctx)
        assert aggregator.accept(result("b", data, 1), fl_ctx) == (reason is None)  # nothing came before it


def test_without_a_model_names_are_free() -> None:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(names="exact"), context()
    assert aggregator.accept(result("a", {"w": W}, 1), fl_ctx)
    assert aggregator.accept(result("b", {"b": B}, 1), fl_ctx)
    aggregator.aggregate(fl_ctx)
    fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable({"w": W}, {}))
    assert not aggregator.accept(result("b", {"b": B}, 1), fl_ctx)  # the next round has one


MODEL = {"fc1.weight": np.zeros((4, 8), np.float32), "n": np.array(3)}
GOOD = {"fc1.weight": np.ones((4, 8), np.float32)}


def spoilt() -> dict[str, Any]:
    data = {"fc1.weight": np.ones((4, 8), np.float32)}
    data["fc1.weight"][3, 7] = np.nan
    return data


def with_code(code: str) -> Shareable:
    shareable = result("bad", GOOD, 1)
    shareable.set_return_code(code)
    return shareable


def ill_formed() -> Shareable:
    shareable = result("bad", GOOD, 1)
    shareable["DXO"] = "text"
    return shareable


REFUSALS = [
    (make_reply(ReturnCode.EXECUTION_EXCEPTION), "its return code is EXECUTION_EXCEPTION"),
    (with_code(ReturnCode.TASK_ABORTED), "its return code is TASK_ABORTED"),
    (Shareable(), "the Shareable holds no DXO"),
    (ill_formed(), "the Shareable holds no DXO"),
    ("text", "expected a Shareable, but got str"),
    (result("bad", GOOD, 1, kind=DataKind.WEIGHTS), "expected data of kind WEIGHT_DIFF, but got WEIGHTS"),
    (result("bad", GOOD, 1, PROCESSED_ALGORITHM="CKKS"), "the data is encoded with CKKS"),
    (result("bad", GOOD, 1, round_number=3), "it is for round 3, this is round 4"),
    (result("bad", GOOD, 1, round_number=None), "it is for round None, this is round 4"),
    (result("good", GOOD, 1, round_number=4), "a second contribution to round 4"),
    (result("bad", spoilt(), 1), "tensor 'fc1.weight' has NaN at [3, 7]"),
    (result("bad", {"fc1.weight": np.ones((8, 4))}, 1), "tensor 'fc1.weight' has shape (8, 4), the model has (4, 8)"),
    (result("bad", {"n": np.array(2.5)}, 1), "tensor 'n' has 2.5, the model has int64"),
    (result("bad", {"n": "text"}, 1), "'n' is a str"),
    (result("bad", {"extra": np.ones(3)}, 1), "'extra' has shape (3,), an earlier contribution has (2,)"),
    (result("bad", GOOD, 0), "NUM_STEPS_CURRENT_ROUND is 0, which is not above 0"),
    (result("bad", GOOD, -5), "NUM_STEPS_CURRENT_ROUND is -5, which is not above 0"),
    (result("bad", GOOD, float("nan")), "NUM_STEPS_CURRENT_ROUND is nan"),
    (result("bad", GOOD, 1e12), "NUM_STEPS_CURRENT_ROUND is 1e+12, which is above the cap of 1e+09"),
    (result("bad", GOOD, "10"), "NUM_STEPS_CURRENT_ROUND is '10', not a number"),
]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(("bad", "reason"), REFUSALS, ids=[reason for _, reason in REFUSALS])
def test_refusals(cls: type[MeanAggregator], bad: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    if isinstance(bad, Shareable) and bad.get_header(AppConstants.CONTRIBUTION_ROUND) == 0:
        bad.set_header(AppConstants.CONTRIBUTION_ROUND, 4)
    aggregator, fl_ctx = cls(), context(4, MODEL)
    good = result("good", {**GOOD, "extra": np.ones(2)}, 2, round_number=4)
    assert aggregator.accept(good, fl_ctx) is True
    caplog.clear()
    assert aggregator.accept(bad, fl_ctx) is False
    detail = fl_ctx.get_prop_detail(RoundKey.REFUSAL)
    assert detail is not None
    assert reason in detail["value"]
    assert "\n" not in detail["value"]
    assert (detail["private"], detail["sticky"]) == (True, False)
    assert len(warnings_in(caplog)) == 1
    assert reason in warnings_in(caplog)[0]
    # What was refused has left no trace: the mean is that of the good one alone.
    assert means(aggregator, fl_ctx)["fc1.weight"].tolist() == GOOD["fc1.weight"].tolist()


def test_a_refused_site_may_try_again() -> None:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), context(0, MODEL)
    assert not aggregator.accept(result("a", spoilt(), 1), fl_ctx)
    assert aggregator.accept(result("a", GOOD, 1), fl_ctx)


def test_bare_context_and_unknown_sender() -> None:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), FLContext()
    assert aggregator.accept(result(None, {"x": 1.0}, 1, round_number=None), fl_ctx)
    assert not aggregator.accept(result(None, {"x": 3.0}, 1, round_number=None), fl_ctx)  # "?" a second time
    assert aggregator.accept(result("a", {"x": 3.0}, 1, round_number=None), fl_ctx)
    assert means(aggregator, fl_ctx)["x"] == 2.0


def test_without_a_model_the_first_contribution_is_the_reference() -> None:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), context()
    assert aggregator.accept(result("a", {"x": np.zeros(3)}, 1), fl_ctx)
    assert not aggregator.accept(result("b", {"x": np.zeros(4)}, 1), fl_ctx)
    assert "an earlier contribution has (3,)" in fl_ctx.get_prop(RoundKey.REFUSAL)


def test_a_client_weight_of_zero() -> None:
    # It counts nothing in a mean; where FLARE divides by steps alone, it still counts below: (2*0 + 4*1) / 2.
    in_time, fl_ctx = InTimeAccumulateWeightedAggregator(aggregation_weights={"a": 0.0}), context()
    assert not in_time.accept(result("a", {"x": 2.0}, 1), fl_ctx)
    assert "steps times client weight is 0" in fl_ctx.get_prop(RoundKey.REFUSAL)
    accumulate = AccumulateWeightedAggregator(aggregation_weights={"a": 0.0})
    assert accumulate.accept(result("a", {"x": 2.0}, 1), fl_ctx)
    assert accumulate.accept(result("b", {"x": 4.0}, 1), fl_ctx)
    assert means(accumulate, fl_ctx)["x"] == 2.0


def test_the_cap_of_a_job() -> None:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(max_weight=100), context()
    assert not aggregator.accept(result("a", {"x": 1.0}, 101), fl_ctx)
    assert aggregator.accept(result("a", {"x": 1.0}, 100), fl_ctx)


def test_a_huge_finite_value_cannot_make_the_sum_infinite() -> None:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), context()
    for site in "ab":
        assert not aggregator.accept(result(site, {"x": np.array([3e38], np.float32)}, 10), fl_ctx)
    assert "too large to be summed" in fl_ctx.get_prop(RoundKey.REFUSAL)


def test_arrays_of_results_stay_as_they_are() -> None:
    # Handlers look at them after accept, and user code may write into them then.
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), context(targets=list("abcd"))
    arrays = [np.full(3, float(i)) for i in range(1, 5)]
    for site, array in zip("abcd", arrays, strict=True):
        before = array.copy()
        assert aggregator.accept(result(site, {"x": array}, 2), fl_ctx)
        assert array.tolist() == before.tolist()
        array[:] = np.nan
    mean = means(aggregator, fl_ctx)["x"]
    assert mean.tolist() == [2.5] * 3
    mean += 1


# --- collections (SCAFFOLD) ---

SCAFFOLD = {"_model_weights_": DataKind.WEIGHT_DIFF, "scaffold_c_diff": DataKind.WEIGHT_DIFF}


def collection(site: str, weights: Any, controls: Any, steps: float = 1) -> Shareable:
    parts = {}
    for name, value in zip(SCAFFOLD, (weights, controls), strict=True):
        if value is not None:
            parts[name] = DXO(DataKind.WEIGHT_DIFF, {"x": value}, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps})
    return result(site, parts, kind=DataKind.COLLECTION)


def test_a_collection_by_hand() -> None:
    # Steps 1 and 3; client weights per DXO: weights 1 and 1, controls 3 and 1.
    #   weights: (1*1 + 5*3) / 4 = 4;   controls: (2*3 + 4*3) / (3 + 3) = 3
    aggregator = InTimeAccumulateWeightedAggregator(
        expected_data_kind=SCAFFOLD,
        aggregation_weights={"_model_weights_": {"a": 1, "b": 1}, "scaffold_c_diff": {"a": 3, "b": 1}},
        exclude_vars={"_model_weights_": "nothing", "scaffold_c_diff": None},
    )
    fl_ctx = context()
    assert aggregator.accept(collection("a", 1.0, 2.0, 1), fl_ctx)
    assert aggregator.accept(collection("b", 5.0, 4.0, 3), fl_ctx)
    dxo = from_shareable(aggregator.aggregate(fl_ctx))
    assert dxo.data_kind == DataKind.COLLECTION
    assert {name: part.data["x"] for name, part in dxo.data.items()} == {"_model_weights_": 4.0, "scaffold_c_diff": 3.0}
    assert all(part.data_kind == DataKind.WEIGHT_DIFF for part in dxo.data.values())


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (collection("b", 5.0, float("nan")), "in 'scaffold_c_diff': tensor 'x' has NaN"),
        (collection("b", float("inf"), 1.0), "in '_model_weights_': tensor 'x' has Inf"),
        (collection("b", 5.0, None), "the COLLECTION has no DXO 'scaffold_c_diff'"),
        (result("b", {"x": 1.0}), "expected data of kind COLLECTION"),
    ],
)
def test_a_collection_counts_whole_or_not_at_all(cls: type[MeanAggregator], bad: Shareable, reason: str) -> None:
    aggregator, fl_ctx = cls(expected_data_kind=SCAFFOLD), context()
    assert aggregator.accept(collection("a", 1.0, 2.0), fl_ctx)
    assert not aggregator.accept(bad, fl_ctx)
    assert reason in fl_ctx.get_prop(RoundKey.REFUSAL)
    assert aggregator.accept(collection("b", 3.0, 4.0), fl_ctx)  # nothing of b had been kept
    data = means(aggregator, fl_ctx)
    assert data["_model_weights_"].data["x"] == 2.0
    assert data["scaffold_c_diff"].data["x"] == 3.0


# --- construction ---


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    "arguments",
    [
        {"expected_data_kind": DataKind.METRICS},
        {"expected_data_kind": "text"},
        {"expected_data_kind": {}},
        {"expected_data_kind": {"a": DataKind.COLLECTION}},
        {"exclude_vars": 2.0},
        {"exclude_vars": {"a": "x"}},
        {"exclude_vars": {"b": "x"}, "expected_data_kind": {"a": DataKind.WEIGHTS}},
        {"aggregation_weights": {"b": {"site": 1}}, "expected_data_kind": {"a": DataKind.WEIGHTS}},
        {"aggregation_weights": {"site": -1}},
        {"aggregation_weights": {"site": float("inf")}},
        {"aggregation_weights": {"site": "heavy"}},
        {"max_weight": 0},
        {"max_weight": 1e13},
        {"names": "all"},
    ],
)
def test_wrong_arguments(cls: type[MeanAggregator], arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        cls(**arguments)


@pytest.mark.parametrize("cls", BOTH)
def test_the_rule_builds_the_same_again(cls: type[MeanAggregator]) -> None:
    rule = cls("bias", {"a": 2.0}, DataKind.WEIGHTS, max_weight=50, names="subset").rule()
    assert rule.path == f"{cls.__module__}.{cls.__name__}"
    again = cls(**rule.args)
    assert again.rule() == rule
    assert again.expected_data_kind == {"": DataKind.WEIGHTS}


# --- bits ---


def digest(data: dict[str, Any]) -> str:
    state = hashlib.sha256()
    for name, value in data.items():
        state.update(f"{name} {value.dtype} {value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    return state.hexdigest()


def aggregated(results: list[Shareable], targets: list[str] | None) -> str:
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), context(targets=targets)
    for each in results:
        assert aggregator.accept(each, fl_ctx)
    return digest(means(aggregator, fl_ctx))


def test_all_orders_of_five_sites() -> None:
    random = np.random.default_rng(0)
    results = [
        result(site, {"w": random.normal(size=50).astype(np.float32), "n": random.integers(0, 99, 3)}, 10**i)
        for i, site in enumerate("abcde")
    ]
    for targets in (list("abcde"), list("aXbcYd"), None):
        assert len({aggregated(list(order), targets) for order in itertools.permutations(results)}) == 1


@settings(max_examples=1000, deadline=None)
@given(data=st.data(), num_sites=st.integers(1, 12), seed=st.integers(0, 2**32 - 1), announced=st.booleans())
def test_law_the_order_of_arrival_leaves_no_trace(
    data: st.DataObject, num_sites: int, seed: int, announced: bool
) -> None:
    random = np.random.default_rng(seed)
    results = [
        result(f"site-{i}", {"w": random.normal(size=7).astype(np.float32)}, float(random.uniform(0.1, 1000)))
        for i in range(num_sites)
    ]
    targets = [f"site-{i}" for i in range(0, 14, 1 + seed % 2)] if announced else None
    assert aggregated(data.draw(st.permutations(results)), targets) == aggregated(results, targets)


def test_few_models_are_alive_when_results_come_in_order() -> None:
    sites = [f"site-{i:02}" for i in range(64)]
    aggregator, fl_ctx = InTimeAccumulateWeightedAggregator(), context(targets=sites)
    helper = aggregator.dxo_aggregators[""].aggregation_helper
    for i, site in enumerate(sites, start=1):
        assert aggregator.accept(result(site, {"w": np.ones(4)}, 1), fl_ctx)
        assert helper.num_held == i.bit_count()
    assert means(aggregator, fl_ctx)["w"].tolist() == [1.0] * 4
