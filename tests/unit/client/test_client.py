"""The script API where there is no federation, and what it refuses before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hansa.client as flare
from hansa.apis.script import ScriptTask, ScriptVariable
from hansa.client.alone import Alone
from hansa.client.model import FLModel, ParamsType, answer_of, number_of
from source_code import PACKAGE


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Alone]:
    monkeypatch.delenv(ScriptVariable.ADDRESS, raising=False)
    assert flare._session is None
    flare.init()
    flare.init()  # once is enough, twice does no harm
    assert capsys.readouterr().err.count("it runs alone") == 1
    assert isinstance(flare._session, Alone)
    yield flare._session
    flare._session = None


def test_it_brings_neither_numpy_nor_torch() -> None:
    code = "import hansa.client, sys; print([name for name in ('numpy', 'torch', 'hansa.wire') if name in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(PACKAGE.parent)}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "call", [flare.is_running, flare.receive, flare.is_train, flare.system_info, lambda: flare.log("loss", 1.0)]
)
def test_nothing_goes_before_init(call: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^call hansa.client.init\(\) first$"):
        call()


def test_alone_there_is_one_pass(alone: Alone) -> None:
    assert flare.is_running()
    assert flare.is_running()  # asking does not use it up
    assert not flare.is_train()
    model = flare.receive()
    assert model is not None
    assert (model.current_round, model.total_rounds, model.meta, bool(model.params)) == (0, 1, {}, False)
    assert flare.is_train()
    flare.send(FLModel({"w": 1.0}, metrics={"accuracy": 0.5}))
    assert not flare.is_running()
    assert flare.receive() is None
    assert flare.system_info() == {"site_name": None, "alone": True}


def test_alone_mistakes_are_the_same_as_in_a_federation(alone: Alone) -> None:
    with pytest.raises(RuntimeError, match="there is none"):
        flare.send(FLModel({"w": 1.0}))
    flare.receive()
    for call in (flare.receive, flare.is_running):
        with pytest.raises(RuntimeError, match="the model of round 0 has not been answered"):
            call()
    with pytest.raises(TypeError, match=r"metrics\['accuracy'\] must be a number, not 'high'"):
        flare.send(FLModel({"w": 1.0}, metrics={"accuracy": "high"}))
    with pytest.raises(TypeError, match="'loss' must be a number, not None"):
        flare.log("loss", None)
    with pytest.raises(TypeError, match="the name of a metric must be a text, not 3"):
        flare.log(3, 1.0)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match=r"step must be an int, not 0.5"):
        flare.log("loss", 1.0, step=0.5)  # type: ignore[arg-type]  # likewise
    flare.send(FLModel({"w": 1.0}))
    with pytest.raises(RuntimeError, match="there is none"):
        flare.send(FLModel({"w": 1.0}))


def test_nobody_s_parameters_say_so(alone: Alone) -> None:
    model = flare.receive()
    assert model is not None
    assert model.params is not None
    assert dict(model.params) == {}
    assert (model.params or {"w": 1}) == {"w": 1}
    assert "runs alone" in repr(model.params)
    with pytest.raises(KeyError, match="runs alone"):
        model.params["w"]


def test_a_model_says_what_its_parameters_are() -> None:
    assert FLModel().params_type == "full" == ParamsType.FULL
    assert FLModel(params_type=ParamsType.DIFF).params_type == "diff"
    with pytest.raises(ValueError, match="params_type must be 'full' or 'diff', but got 'half'"):
        FLModel(params_type="half")


def test_an_answer_is_plain() -> None:
    params = {"w": np.zeros(2)}
    model = FLModel(params, "diff", {"accuracy": np.float32(0.5), "loss": np.array([2])}, 7, {"note": "x"})
    answer = answer_of(model, ScriptTask.TRAIN)
    assert answer == {
        "params": params, "params_type": "diff", "metrics": {"accuracy": 0.5, "loss": 2.0}, "num_steps": 7.0,
        "meta": {"note": "x"},
    }  # fmt: skip
    assert [type(value) for value in answer["metrics"].values()] == [float, float]
    assert answer_of(model, ScriptTask.EVALUATE)["params"] == {}


@pytest.mark.parametrize(
    ("model", "asked", "problem"),
    [
        ({"w": 1}, ScriptTask.TRAIN, r"send\(\) takes an FLModel, not a dict"),
        (FLModel(), ScriptTask.TRAIN, "has no params"),
        (FLModel(metrics={"a": 1.0}), ScriptTask.SUBMIT_MODEL, "has no params"),
        (FLModel({"w": 1}), ScriptTask.EVALUATE, "has no metrics"),
        (FLModel([1]), ScriptTask.TRAIN, "params must be a dict, not a list"),  # type: ignore[arg-type]  # the point
        (FLModel({3: 1}), ScriptTask.TRAIN, "has the key 3"),  # type: ignore[dict-item]  # likewise
        (FLModel({"w": 1}, num_steps="many"), ScriptTask.TRAIN, "num_steps must be a number, not 'many'"),
        (FLModel({"w": 1}, metrics=[1]), ScriptTask.TRAIN, "metrics must be a dict"),  # type: ignore[arg-type]  # likewise
        (FLModel({"w": 1}, metrics={"": 1}), ScriptTask.TRAIN, "name of a metric must be a text, not ''"),
    ],
)
def test_an_answer_that_cannot_be(model: Any, asked: ScriptTask, problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        answer_of(model, asked)


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float16(3), np.array(3.0), np.array([3])])
def test_numbers_of_any_library_are_numbers(value: Any) -> None:
    assert number_of("it", value) == 3.0
    assert type(number_of("it", value)) is float


@pytest.mark.parametrize("value", [True, "3", None, 3j, np.array([3, 4]), np.bool_(True), [3]])
def test_other_values_are_none(value: Any) -> None:
    with pytest.raises(TypeError, match="it must be a number, not "):
        number_of("it", value)


def test_tensors_of_one_element_are_numbers_and_others_are_not() -> None:
    import torch

    assert number_of("it", torch.tensor(3, dtype=torch.bfloat16)) == 3.0
    assert number_of("it", torch.tensor([3.0], requires_grad=True)) == 3.0
    with pytest.raises(TypeError, match=r"it must be a number, not a Tensor of shape \(2,\)"):
        number_of("it", torch.zeros(2))
