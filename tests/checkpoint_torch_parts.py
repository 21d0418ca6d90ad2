"""A torch network whose training is cut off and goes on: it travels there as this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from hansa.components.torch.optimizer_state import load_state, plain_state


class Net(torch.nn.Module):
    """Four numbers in, one out, with a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(self.norm(values))
        return found


class Descends(Executor):
    """SGD with momentum, which stays from round to round."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)

    def state(self) -> Mapping[str, Any]:
        return {"optimizer": plain_state(self.optimizer.state_dict())}

    def restore(self, state: Mapping[str, Any]) -> None:
        load_state(self.optimizer, state["optimizer"])

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        self.net.load_state_dict({name: torch.as_tensor(value) for name, value in received.items()})
        for _ in range(3):
            values = torch.randn(16, 4)
            self.optimizer.zero_grad()
            (self.net(values) - values.sum(1, keepdim=True)).square().mean().backward()
            self.optimizer.step()
        change = {name: value.numpy() - received[name] for name, value in self.net.state_dict().items()}
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: 3}).to_shareable()


class DrawsInTorch(FullModelShareableGenerator):
    """Adds what torch draws at the server."""

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        learned = super().shareable_to_learnable(shareable, fl_ctx)
        weights = learned["weights"]
        weights["layer.bias"] = weights["layer.bias"] + torch.randn(1).numpy()
        return learned
