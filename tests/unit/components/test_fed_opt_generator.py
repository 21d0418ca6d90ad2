"""FedOpt as a component: which tensors the optimizer moves, in which dtype, and what it remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, make_model_learnable
from hansa.apis.shareable import Shareable
from hansa.components.shareablegenerators.fed_opt import FedOptShareableGenerator
from hansa.wire.codec import from_bytes, to_bytes

KINDS = [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF]


class Engine:
    """Keeps the events that were fired and the reasons in them."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, Any]] = []

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.fired.append((event_type, fl_ctx.get_prop(FLContextKey.EVENT_DATA)))


def context(model: ModelLearnable | None, number: int = 0) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.set_prop(ReservedKey.ENGINE, Engine())
    fl_ctx.set_prop(AppConstants.CURRENT_ROUND, number)
    if model is not None:
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model)
    return fl_ctx


def rounds(
    generator: FedOptShareableGenerator, model: ModelLearnable, aggregates: list[dict[str, Any]], kind: str
) -> dict[str, Any]:
    """The weights after these aggregates, which are differences; WEIGHTS are made of them where `kind` says so."""
    for number, aggregate in enumerate(aggregates):
        data = aggregate
        if kind == DataKind.WEIGHTS:
            old = model["weights"]
            data = {name: np.add(old[name], value, dtype=np.float64) for name, value in aggregate.items()}
        message = DXO(kind, data, {"round": number}).to_shareable()
        assert generator.shareable_to_learnable(message, context(model, number)) is model
        assert model["meta"] == {"round": number}
    return {name: np.asarray(value).tolist() for name, value in model["weights"].items()}


@pytest.mark.parametrize("kind", KINDS)
def test_two_rounds_of_momentum_by_hand(kind: str) -> None:
    # w: 1 + 0.5 * 2 = 2, then b = 0.5 * 2 + 4 = 5, 2 + 0.5 * 5 = 4.5; the buffer and the counter take the plain mean
    model = make_model_learnable(
        {
            "w": np.array([1.0], np.float32),
            "bn.running_mean": np.array([1.0], np.float32),
            "steps": np.array(10),
            "flag": np.array([True]),
        },
        {},
    )
    generator = FedOptShareableGenerator("sgd", 0.5, momentum=0.5, buffers="running_")
    changes = [
        {"w": np.array([2.0]), "bn.running_mean": np.array([2.0]), "steps": np.array(3), "flag": np.array([0.0])},
        {"w": np.array([4.0]), "bn.running_mean": np.array([4.0]), "steps": np.array(4), "flag": np.array([-0.75])},
    ]
    weights = rounds(generator, model, changes, kind)
    assert weights == {"w": [4.5], "bn.running_mean": [7.0], "steps": 17, "flag": [False]}
    dtypes = [value.dtype.name for value in model["weights"].values()]
    assert dtypes == ["float32", "float32", "int64", "bool"]
    assert set(generator.state()["first"]) == {"w"}


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_by_name(kind: str) -> None:
    model = make_model_learnable({"w": np.zeros(1), "buffer": np.zeros(1)}, {})
    generator = FedOptShareableGenerator("adagrad", 1.0, initial_accumulator=0.0, epsilon=1e-12, buffers=["buffer"])
    # 4 / sqrt(16) = 1
    weights = rounds(generator, model, [{"w": np.array([4.0]), "buffer": np.array([4.0])}], kind)
    assert weights["w"] == pytest.approx([1.0])
    assert weights["buffer"] == [4.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "yogi", "adagrad"])
def test_all_optimizers_move_towards_the_mean_in_float32(kind: str, optimizer: str) -> None:
    model = make_model_learnable({"w": np.zeros(2, np.float32), "h": np.zeros(2, np.float16)}, {})
    generator = FedOptShareableGenerator(optimizer)
    weights = rounds(generator, model, [{"w": np.array([1.0, -1.0]), "h": np.array([1.0, -1.0])}] * 3, kind)
    assert weights["w"][0] == -weights["w"][1] > 0
    assert model["weights"]["w"].dtype == np.float32
    assert model["weights"]["h"].dtype == np.float16
    memory = {array.dtype.name for part in ("first", "second") for array in generator.state()[part].values()}
    assert memory <= {"float32"}  # also of float16


def test_sgd_at_one_is_federated_averaging() -> None:
    model = make_model_learnable({"w": np.array([1.0, 2.0])}, {})
    assert rounds(FedOptShareableGenerator("sgd"), model, [{"w": np.array([0.5, -1.0])}] * 2, "WEIGHT_DIFF") == {
        "w": [2.0, 0.0]
    }


