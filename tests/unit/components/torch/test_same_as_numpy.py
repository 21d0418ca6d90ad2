"""The torch parts and the pure algorithms do the same, where both exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hansa.algorithms import ditto, fed_prox, scaffold
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.components.shareablegenerators.fed_opt import FedOptShareableGenerator
from hansa.components.torch.pt_ditto import PTDittoHelper
from hansa.components.torch.pt_fedopt import PTFedOptModelShareableGenerator
from hansa.components.torch.pt_fedproxloss import PTFedProxLoss
from hansa.components.torch.pt_scaffold import PTScaffoldHelper

RATE, STEPS = 0.05, 4


class Engine:
    """Knows no components."""

    def get_component(self, component_id: str) -> None: ...

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None: ...


def net(seed: int) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 2).double()


def arrays(module: torch.nn.Module) -> dict[str, Any]:
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-6)


def gradient(model: torch.nn.Linear, seed: int) -> None:
    """The gradient of a quadratic loss on a site's data."""
    torch.manual_seed(seed)
    inputs, labels = torch.randn(8, 3).double(), torch.randn(8, 2).double()
    model.zero_grad()
    (model(inputs) - labels).square().mean().backward()


def gradients(model: torch.nn.Linear) -> dict[str, Any]:
    return {name: value.grad.numpy().copy() for name, value in model.named_parameters() if value.grad is not None}


def loaded(weights: dict[str, Any]) -> torch.nn.Linear:
    model = net(0)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return model


def test_scaffold_at_a_site_over_three_rounds() -> None:
    helper, start = PTScaffoldHelper(), net(0)
    helper.init(start)
    x = arrays(start)
    control, c = scaffold.init_control(x), scaffold.init_control(x)
    for number in range(3):
        model, received = loaded(x), loaded(x)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        helper.load_global_controls(c)
        c_global, c_local = helper.get_params()
        y = dict(x)
        for _ in range(STEPS):
            gradient(model, number)
            optimizer.step()
            helper.model_update(model, RATE, c_global, c_local)
            ours = loaded(y)
            gradient(ours, number)
            slope = scaffold.corrected_gradient(gradients(ours), control=control, control_global=c)
            y = {name: value - RATE * slope[name] for name, value in y.items()}
        helper.terms_update(model, RATE, c_global, c_local, received)
        new = scaffold.new_control(
            control, control_global=c, received=x, trained=y, num_steps=STEPS, learning_rate=RATE
        )
        close(y, arrays(model))
        close({name: new[name] - control[name] for name in new}, helper.get_delta_controls())
        # As if another site had answered half as much.
        c = {name: c[name] + 0.75 * (new[name] - control[name]) for name in c}
        control, x = new, y
    assert max(float(np.abs(value).max()) for value in control.values()) > 0.01


@pytest.mark.parametrize(
    ("optimizer", "arguments", "torch_name", "torch_arguments"),
    [
        ("sgd", {"learning_rate": 0.5, "momentum": 0.6}, "SGD", {"lr": 0.5, "momentum": 0.6}),
        (
            "adam",
            {"learning_rate": 0.1, "beta_2": 0.999, "epsilon": 1e-8, "bias_correction": True},
            "Adam",
            {"lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8},
        ),
        (
            "adagrad",
            {"learning_rate": 0.1, "epsilon": 1e-10, "initial_accumulator": 0.0},
            "Adagrad",
            {"lr": 0.1, "eps": 1e-10},
        ),
    ],
)
def test_fed_opt_on_the_server(
    optimizer: str, arguments: dict[str, Any], torch_name: str, torch_arguments: dict[str, Any]
) -> None:
    start = net(1)
    theirs = PTFedOptModelShareableGenerator(
        {"path": f"torch.optim.{torch_name}", "args": torch_arguments}, source_model=net(1), device="cpu"
    )
    ours = FedOptShareableGenerator(optimizer, **arguments)
    models, contexts = [], []
    for _ in range(2):
        fl_ctx = FLContext()
        fl_ctx.set_prop(ReservedKey.ENGINE, Engine())
        model = make_model_learnable({**arrays(start), "steps": np.array(3)}, {})
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model)
        models.append(model)
        contexts.append(fl_ctx)
    theirs.handle_event(EventType.START_RUN, contexts[1])
    draw = np.random.default_rng(2)
    for _ in range(5):
        update = {name: draw.normal(size=value.shape) for name, value in arrays(start).items()}
        update["steps"] = np.array(2)
        for generator, fl_ctx in ((ours, contexts[0]), (theirs, contexts[1])):
            generator.shareable_to_learnable(DXO(DataKind.WEIGHT_DIFF, dict(update)).to_shareable(), fl_ctx)
    close(models[0]["weights"], models[1]["weights"])
    assert models[0]["weights"]["steps"] == 13


def test_fed_proxs_term_and_its_gradient() -> None:
    local, received = net(1), net(2)
    term = PTFedProxLoss(mu=0.3)(local, received)
    term.backward()
    assert fed_prox.proximal_term(arrays(local), arrays(received), mu=0.3) == pytest.approx(term.item())
    close(fed_prox.proximal_gradient(arrays(local), arrays(received), mu=0.3), gradients(local))


def test_dittos_personal_model() -> None:
    torch.manual_seed(4)
    batch = (torch.randn(8, 3).double(), torch.randn(8, 2).double())
    received, model = net(1), net(2)
    helper = PTDittoHelper(
        model,
        torch.optim.SGD(model.parameters(), lr=RATE),
        criterion=torch.nn.functional.mse_loss,
        ditto_lambda=0.7,
    )
    helper.local_train([batch] * STEPS, received)
    personal = ditto.init(arrays(received))
    for _ in range(STEPS):
        site = loaded(personal)
        torch.nn.functional.mse_loss(site(batch[0]), batch[1]).backward()
        personal = ditto.personal_step(
            personal, gradients(site), received=arrays(received), ditto_lambda=0.7, learning_rate=RATE
        )
    close(personal, arrays(model))
