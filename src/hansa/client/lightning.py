"""PyTorch Lightning in a federation: a callback that receives a model before each `fit`, and answers after it.

::

    flare.init()
    trainer = Trainer(max_epochs=1, callbacks=[FederatedCallback()])
    while flare.is_running():
        trainer.validate(net, loader)  # if wanted: how the global model does
        trainer.fit(net, loader)
"""

from __future__ import annotations

from typing import Any

import hansa.client as flare
from hansa.errors import MissingExtra

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.trainer.states import TrainerFn
except ImportError:
    raise MissingExtra("hansa.client.lightning", extra="lightning") from None

__all__ = ["FederatedCallback"]


class FederatedCallback(Callback):
    """Makes each `trainer.fit` a round: it begins with the global model, and its end sends what became of that.

    What a `trainer.validate` before it has logged goes along under its own names; a metric of that kind says how the
    global model does, for `best_by`. What `fit` itself has logged goes along as `fit_` and its name. The optimizer is
    Lightning's: a new one in each round. The weight of the site is the number of its steps. Each `fit` trains for the
    trainer's `max_epochs` or `max_steps` once more. Without a federation the module is trained once as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        flare.init()
        self._is_received = False
        self._steps = self._epochs = 0
        self._metrics: dict[str, float] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation of its own measures the model that is to be trained."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._receive(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what it has logged."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._metrics = _numbers(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the global model.

        Raises:
            ValueError: The trainer has several processes.
        """
        if trainer.world_size > 1:
            raise ValueError(f"one process of a script takes part, and this trainer has {trainer.world_size}")
        self._receive(pl_module)
        self._steps, self._epochs = trainer.global_step, trainer.current_epoch

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send what was learned."""
        steps, epochs = trainer.global_step - self._steps, trainer.current_epoch - self._epochs
        metrics = {**self._metrics, **{f"fit_{name}": value for name, value in _numbers(trainer).items()}}
        flare.send(flare.FLModel(params=pl_module.state_dict(), num_steps=steps, metrics=metrics))
        self._is_received, self._metrics = False, {}
        # The trainer counts on over all its fits, and would have nothing to do in the next one.
        loop = trainer.fit_loop
        if loop.max_epochs is not None and loop.max_epochs >= 0:
            loop.max_epochs += epochs
        if loop.epoch_loop.max_steps >= 0:
            loop.epoch_loop.max_steps += steps

    def _receive(self, module: LightningModule) -> None:
        if self._is_received:
            return
        incoming = flare.receive()
        if incoming is None:
            raise RuntimeError("the run is over: call fit while hansa.client.is_running()")
        assert incoming.params is not None
        module.load_state_dict(incoming.params)
        self._is_received = True


def _numbers(trainer: Trainer) -> dict[str, float]:
    values: dict[str, Any] = trainer.callback_metrics  # Any: tensors
    return {name: float(value) for name, value in values.items() if value.numel() == 1}
