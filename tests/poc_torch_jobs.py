"""A torch network and its training, for jobs that run at sites of their own: it travels there as this file."""

from __future__ import annotations

import torch

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class Line(torch.nn.Module):
    """Four numbers in, one out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)


class Descends(Executor):
    """SGD with momentum; network and optimiser stay from round to round."""

    def __init__(self) -> None:
        super().__init__()
        self._net = Line()
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=0.1, momentum=0.9)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        self._net.load_state_dict({name: torch.as_tensor(value) for name, value in received.items()})
        for _ in range(3):
            images = torch.randn(16, 4)
            self._optimizer.zero_grad()
            (self._net.layer(images) - images.sum(1, keepdim=True)).square().mean().backward()
            self._optimizer.step()
        change = {name: value.numpy() - received[name] for name, value in self._net.state_dict().items()}
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: 3}).to_shareable()