def test_a_schedule_by_round() -> None:
    # 1 * 1, 0.5 * 1, 0.25 * 1
    model = make_model_learnable({"w": np.array([0.0])}, {})
    schedule = {"schedule": "exponential", "initial": 1.0, "factor": 0.5}
    generator = FedOptShareableGenerator("sgd", schedule=schedule)
    assert rounds(generator, model, [{"w": np.array([1.0])}] * 3, "WEIGHT_DIFF") == {"w": [1.75]}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_aggregate_leaves_the_model_and_the_optimizer(kind: str) -> None:
    model = make_model_learnable({"w": np.array([0.0])}, {})
    generator = FedOptShareableGenerator("adam", 0.1)
    rounds(generator, model, [{"w": np.array([1.0])}], kind)
    before, state = model["weights"]["w"], to_bytes(dict(generator.state()))
    rounds(generator, model, [{}], kind)
    assert model["weights"]["w"] is before
    assert to_bytes(dict(generator.state())) == state


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_aggregate_lacks_stays(kind: str) -> None:
    model = make_model_learnable({"w": np.array([0.0]), "head": np.array([7.0])}, {})
    assert rounds(FedOptShareableGenerator("sgd"), model, [{"w": np.array([1.0])}], kind) == {
        "w": [1.0],
        "head": [7.0],
    }


def test_the_state_goes_through_the_codec_and_the_next_step_is_the_same() -> None:
    change = {"w": np.array([1.0, -3.0], np.float32)}
    one = FedOptShareableGenerator("yogi", 0.1)
    model = make_model_learnable({"w": np.zeros(2, np.float32)}, {})
    rounds(one, model, [change, change], "WEIGHT_DIFF")
    other = FedOptShareableGenerator("yogi", 0.1)
    other.restore(from_bytes(to_bytes(dict(one.state()))))
    results = []
    for generator in (one, other, FedOptShareableGenerator("yogi", 0.1)):
        copy = make_model_learnable({"w": model["weights"]["w"].copy()}, {})
        results.append(rounds(generator, copy, [change], "WEIGHT_DIFF"))
    assert results[0] == results[1] != results[2]


def test_a_standing_task_keeps_the_model_it_was_given() -> None:
    generator = FedOptShareableGenerator("sgd", 1.0)
    old = np.ones(2)
    old.flags.writeable = False  # as long as a task stands
    model = make_model_learnable({"w": old}, {})
    task = generator.learnable_to_shareable(model, context(model))
    rounds(generator, model, [{"w": np.ones(2)}], "WEIGHT_DIFF")
    assert model["weights"]["w"].tolist() == [2.0, 2.0]
    assert task["DXO"]["data"]["w"] is old


def test_scalars_stay_scalars_and_unknown_names_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model_learnable({"b": np.float32(0.5)}, {})
    generator = FedOptShareableGenerator("sgd", 0.5)
    rounds(generator, model, [{"b": np.float32(1), "other": np.ones(1)}], "WEIGHT_DIFF")
    assert model["weights"] == {"b": 1.0}
    assert isinstance(model["weights"]["b"], np.float32)
    assert "no variable 'other'" in caplog.text


def test_what_is_refused() -> None:
    model = make_model_learnable({"w": np.zeros(2)}, {})
    generator = FedOptShareableGenerator()

    def apply(message: Any) -> None:
        generator.shareable_to_learnable(message, context(model))

    with pytest.raises(TypeError, match="shareable must be Shareable"):
        apply({})
    with pytest.raises(ValueError, match="no DXO"):
        apply(Shareable())
    with pytest.raises(ValueError, match="METRICS"):
        apply(DXO(DataKind.METRICS, {"w": np.ones(2)}).to_shareable())
    with pytest.raises(ValueError, match=r"the aggregate has 'w' in shape \(1,\), the model has \(2,\)"):
        apply(DXO(DataKind.WEIGHT_DIFF, {"w": np.ones(1)}).to_shareable())
    with pytest.raises(ValueError, match="encoded with CKKS"):
        apply(DXO(DataKind.WEIGHT_DIFF, {"w": b""}, {MetaKey.PROCESSED_ALGORITHM: "CKKS"}).to_shareable())
    with pytest.raises(ValueError, match="'w' is a str"):
        apply(DXO(DataKind.WEIGHT_DIFF, {"w": "text"}).to_shareable())
    assert generator.state()["num_steps"] == {}


def test_no_model_ends_the_run() -> None:
    fl_ctx = context(None)
    FedOptShareableGenerator().shareable_to_learnable(DXO(DataKind.WEIGHT_DIFF, {}).to_shareable(), fl_ctx)
    assert fl_ctx.get_engine().fired == [(EventType.FATAL_SYSTEM_ERROR, "there is no global model to update")]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"optimizer": "lamb"}, "there is no optimizer 'lamb'; known are sgd, adam, yogi, adagrad"),
        ({"optimizer": "sgd", "beta_1": 0.9}, "optimizer 'sgd' takes no argument 'beta_1'"),
        ({"momentun": 0.9}, "optimizer 'adam' takes no argument 'momentun'"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0, but got 0"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number above 0, but got '0.1'"),
        ({"learning_rate": 1.0, "schedule": {}}, "give learning_rate or schedule, not both"),
        ({"schedule": {"schedule": "wave"}}, r"schedule\.schedule: there is no schedule 'wave'"),
        ({"buffers": "("}, r"buffers '\(' is no regular expression"),
    ],
)
def test_arguments_that_are_wrong(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FedOptShareableGenerator(**arguments)
