"""Hugging Face in a federation: a callback of its Trainer; of a model with PEFT only the adapters travel.

::

    flare.init()
    trainer = Trainer(model=model, args=args, train_dataset=rows, callbacks=[FederatedCallback()])
    while flare.is_running():
        trainer.train()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hansa.client as flare
from hansa.apis.library_weights import adapter_arrays, is_peft
from hansa.errors import MissingExtra

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError:
    raise MissingExtra("hansa.client.huggingface", extra="huggingface") from None

__all__ = ["FederatedCallback", "load", "weights_of"]

Model = Any  # Any: a PreTrainedModel or PeftModel; both are torch modules


def weights_of(model: Model) -> dict[str, Any]:  # Any: tensors
    """What of a model travels: its adapters if it has any (PEFT), else everything."""
    return adapter_arrays(model) if is_peft(model) else dict(model.state_dict())


def load(model: Model, params: Mapping[str, Any]) -> None:  # Any: tensors
    """Give a model what the federation has learned. Alone, where nothing comes, it stays as it is.

    Raises:
        ValueError: Names are not those of the model's adapters.
    """
    if not is_peft(model):
        model.load_state_dict(params)
        return
    arrays = dict(params)
    if not arrays:
        return
    from peft import set_peft_model_state_dict

    own = adapter_arrays(model).keys()
    if different := sorted(own ^ arrays.keys()):
        raise ValueError(f"the adapters differ, first in '{different[0]}' ({len(different)} names)")
    set_peft_model_state_dict(model, arrays)


class FederatedCallback(TrainerCallback):
    """Makes each `trainer.train` a round: it begins with the global model, and its end sends what became of that.

    With `eval_on_start=True` in its arguments the Trainer measures the model that came; these metrics go along under
    their own names, for `best_by`. What it measures later goes along as `own_` and its name. The optimizer is the
    Trainer's, which keeps it from round to round. The weight of the site is the number of its steps. Without a
    federation the model is trained once as it is.
    """

    def __init__(self) -> None:
        flare.init()
        self._metrics: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin with the global model.

        Raises:
            RuntimeError: The run is over.
            ValueError: The Trainer has several processes.
        """
        if args.world_size > 1:
            raise ValueError(f"one process of a script takes part, and this Trainer has {args.world_size}")
        incoming = flare.receive()
        if incoming is None:
            raise RuntimeError("the run is over: call train while hansa.client.is_running()")
        self._metrics = {}
        load(kwargs["model"], {} if incoming.params is None else incoming.params)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep what was measured."""
        prefix = "" if state.global_step == 0 else "own_"
        numbers = {name: value for name, value in kwargs.get("metrics", {}).items() if isinstance(value, int | float)}
        self._metrics.update({f"{prefix}{name}": value for name, value in numbers.items()})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Send what was learned."""
        answer = flare.FLModel(params=weights_of(kwargs["model"]), num_steps=state.global_step, metrics=self._metrics)
        flare.send(answer)
