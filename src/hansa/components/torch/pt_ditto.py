"""Ditto at a site: a personal model beside the global one.

Li et al. 2021, *Ditto: Fair and Robust Federated Learning Through Personalization*, arXiv:2012.04221, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hansa.apis.signal import Signal
from hansa.components.torch.optimizer_state import load_state, plain_state
from hansa.components.torch.pt_fedproxloss import PTFedProxLoss
from hansa.components.torch.pt_model_format import feed_vars
from hansa.components.torch.tensor_memory import array_over

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PTDittoHelper:
    """Trains the personal model `v` of one site, which never leaves it.

    Each step descends `F(v) + ditto_lambda / 2 * |v - w|**2` by the site's own optimizer, with `F` the loss on the
    site's data and `w` the global model of the round. At first `v` is `w`. The global model is trained beside it as
    ever, by the learner. `state()` and `restore()` carry `v` and the optimizer; the learner puts them into its own.

    Args:
        model: The personal model; a module of its own, on the device where it is trained.
        optimizer: An optimizer of its parameters.
        criterion: The loss of outputs and labels.
        ditto_lambda: How strong the pull towards the global model is; >= 0. 0 is training alone.
        device: Where the batches are brought to; by default where the model is.

    Raises:
        ValueError: `ditto_lambda` is negative.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        criterion: Criterion,
        ditto_lambda: float = 0.1,
        device: torch.device | str | None = None,
    ) -> None:
        if ditto_lambda < 0:
            raise ValueError(f"ditto_lambda must be >= 0, but got {ditto_lambda}")
        self.model = model
        self.optimizer = optimizer
        self.criterion = criterion
        self.ditto_lambda = ditto_lambda
        self.device = device if device is not None else next(model.parameters()).device
        self._penalty = PTFedProxLoss(mu=ditto_lambda)
        self._has_begun = False

    def local_train(
        self,
        train_loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
        model_global: nn.Module,
        *,
        num_epochs: int = 1,
        abort_signal: Signal | None = None,
    ) -> int:
        """Train the personal model.

        Args:
            train_loader: Batches of inputs and labels.
            model_global: The round's global model `w`; is only read.
            num_epochs: How often to go through the batches.
            abort_signal: Looked at before each batch.

        Returns:
            The number of steps made.

        Raises:
            ValueError: The two models differ in a parameter; the line names the layer.
        """
        if not self._has_begun:
            feed_vars(self.model, model_global.state_dict())
            self._has_begun = True
        self.model.train()
        num_steps = 0
        for _ in range(num_epochs):
            for inputs, labels in train_loader:
                if abort_signal is not None and abort_signal.triggered:
                    return num_steps
                self.optimizer.zero_grad()
                loss = self.criterion(self.model(inputs.to(self.device)), labels.to(self.device))
                (loss + self._penalty(self.model, model_global)).backward()
                self.optimizer.step()
                num_steps += 1
        return num_steps

    def state(self) -> dict[str, Any]:
        """The personal model and its optimizer as arrays and plain values; copies."""
        return {
            "has_begun": self._has_begun,
            "model": {name: array_over(value.clone()) for name, value in self.model.state_dict().items()},
            "optimizer": plain_state(self.optimizer.state_dict()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned.

        Raises:
            ValueError: It is of another model or optimizer; a line that names the layer, or torch's own.
        """
        feed_vars(self.model, state["model"])
        load_state(self.optimizer, state["optimizer"])
        self._has_begun = bool(state["has_begun"])
