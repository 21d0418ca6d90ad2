"""What a site does: it trains a linear model on its own data."""

from __future__ import annotations

import numpy as np

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class Trainer(Executor):
    """Gradient descent on made-up data; put your own data and training loop here.

    Args:
        lr: The learning rate.
        steps: Steps of gradient descent per round.
    """

    def __init__(self, lr: float = 0.2, steps: int = 5) -> None:
        super().__init__()
        self.lr = lr
        self.steps = steps

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Take the global model, train it, send it back with what it scored before."""
        number = sum(fl_ctx.get_identity_name().encode())  # every site has data of its own
        rng = np.random.default_rng(number)
        x = rng.normal(size=(100, 4))
        y = x @ np.arange(1, 5) + rng.normal(scale=0.1, size=100)

        w = from_shareable(shareable).data["w"]
        loss = float(np.mean((x @ w - y) ** 2))
        for _ in range(self.steps):
            if abort_signal.triggered:
                break
            w = w - self.lr * x.T @ (x @ w - y) / len(y)
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: len(y), MetaKey.INITIAL_METRICS: -loss}
        return DXO(DataKind.WEIGHTS, {"w": w}, meta).to_shareable()
