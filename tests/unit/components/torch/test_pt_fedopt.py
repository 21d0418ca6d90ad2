"""FedOpt with torch's optimizers, by hand and against torch itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.components.torch.pt_fedopt import PTFedOptModelShareableGenerator
from hansa.components.torch.tensor_memory import array_over
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.custom_code import CustomCode
from hansa.wire.codec import from_bytes, to_bytes
from sides import Listener, Side

MOMENTUM = {"path": "torch.optim.SGD", "args": {"lr": 0.5, "momentum": 0.9}, "config_type": "dict"}


class Server(Side):
    """A side that builds components, and keeps the reasons of panics."""

    def __init__(self, generator: PTFedOptModelShareableGenerator, components: dict[str, object] | None = None) -> None:
        self.ears = Listener()
        super().__init__("project", [generator, self.ears], components)
        self.builder = Builder(ClassPolicy.simulator())

    def build_component(self, config_dict: dict[str, Any]) -> object:
        return self.builder.component(config_dict)

    @property
    def panics(self) -> list[str]:
        return [heard[1] for heard in self.ears.heard if heard[0] == EventType.FATAL_SYSTEM_ERROR]


def fed_opt(*args: Any, **more: Any) -> PTFedOptModelShareableGenerator:
    """On the CPU, also where there is a GPU."""
    return PTFedOptModelShareableGenerator(*args, **{"device": "cpu", **more})


def scalar(value: float = 0.0, dtype: torch.dtype = torch.float64) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False).to(dtype)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def started(generator: PTFedOptModelShareableGenerator, components: dict[str, object] | None = None) -> Server:
    server = Server(generator, components)
    server.fire(EventType.START_RUN)
    return server


def arrays(model: nn.Module) -> dict[str, Any]:
    return {name: array_over(value) for name, value in model.state_dict().items()}


class Rounds:
    """A run of rounds with one generator and one global model."""

    def __init__(self, generator: PTFedOptModelShareableGenerator, weights: dict[str, Any]) -> None:
        self.generator, self.server = generator, started(generator)
        self.model = make_model_learnable(weights, {})

    def step(self, diff: dict[str, Any], meta: dict[str, Any] | None = None, kind: str = DataKind.WEIGHT_DIFF) -> Any:
        fl_ctx = self.server.new_context()
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, self.model, private=True, sticky=False)
        return self.generator.shareable_to_learnable(DXO(kind, diff, meta).to_shareable(), fl_ctx)

    def weight(self) -> float:
        value: float = self.model["weights"]["weight"].item()
        return value


@pytest.mark.parametrize("device", ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])])
def test_momentum_by_hand(device: str) -> None:
    # The mean difference 1 is the gradient -1. v = -1, w = 0 + 0.5 = 0.5; v = -0.9 - 1 = -1.9, w = 0.5 + 0.95 = 1.45.
    rounds = Rounds(fed_opt(MOMENTUM, source_model=scalar(), device=device), {"weight": np.zeros((1, 1))})
    meta = {"score": 1}
    assert rounds.step({"weight": np.ones((1, 1))}, meta) is rounds.model
    assert rounds.weight() == 0.5
    assert rounds.model["meta"] == meta
    rounds.step({"weight": np.ones((1, 1))})
    assert rounds.weight() == pytest.approx(1.45, abs=1e-15)


def test_without_arguments_it_is_averaging() -> None:
    rounds = Rounds(fed_opt(source_model=scalar()), {"weight": np.full((1, 1), 2.0)})
    rounds.step({"weight": np.full((1, 1), 0.25)})
    assert rounds.weight() == 2.25


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "NAdam", "Adadelta", "Rprop", "ASGD"])
def test_any_optimizer_steps_as_torch_does(name: str) -> None:
    rounds = Rounds(
        fed_opt({"name": name, "args": {"lr": 0.1}}, source_model=scalar()),
        {"weight": np.ones((1, 1))},
    )
    weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    optimizer = getattr(torch.optim, name)([weight], lr=0.1)
    for difference in (0.5, -0.25, 1.0):
        rounds.step({"weight": np.full((1, 1), difference)})
        weight.grad = torch.full((1, 1), -difference, dtype=torch.float64)
        optimizer.step()
        assert rounds.weight() == weight.item()


def test_a_scheduler_makes_a_step_per_round() -> None:
    # Rates 1, 1, 0.5, 0.5, 0.25 of a difference of 1 each.
    generator = fed_opt(
        {"name": "SGD", "args": {"lr": 1.0}},
        {"path": "torch.optim.lr_scheduler.StepLR", "args": {"step_size": 2, "gamma": 0.5}},
        scalar(),
    )
    rounds = Rounds(generator, {"weight": np.zeros((1, 1))})
    found = []
    for _ in range(5):
        rounds.step({"weight": np.ones((1, 1))})
        found.append(rounds.weight())
    assert found == [1, 2, 2.5, 3, 3.25]


def test_what_is_not_trained_moves_by_the_plain_mean() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    net[0].bias.requires_grad_(False)
    rounds = Rounds(fed_opt({"name": "SGD", "args": {"lr": 10.0}}, source_model=net), arrays(net))
    before = {name: value.copy() for name, value in rounds.model["weights"].items()}
    diff = {name: np.full(value.shape, 0.5, np.float32) for name, value in before.items()}
    diff["1.num_batches_tracked"] = np.array(2.5)  # the mean of 2 and 3; 0 + 2.5 to even is 2
    rounds.step(diff)
    after = rounds.model["weights"]
    for name in ("0.bias", "1.running_mean", "1.running_var"):
        assert after[name] == before[name] + np.float32(0.5), name
    for name in ("0.weight", "1.weight", "1.bias"):
        assert after[name] == before[name] + 5, name
    assert after["1.num_batches_tracked"] == 2
    assert after["1.num_batches_tracked"].dtype == np.int64
    assert all(torch.equal(value, torch.as_tensor(after[name])) for name, value in net.state_dict().items())


def test_a_frozen_parameter_is_not_optimised_at_all() -> None:
    net = nn.Linear(1, 1)
    net.bias.requires_grad_(False)
    generator = fed_opt({"name": "SGD", "args": {"lr": 1.0, "weight_decay": 0.5}}, source_model=net)
    rounds = Rounds(generator, arrays(net))
    bias = rounds.model["weights"]["bias"].copy()
    rounds.step({"weight": np.zeros((1, 1), np.float32), "bias": np.zeros(1, np.float32)})
    assert rounds.model["weights"]["bias"] == bias  # decay would have halved it


def test_arrays_that_went_out_are_never_written_to() -> None:
    rounds = Rounds(fed_opt(MOMENTUM, source_model=(model := scalar())), arrays(model))
    seen, values = [], []
    for _ in range(3):
        seen.append(rounds.model["weights"]["weight"])
        values.append(rounds.weight())
        rounds.step({"weight": np.ones((1, 1))})
    assert [array.item() for array in seen] == values
    # What was learned is handed over without a copy.
    assert np.shares_memory(rounds.model["weights"]["weight"], model.weight.detach().numpy())


def test_the_global_model_counts_whatever_the_module_holds() -> None:
    rounds = Rounds(fed_opt(source_model=scalar(100)), {"weight": np.zeros((1, 1))})
    rounds.step({"weight": np.ones((1, 1))})
    assert rounds.weight() == 1


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            self.second.weight = self.first.weight

    net = Tied()
    rounds = Rounds(fed_opt(MOMENTUM, source_model=net), {
        "first.weight": np.zeros((1, 1), np.float32), "second.weight": np.zeros((1, 1), np.float32),
    })  # fmt: skip
    for _ in range(2):
        rounds.step({name: np.ones((1, 1), np.float32) for name in ("first.weight", "second.weight")})
    assert [value.item() for value in rounds.model["weights"].values()] == pytest.approx([1.45, 1.45])


@pytest.mark.parametrize(("dtype", "kind"), [(torch.bfloat16, ml_dtypes.bfloat16), (torch.float16, np.float16)])
def test_narrow_models_stay_narrow(dtype: torch.dtype, kind: type) -> None:
    rounds = Rounds(fed_opt(MOMENTUM, source_model=scalar(0, dtype)), {"weight": np.zeros((1, 1), kind)})
    rounds.step({"weight": np.ones((1, 1), np.float32)})  # means of narrow floats come as float32
    assert rounds.model["weights"]["weight"].dtype == kind
    assert float(rounds.model["weights"]["weight"].item()) == 0.5


def test_the_global_model_keeps_its_dtype() -> None:
    rounds = Rounds(fed_opt(source_model=scalar(0, torch.float32)), {"weight": np.zeros((1, 1))})
    rounds.step({"weight": np.ones((1, 1))})
    assert rounds.weight() == 1
    assert rounds.model["weights"]["weight"].dtype == np.float64


def test_a_round_without_contributions_leaves_the_model_but_counts_for_the_scheduler() -> None:
    schedule = {"name": "ExponentialLR", "args": {"gamma": 0.5}}
    rounds = Rounds(fed_opt(None, schedule, scalar()), {"weight": np.zeros((1, 1))})
    rounds.step({})
    assert rounds.weight() == 0
    rounds.step({"weight": np.ones((1, 1))})
    assert rounds.weight() == 0.5


@pytest.mark.parametrize("before_start", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (MOMENTUM, None),
        ({"name": "Adam", "args": {"lr": 0.1}}, {"name": "CosineAnnealingLR", "args": {"T_max": 10}}),
        (MOMENTUM, {"name": "MultiStepLR", "args": {"milestones": [1, 3]}}),
    ],
)
def test_a_restored_server_goes_on_as_if_nothing_had_been(
    optimizer: dict[str, Any], schedule: dict[str, Any] | None, before_start: bool
) -> None:
    first = Rounds(fed_opt(optimizer, schedule, scalar()), {"weight": np.zeros((1, 1))})
    for difference in (1.0, -0.5):
        first.step({"weight": np.full((1, 1), difference)})
    state = from_bytes(to_bytes(first.generator.state()))
    generator = fed_opt(optimizer, schedule, scalar())
    if before_start:
        generator.restore(state)
    second = Rounds(generator, {"weight": first.model["weights"]["weight"].copy()})
    if not before_start:
        generator.restore(state)
    for difference in (0.25, 2.0, 1.0):
        for rounds in (first, second):
            rounds.step({"weight": np.full((1, 1), difference)})
        assert second.weight() == first.weight()


def test_the_state_is_there_before_the_run_and_does_not_follow_it() -> None:
    generator = fed_opt(MOMENTUM, source_model=scalar())
    assert generator.state() == {}
    rounds = Rounds(generator, {"weight": np.zeros((1, 1))})
    rounds.step({"weight": np.ones((1, 1))})
    state = generator.state()
    rounds.step({"weight": np.ones((1, 1))})
    assert state["optimizer"]["state"][0]["momentum_buffer"].item() == -1
    with pytest.raises(ValueError, match="different number of parameter groups"):
        generator.restore({"optimizer": {"state": {}, "param_groups": []}, "lr_scheduler": None})


def test_processed_and_other_kinds_end_the_run() -> None:
    rounds = Rounds(fed_opt(source_model=scalar()), {"weight": np.zeros((1, 1))})
    assert rounds.step({"weight": b"x"}, {MetaKey.PROCESSED_ALGORITHM: "CKKS"}).is_empty()
    assert rounds.step({"weight": np.ones((1, 1))}, kind=DataKind.WEIGHTS).is_empty()
    assert rounds.weight() == 0
    name = "PTFedOptModelShareableGenerator"
    assert rounds.server.panics == [
        f"{name}: cannot optimise what CKKS has processed",
        f"{name}: needs differences (WEIGHT_DIFF), but the aggregate is of kind WEIGHTS",
    ]


def test_weights_that_do_not_fit() -> None:
    rounds = Rounds(fed_opt(source_model=scalar()), {"weight": np.zeros((2, 2))})
    with pytest.raises(
        ValueError, match=r"layer 'weight' has shape \(2, 2\) in the global model and \(1, 1\) in the model"
    ):
        rounds.step({"weight": np.ones((2, 2))})
    rounds = Rounds(fed_opt(source_model=scalar()), {"weight": np.zeros((1, 1))})
    with pytest.raises(ValueError, match=r"layer 'weight' has shape \(3,\) in the aggregate and \(1, 1\) in the model"):
        rounds.step({"weight": np.ones(3)})
    assert rounds.weight() == 0
    with pytest.raises(TypeError, match="shareable must be Shareable"):
        rounds.generator.shareable_to_learnable({}, FLContext())  # type: ignore[arg-type]  # a user's mistake


def no_gpu() -> str:
    return f"cuda:{torch.cuda.device_count()}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"optimizer_args": {"name": "SDG"}}, "optimizer_args: torch has no optimizer 'SDG'; did you mean 'SGD'?"),
        (
            {"optimizer_args": {"path": "torch.optim.Lion9"}},
            "optimizer_args: torch has no optimizer 'torch.optim.Lion9'",
        ),
        ({"optimizer_args": {"path": "torch.optim.Optimizer"}}, "torch has no optimizer 'torch.optim.Optimizer'"),
        (
            {"optimizer_args": {"args": {"lr": 1}}},
            "optimizer_args: needs a 'path' or a 'name', such as 'torch.optim.SGD'",
        ),
        ({"optimizer_args": {"name": "SGD", "args": [1]}}, "optimizer_args: 'args' must be an object, not list"),
        (
            {"optimizer_args": {"name": "SGD", "args": {"params": []}}},
            "optimizer_args: 'params' is filled in by its owner",
        ),
        ({"optimizer_args": {"name": "SGD", "args": {"lr": -1}}}, "cannot build SGD: Invalid learning rate: -1"),
        ({"optimizer_args": {"name": "SGD", "args": {"momentun": 1}}}, "unexpected keyword argument 'momentun'"),
        ({"optimizer_args": {"name": "LBFGS"}}, "LBFGS cannot be used on a server: its step needs 'closure'"),
        ({"optimizer_args": {"path": "nosuch.Sgd"}}, "optimizer_args.path: there is no module 'nosuch'"),
        ({"optimizer_args": {"path": "builtins.dict"}}, "optimizer_args: builtins.dict is no Optimizer"),
        ({"lr_scheduler_args": {"name": "StepLr"}}, "no learning-rate scheduler 'StepLr'; did you mean 'StepLR'?"),
        (
            {"lr_scheduler_args": {"name": "ReduceLROnPlateau"}},
            "ReduceLROnPlateau cannot be used on a server: its step",
        ),
        ({"lr_scheduler_args": {"name": "StepLR"}}, "lr_scheduler_args: cannot build StepLR: "),
        ({"source_model": "net"}, "source_model: component 'net' must be a torch.nn.Module, but there is none"),
        ({"source_model": "text"}, "source_model: component 'text' must be a torch.nn.Module, but it is a str"),
        ({"source_model": nn.ReLU()}, "source_model: the model has no trainable parameter"),
        ({"device": no_gpu()}, f"device: there is no CUDA device '{no_gpu()}': torch finds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_end_the_run_with_one_line(arguments: dict[str, Any], words: str) -> None:
    generator = fed_opt(**{"source_model": scalar(), **arguments})
    server = started(generator, {"text": "no model"})
    (line,) = server.panics
    assert line.startswith("PTFedOptModelShareableGenerator: ")
    assert words in line
    assert "\n" not in line


def test_arguments_of_another_type() -> None:
    for name in ("optimizer_args", "lr_scheduler_args"):
        with pytest.raises(TypeError, match=f"{name} must be a dict such as"):
            fed_opt(**{name: "SGD"})  # type: ignore[arg-type]  # a user's mistake


def test_optimizers_and_schedulers_of_the_jobs_own(tmp_path: Path) -> None:
    (tmp_path / "zz_own_optim.py").write_text(
        "import torch\n"
        "class Twice(torch.optim.SGD):\n"
        "    def __init__(self, params, lr): super().__init__(params, lr=2 * lr)\n"
        "class Halving(torch.optim.lr_scheduler.ExponentialLR):\n"
        "    def __init__(self, optimizer): super().__init__(optimizer, gamma=0.5)\n"
    )
    generator = fed_opt({"path": "zz_own_optim.Twice", "args": {"lr": 1.0}}, {"path": "zz_own_optim.Halving"}, scalar())
    with CustomCode(tmp_path):
        rounds = Rounds(generator, {"weight": np.zeros((1, 1))})
        rounds.step({"weight": np.ones((1, 1))})
        rounds.step({"weight": np.ones((1, 1))})
    assert rounds.server.panics == []
    assert rounds.weight() == 3  # 2 * 1, then half of it


def test_a_context_without_a_model_ends_the_run() -> None:
    generator = fed_opt(source_model=scalar())
    server = started(generator)
    shareable = DXO(DataKind.WEIGHT_DIFF, {"weight": np.ones((1, 1))}).to_shareable()
    assert generator.shareable_to_learnable(shareable, server.new_context()).is_empty()
    assert server.panics == ["there is no global model to update"]


def test_it_reports_the_step(caplog: pytest.LogCaptureFixture) -> None:
    rounds = Rounds(fed_opt(MOMENTUM, source_model=scalar()), {"weight": np.zeros((1, 1))})
    with caplog.at_level("INFO"):
        rounds.step({"weight": np.ones((1, 1))})
    assert f"a step of SGD on {rounds.generator.device}; the next with lr 0.5" in caplog.text
