"""The whole model out; weights or differences back in, into new arrays."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, make_model_learnable
from hansa.components.shareablegenerators import FullModelShareableGenerator


class Engine:
    """Keeps the events that were fired and the reasons in them."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, Any]] = []

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.fired.append((event_type, fl_ctx.get_prop(FLContextKey.EVENT_DATA)))


def context(model: ModelLearnable | None = None) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.set_prop(ReservedKey.ENGINE, Engine())
    if model is not None:
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model)
    return fl_ctx


def apply(model: ModelLearnable, kind: str, data: dict[str, Any], meta: dict[str, Any] | None = None) -> None:
    updated = FullModelShareableGenerator().shareable_to_learnable(DXO(kind, data, meta).to_shareable(), context(model))
    assert updated is model


def test_out() -> None:
    weights = OrderedDict(w=np.ones(2), b=np.zeros(1))
    meta = {"owner": "me"}
    shareable = FullModelShareableGenerator().learnable_to_shareable(make_model_learnable(weights, meta), context())
    dxo = from_shareable(shareable)
    assert dxo.data_kind == DataKind.WEIGHTS
    assert dxo.meta == meta
    assert isinstance(dxo.data, OrderedDict)
    assert all(dxo.data[name] is weights[name] for name in weights)  # no copy of any array
    with pytest.raises(ValueError, match="ModelLearnable"):
        FullModelShareableGenerator().learnable_to_shareable({}, context())  # type: ignore[arg-type]  # user code's


def test_differences_are_added_by_name() -> None:
    # 1 + 0.5 = 1.5, 2 - 1 = 1; b is not in the update and stays.
    model = make_model_learnable({"w": np.array([1.0, 2.0], np.float32), "b": np.array([7.0])}, {"old": 1})
    apply(model, DataKind.WEIGHT_DIFF, {"w": np.array([0.5, -1.0])}, {"new": 2})
    assert model["weights"]["w"].tolist() == [1.5, 1.0]
    assert model["weights"]["w"].dtype == np.float32  # the model's, though the update came in float64
    assert model["weights"]["b"].tolist() == [7.0]
    assert model["meta"] == {"new": 2}


def test_a_standing_task_keeps_the_model_it_was_given() -> None:
    generator = FullModelShareableGenerator()
    old = np.ones(2)
    old.flags.writeable = False  # as long as a task stands
    model = make_model_learnable({"w": old}, {})
    task = generator.learnable_to_shareable(model, context(model))
    apply(model, DataKind.WEIGHT_DIFF, {"w": np.ones(2)})
    assert model["weights"]["w"].tolist() == [2.0, 2.0]
    assert from_shareable(task).data["w"] is old


def test_integers_booleans_and_scalars_keep_their_dtype() -> None:
    # 3 + 2.5 = 5.5 to even 6; 4 + 0.5 = 4.5 to even 4; True + 0 = True
    model = make_model_learnable(
        {
            "n": np.array([3, 4]),
            "u": np.array([250], np.uint8),
            "flag": np.array([True, False]),
            "count": np.array(5),
            "lr": np.float32(0.5),
        },
        None,
    )
    differences = {
        "n": np.array([2.5, 0.5]),
        "u": np.array([-50.0]),
        "flag": np.array([False, False]),
        "count": np.array(2),
        "lr": np.float64(0.25),
    }
    apply(model, DataKind.WEIGHT_DIFF, differences)
    weights = model["weights"]
    assert {name: np.asarray(value).tolist() for name, value in weights.items()} == {
        "n": [6, 4],
        "u": [200],
        "flag": [True, False],
        "count": 7,
        "lr": 0.75,
    }
    assert [np.asarray(weights[name]).dtype.name for name in weights] == ["int64", "uint8", "bool", "int64", "float32"]
    assert isinstance(weights["count"], np.ndarray)  # a state dict's counter, for torch.from_numpy
    assert isinstance(weights["lr"], np.float32)


def test_weights_replace_all() -> None:
    model = make_model_learnable({"w": np.zeros(2, np.float32), "gone": np.zeros(1)}, {})
    new = np.ones(2, np.float32)
    apply(model, DataKind.WEIGHTS, {"w": new, "added": np.ones(1)}, {"m": 1})
    assert list(model["weights"]) == ["w", "added"]
    assert model["weights"]["w"] is new
    assert model["meta"] == {"m": 1}


def test_weights_may_also_leave_variables_alone_that_they_lack() -> None:
    model = make_model_learnable({"w": np.zeros(2, np.float32), "kept": np.full(1, 7.0)}, {})
    old = model["weights"]
    generator = FullModelShareableGenerator(keep_missing=True)
    update = {"w": np.ones(2), "added": np.ones(1)}
    generator.shareable_to_learnable(DXO(DataKind.WEIGHTS, update).to_shareable(), context(model))
    assert {name: value.tolist() for name, value in model["weights"].items()} == {
        "w": [1.0, 1.0],
        "kept": [7.0],
        "added": [1.0],
    }
    assert model["weights"]["w"].dtype == np.float32
    assert old["w"].tolist() == [0.0, 0.0]  # a standing task may refer to it
    assert list(update) == ["w", "added"]


def test_weights_come_back_in_the_models_dtype() -> None:
    model = make_model_learnable({"w": np.zeros(2, np.float32), "n": np.zeros(2, np.int64)}, {})
    update = {"w": np.array([0.1, 0.2]), "n": np.array([1.5, 2.5])}
    apply(model, DataKind.WEIGHTS, update)
    assert model["weights"]["w"].dtype == np.float32
    assert model["weights"]["n"].tolist() == [2, 2]
    assert update["w"].dtype == np.float64  # the message was not written to


def test_empty_updates_leave_the_model() -> None:
    weights = {"w": np.zeros(2)}
    model = make_model_learnable(weights, {})
    for kind in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
        apply(model, kind, {})
        assert model["weights"] is weights
        assert weights["w"].tolist() == [0.0, 0.0]


def test_differences_for_unknown_names_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model_learnable({"w": np.zeros(1)}, {})
    apply(model, DataKind.WEIGHT_DIFF, {"w": np.ones(1), "other": np.ones(1)})
    assert {name: value.tolist() for name, value in model["weights"].items()} == {"w": [1.0]}
    assert "no variable 'other'" in caplog.text


def test_what_is_refused() -> None:
    model = make_model_learnable({"w": np.zeros(2)}, {})
    with pytest.raises(ValueError, match=r"difference of 'w' has shape \(1,\), the model has \(2,\)"):
        apply(model, DataKind.WEIGHT_DIFF, {"w": np.ones(1)})
    with pytest.raises(ValueError, match="'w' is a str"):
        apply(model, DataKind.WEIGHT_DIFF, {"w": "text"})
    with pytest.raises(ValueError, match="METRICS"):
        apply(model, DataKind.METRICS, {"w": np.ones(2)})
    with pytest.raises(TypeError, match="shareable must be Shareable"):
        FullModelShareableGenerator().shareable_to_learnable({}, context(model))  # type: ignore[arg-type]  # user code's


def test_no_model_ends_the_run() -> None:
    fl_ctx = context()
    FullModelShareableGenerator().shareable_to_learnable(DXO(DataKind.WEIGHTS, {}).to_shareable(), fl_ctx)
    [(event, reason)] = fl_ctx.get_engine().fired
    assert event == EventType.FATAL_SYSTEM_ERROR
    assert reason == "there is no global model to update"
