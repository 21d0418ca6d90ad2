"""SCAFFOLD at a site, on problems worked by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from hansa.components.torch.pt_scaffold import PTScaffoldHelper, get_lr_values
from hansa.wire.codec import from_bytes, to_bytes

LR, STEPS = 0.1, 5


def scalar(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(value)
    return model


class QuadraticSite:
    """Minimises `curvature / 2 * (w - optimum)**2` in steps of gradient descent."""

    def __init__(self, curvature: float, optimum: float) -> None:
        self.curvature, self.optimum = curvature, optimum
        self.helper = PTScaffoldHelper()
        self.helper.init(scalar(0))

    def train(self, start: float, control: Any, *, with_controls: bool = True) -> tuple[float, Any]:
        model, received = scalar(start), scalar(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        self.helper.load_global_controls(control)
        c_global, c_local = self.helper.get_params()
        for _ in range(STEPS):
            optimizer.zero_grad()
            (self.curvature / 2 * (model.weight - self.optimum).square()).sum().backward()
            optimizer.step()
            if with_controls:
                self.helper.model_update(model, get_lr_values(optimizer)[0], c_global, c_local)
        if with_controls:
            self.helper.terms_update(model, LR, c_global, c_local, received)
            return model.weight.item(), self.helper.get_delta_controls()
        return model.weight.item(), {"weight": np.zeros((1, 1))}


def run(num_rounds: int, *, with_controls: bool) -> float:
    sites = [QuadraticSite(1, 0), QuadraticSite(3, 4)]
    model, control = 0.0, {"weight": np.zeros((1, 1))}
    for _ in range(num_rounds):
        answers = [site.train(model, control, with_controls=with_controls) for site in sites]
        model = sum(weight for weight, _ in answers) / 2
        control = {"weight": control["weight"] + sum(delta["weight"] for _, delta in answers) / 2}
    return model


def test_it_reaches_the_optimum_that_averaging_misses() -> None:
    # The sum of w^2/2 and 3/2 (w - 4)^2 is least at 3 * 4 / (1 + 3) = 3. In 5 steps of 0.1 a site keeps 0.9^5 = 0.59049
    # and 0.7^5 = 0.16807 of its distance, so averaging stays at 4 * 0.83193 / (0.40951 + 0.83193) = 2.68052.
    assert run(200, with_controls=True) == pytest.approx(3, abs=1e-6)
    assert run(200, with_controls=False) == pytest.approx(4 * 0.83193 / 1.24144, abs=1e-6)


def test_one_step_by_hand() -> None:
    # y = 2 - 0.5 * 3 = 0.5 after the optimizer; minus 0.5 * (c - c_i) = 0.5 * (1 - 0) is 0.
    # c_i+ = 0 - 1 + (2 - 0) / (1 * 0.5) = 3, the gradient of that step, and so is what it gained.
    helper = PTScaffoldHelper()
    helper.init(scalar(2))
    helper.load_global_controls({"weight": np.ones((1, 1))})
    c_global, c_local = helper.get_params()
    model = scalar(0.5)
    helper.model_update(model, 0.5, c_global, c_local)
    assert model.weight.item() == 0
    helper.terms_update(model, 0.5, c_global, c_local, scalar(2))
    assert helper.get_delta_controls() == {"weight": np.array([[3.0]])}
    assert helper.c_local["weight"].item() == 3
    # The next round counts its steps anew.
    assert helper.get_params()[1]["weight"].item() == 3
    assert helper.cnt == 0


def test_buffers_and_frozen_parameters_have_no_controls() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    net[2].weight.requires_grad_(False)
    helper = PTScaffoldHelper()
    helper.init(net)
    helper.load_global_controls({name: np.ones(one.shape) for name, one in net.state_dict().items()})
    c_global, c_local = helper.get_params()
    assert {name for name, one in c_global.items() if not one.any()} == {
        "1.running_mean", "1.running_var", "1.num_batches_tracked", "2.weight"
    }  # fmt: skip
    received = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    with torch.no_grad():
        received[1].weight += 2
        received[1].bias += 2
    before = {name: one.clone() for name, one in net.state_dict().items()}
    helper.model_update(net, 0.1, c_global, c_local)
    net[1].running_mean += 5  # what a batch would do
    net[1].num_batches_tracked += 1
    helper.terms_update(net, 0.1, c_global, c_local, received)
    moved = {name for name, one in net.state_dict().items() if not torch.equal(one, before[name])}
    deltas = helper.get_delta_controls()
    with_controls = {"0.weight", "0.bias", "1.weight", "1.bias", "2.bias"}
    assert moved == with_controls | {"1.running_mean", "1.num_batches_tracked"}
    assert {name for name, value in deltas.items() if value.any()} == with_controls
    assert deltas.keys() == net.state_dict().keys()
    assert deltas["1.num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize(("dtype", "kind"), [(torch.bfloat16, ml_dtypes.bfloat16), (torch.float16, np.float16)])
def test_narrow_models_have_narrow_controls(dtype: torch.dtype, kind: type) -> None:
    helper, model = PTScaffoldHelper(), scalar(1).to(dtype)
    helper.init(model)
    helper.load_global_controls({"weight": np.ones((1, 1), kind)})
    c_global, c_local = helper.get_params()
    helper.model_update(model, 0.5, c_global, c_local)
    assert model.weight.item() == 0.5
    helper.terms_update(model, 0.5, c_global, c_local, scalar(1).to(dtype))
    assert helper.get_delta_controls()["weight"].dtype == kind


def test_a_restored_site_goes_on_as_if_nothing_had_been() -> None:
    site = QuadraticSite(3, 4)
    _, control = site.train(0.0, {"weight": np.zeros((1, 1))})
    state = from_bytes(to_bytes(site.helper.state()))
    for before_init in (True, False):
        other = QuadraticSite(3, 4)
        if before_init:
            other.helper = PTScaffoldHelper()
            other.helper.restore(state)
            assert other.helper.state() == state
            other.helper.init(scalar(0))
        else:
            other.helper.restore(state)
        assert other.helper.state() == site.helper.state()
        assert other.train(1.0, control) == QuadraticSite.train(_copy(site, state), 1.0, control)


def _copy(site: QuadraticSite, state: Any) -> QuadraticSite:
    other = QuadraticSite(site.curvature, site.optimum)
    other.helper.restore(state)
    return other


def test_the_state_does_not_follow_the_training() -> None:
    site = QuadraticSite(3, 4)
    site.train(0.0, {"weight": np.zeros((1, 1))})
    state = site.helper.state()
    kept = state["c_local"]["weight"].copy()
    site.train(1.0, {"weight": np.ones((1, 1))})
    assert (state["c_local"]["weight"] == kept).all()


def test_mistakes() -> None:
    helper = PTScaffoldHelper()
    with pytest.raises(ValueError, match=r"there are no controls before init\(model\)"):
        helper.load_global_controls({"weight": np.zeros(1)})
    with pytest.raises(ValueError, match="there are no new controls before terms_update"):
        helper.get_delta_controls()
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        helper.init({})  # type: ignore[arg-type]  # a user's mistake
    helper.init(scalar(1))
    with pytest.raises(ValueError, match=r"layer 'weight' has shape \(2,\) in the global controls and \(1, 1\)"):
        helper.load_global_controls({"weight": np.zeros(2)})
    with pytest.raises(ValueError, match=r"layer 'weight' has shape \(3,\) in the controls c_global"):
        helper.restore({"c_global": {"weight": np.zeros(3)}, "c_local": {"weight": np.zeros(3)}})
    c_global, c_local = helper.get_params()
    with pytest.raises(ValueError, match=r"from 0 steps at a learning rate of 0\.1"):
        helper.terms_update(scalar(1), 0.1, c_global, c_local, scalar(1))


def test_learning_rates() -> None:
    groups = [{"params": scalar(1).parameters(), "lr": 0.5}, {"params": scalar(1).parameters()}]
    assert get_lr_values(torch.optim.SGD(groups, lr=0.25)) == [0.5, 0.25]
