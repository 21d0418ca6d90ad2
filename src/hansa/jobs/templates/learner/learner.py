"""What a site does, as a Learner: the LearnerExecutor calls `validate` and `train` in every round."""

from __future__ import annotations

import numpy as np

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.learner_spec import Learner
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class LinearLearner(Learner):
    """Gradient descent on made-up data; put your own data and training loop here.

    Args:
        lr: The learning rate.
    """

    def __init__(self, lr: float = 0.2) -> None:
        super().__init__()
        self.lr = lr

    def initialize(self, parts: dict[str, object], fl_ctx: FLContext) -> None:
        """Load this site's data, once."""
        rng = np.random.default_rng(sum(fl_ctx.get_identity_name().encode()))
        self.x = rng.normal(size=(100, 4))
        self.y = self.x @ np.arange(1, 5) + rng.normal(scale=0.1, size=100)

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """One step from the global model."""
        w = from_shareable(data).data["w"]
        w = w - self.lr * self.x.T @ (self.x @ w - self.y) / len(self.y)
        return DXO(DataKind.WEIGHTS, {"w": w}, {MetaKey.NUM_STEPS_CURRENT_ROUND: len(self.y)}).to_shareable()

    def validate(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """How good the global model is here; the best one is kept."""
        loss = float(np.mean((self.x @ from_shareable(data).data["w"] - self.y) ** 2))
        return DXO(DataKind.METRICS, {MetaKey.INITIAL_METRICS: -loss}).to_shareable()
