"""FedOpt with torch: the aggregated update is a gradient for an optimizer on the server.

Reddi et al. 2021, *Adaptive Federated Optimization*, arXiv:2003.00295.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import LRScheduler

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from hansa.components.torch.optimizer_config import build_optimizer, build_scheduler
from hansa.components.torch.optimizer_state import load_state, plain_state
from hansa.components.torch.pt_model_format import check_fit
from hansa.components.torch.tensor_memory import array_over, tensor_over
from hansa.errors import ConfigError

_SGD = {"path": "torch.optim.SGD", "args": {"lr": 1.0}}


class PTFedOptModelShareableGenerator(FullModelShareableGenerator):
    """Takes one optimizer step per round, with the negative mean difference as gradient (arXiv:2003.00295, alg. 1).

    Trainable parameters are optimised. Whatever else the sites average, such as the statistics of batch normalisation
    and frozen parameters, moves by the plain mean, integers rounded half to even. The global model of the context is
    what counts: the torch model follows it before each step, whoever loaded it. Arrays that went out are never
    written to. Parameters are optimised in their own dtype.

    Args:
        optimizer_args: `{"path": "torch.optim.SGD", "args": {"lr": 1.0, "momentum": 0.6}}`, also with `name` in place
            of `path`. None: SGD with a learning rate of 1, which is FedAvg.
        lr_scheduler_args: The same for a scheduler, which makes one step per round. None: none.
        source_model: The torch module, or its component id.
        device: Where the optimizer works, such as `cpu` or `cuda:0`. None: the first CUDA device, if there is any.
        train_settings: See `FullModelShareableGenerator`.

    Raises:
        TypeError: Optimizer or scheduler are not described by a dict.
        RuntimeError: `device` is no name of a device.
    """

    hears = frozenset((EventType.START_RUN,))

    def __init__(
        self,
        optimizer_args: dict[str, Any] | None = None,
        lr_scheduler_args: dict[str, Any] | None = None,
        source_model: nn.Module | str = "model",
        device: str | None = None,
        *,
        train_settings: Mapping[str, Any] | None = None,  # Any: plain JSON
    ) -> None:
        super().__init__(train_settings=train_settings)
        for name, value in (("optimizer_args", optimizer_args), ("lr_scheduler_args", lr_scheduler_args)):
            if value is not None and not isinstance(value, dict):
                raise TypeError(f"{name} must be a dict such as {_SGD}, but got {type(value)}")
        self.source_model = source_model
        self.optimizer_args = optimizer_args or _SGD
        self.lr_scheduler_args = lr_scheduler_args
        self.device = torch.device(device or ("cuda:0" if torch.cuda.is_available() else "cpu"))
        self.model: nn.Module | None = None
        self.optimizer: optim.Optimizer | None = None
        self.lr_scheduler: LRScheduler | None = None
        self._waiting: Mapping[str, Any] | None = None  # a state that came before the optimizer was there

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Build optimizer and scheduler when the run starts; where that fails the run ends with one line."""
        super().handle_event(event_type, fl_ctx)
        if event_type != EventType.START_RUN:
            return
        try:
            self._prepare(fl_ctx.get_engine())
        except (ConfigError, ValueError) as error:
            self.system_panic(f"{self._name}: {error}", fl_ctx)

    def server_update(
        self,
        model_diff: Mapping[str, Any],  # Any: arrays, tensors or numbers
    ) -> dict[str, torch.Tensor]:
        """One step of optimizer and scheduler from where the torch model stands.

        Args:
            model_diff: Mean differences by name, in the model's shapes; only those of trainable parameters count.

        Returns:
            The torch model's variables after the step, over its own memory.
        """
        model, optimizer = self._built()
        optimizer.zero_grad()
        for name, parameter in _variables(model).items():
            # Of tied weights each name has the same difference.
            if parameter.requires_grad and parameter.grad is None and name in model_diff:
                difference = tensor_over(model_diff[name]).to(device=parameter.device, dtype=parameter.dtype)
                parameter.grad = difference.neg()
        optimizer.step()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        return dict(model.state_dict())

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        """Update the context's GLOBAL_MODEL with an aggregated difference.

        Args:
            shareable: A DXO of kind WEIGHT_DIFF; other kinds and processed (encrypted) ones end the run.
            fl_ctx: Holds the model under GLOBAL_MODEL; without one the run is ended (`system_panic`).

        Returns:
            The context's model object; an empty one where the run is ended.

        Raises:
            TypeError: Not a Shareable.
            ValueError: No DXO in it, or a difference of another shape than the model's variable.
        """
        if not isinstance(shareable, Shareable):
            raise TypeError(f"shareable must be Shareable, but got {type(shareable)}")
        dxo = from_shareable(shareable)
        model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        problem = self._problem(dxo)
        if problem:
            self.system_panic(f"{self._name}: {problem}", fl_ctx)
            return ModelLearnable()
        if not model:
            return super().shareable_to_learnable(shareable, fl_ctx)  # which ends the run
        weights = model[ModelLearnableKey.WEIGHTS]
        variables = _variables(self._built()[0])
        trained = {name: one for name, one in variables.items() if one.requires_grad and name in weights}
        others = {name: one for name, one in variables.items() if name not in trained and name in weights}
        check_fit(variables, weights, what="the global model", strict=False)
        check_fit(variables, {**variables, **dxo.data}, what="the aggregate", strict=False)
        self._follow(weights, trained)
        rest = DXO(dxo.data_kind, {name: value for name, value in dxo.data.items() if name not in trained}, dxo.meta)
        result = super().shareable_to_learnable(rest.to_shareable(), fl_ctx)
        self._follow(weights, others)
        after = self.server_update(dxo.data)
        for name in trained.keys() & dxo.data.keys():
            weights[name] = array_over(after[name].to(tensor_over(weights[name]).dtype))
        self._report(fl_ctx)
        return result

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """What optimizer and scheduler remember, as arrays and plain values; copies."""
        if self.optimizer is None:
            return dict(self._waiting or {})
        scheduler = None if self.lr_scheduler is None else plain_state(self.lr_scheduler.state_dict())
        return {"optimizer": plain_state(self.optimizer.state_dict()), "lr_scheduler": scheduler}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Take up what `state` returned; before the run has started it waits for the optimizer.

        Raises:
            ValueError: It is that of another optimizer or scheduler.
        """
        if self.optimizer is None:
            self._waiting = state
        elif state:
            load_state(self.optimizer, state["optimizer"])
            if self.lr_scheduler is not None:
                load_state(self.lr_scheduler, state["lr_scheduler"])

    def _prepare(self, engine: Any) -> None:  # Any: a server's engine, or a test's own
        source = self.source_model
        model = engine.get_component(source) if isinstance(source, str) else source
        if not isinstance(model, nn.Module):
            found = f"component {source!r}" if isinstance(source, str) else "it"
            problem = "there is none" if model is None else f"it is a {type(model).__name__}"
            raise ConfigError(f"{found} must be a torch.nn.Module, but {problem}", key="source_model")
        check_device(self.device)
        self.model = model.to(self.device)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trained:
            raise ConfigError("the model has no trainable parameter", key="source_model")
        self.optimizer = build_optimizer(self.optimizer_args, trained, engine=engine)
        if self.lr_scheduler_args is not None:
            self.lr_scheduler = build_scheduler(self.lr_scheduler_args, self.optimizer, engine=engine)
        if self._waiting is not None:
            self.restore(self._waiting)

    def _built(self) -> tuple[nn.Module, optim.Optimizer]:
        if self.model is None or self.optimizer is None:
            raise ConfigError("there is no optimizer before the run has started", key=self._name)
        return self.model, self.optimizer

    def _problem(self, dxo: DXO) -> str:
        if dxo.data_kind != DataKind.WEIGHT_DIFF:
            return f"needs differences (WEIGHT_DIFF), but the aggregate is of kind {dxo.data_kind}"
        algorithm = dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
        return f"cannot optimise what {algorithm} has processed" if algorithm is not None else ""

    def _follow(self, weights: Mapping[str, Any], variables: Mapping[str, torch.Tensor]) -> None:
        """Give variables the global model's values, in memory of their own: the old one may be on its way."""
        once = {id(variable): name for name, variable in variables.items()}
        for name in once.values():
            variable = variables[name]
            variable.data = tensor_over(weights[name]).to(device=self.device, dtype=variable.dtype, copy=True)

    def _report(self, fl_ctx: FLContext) -> None:
        _, optimizer = self._built()
        number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        rate = optimizer.param_groups[-1]["lr"]
        name = type(optimizer).__name__
        self.log_info(fl_ctx, f"round {number}: a step of {name} on {self.device}; the next with lr {float(rate):g}")


def check_device(device: torch.device) -> None:
    """Whether the device is there.

    Raises:
        ConfigError: It is a CUDA device that this machine does not have.
    """
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"there is no CUDA device {str(device)!r}: torch finds {count} here", key="device")


def _variables(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and kept buffers by each of their names in the state dict: tied ones have several."""
    kept = model.state_dict().keys()
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name: variable for name, variable in named if name in kept}
