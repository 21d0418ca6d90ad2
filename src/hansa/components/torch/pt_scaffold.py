"""SCAFFOLD at a site: control variates that take the drift out of local training.

Karimireddy et al. 2020, *SCAFFOLD: Stochastic Controlled Averaging for Federated Learning*, arXiv:1910.06378, with
option II for the controls; applied after each step of any optimizer, as Li et al. 2021 do (*Federated Learning on
Non-IID Data Silos*, NIID-Bench, arXiv:2102.02079).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hansa.components.torch.pt_model_format import check_fit
from hansa.components.torch.tensor_memory import array_over, tensor_over

Tensors = dict[str, torch.Tensor]


class PTScaffoldHelper:
    """The controls `c` (global) and `c_i` (local) of one site, and what is done with them.

    Both hold one tensor per variable of the model, at first zeros. Only trainable parameters have controls: those of
    buffers, such as batch-norm statistics, and of frozen parameters stay zero, so that these are averaged plainly.

    One round at a site::

        helper.init(model)                                  # once
        helper.load_global_controls(weights)                # c, as the server sent it
        c_global, c_local = helper.get_params()
        for batch in batches:
            ...                                             # loss.backward(), optimizer.step()
            lr = get_lr_values(optimizer)[0]
            helper.model_update(model, lr, c_global, c_local)
        helper.terms_update(model, lr, c_global, c_local, model_global)
        send(helper.get_delta_controls())

    `state()` and `restore()` carry the controls; the learner puts them into its own.
    """

    def __init__(self) -> None:
        self.cnt = 0
        self.c_global: Tensors = {}
        self.c_local: Tensors = {}
        self.c_delta_para: dict[str, Any] | None = None  # Any: arrays
        self._trained: frozenset[str] = frozenset()
        self._waiting: Mapping[str, Any] | None = None  # a state that came before the model did

    def init(self, model: nn.Module) -> None:
        """Begin with zeros in the shapes, dtypes and on the device of a model's variables.

        Raises:
            TypeError: It is no torch module.
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, but got {type(model)}")
        variables = model.state_dict()
        self._trained = _trained(model)
        self.c_global = {name: torch.zeros_like(variable) for name, variable in variables.items()}
        self.c_local = {name: torch.zeros_like(variable) for name, variable in variables.items()}
        self.cnt = 0
        self.c_delta_para = None
        if self._waiting is not None:
            self.restore(self._waiting)

    def get_params(self) -> tuple[Tensors, Tensors]:
        """`(c, c_i)` by name, for one round; the steps are counted from here on."""
        self.cnt = 0
        return dict(self.c_global), dict(self.c_local)

    def load_global_controls(
        self,
        weights: Mapping[str, Any],  # Any: arrays or tensors
    ) -> None:
        """Take over the server's `c`; names that it lacks get zeros.

        Raises:
            ValueError: Not a single name fits, or a shape does not; the line names layer and both shapes. Or there was
                no `init` yet.
        """
        if not self.c_global:
            raise ValueError("there are no controls before init(model)")
        check_fit(self.c_global, weights, what="the global controls", strict=False)
        for name, control in self.c_global.items():
            given = tensor_over(weights[name]) if name in weights and name in self._trained else None
            self.c_global[name] = torch.zeros_like(control) if given is None else _like(control, given)

    def model_update(self, model: nn.Module, curr_lr: float, c_global_para: Tensors, c_local_para: Tensors) -> None:
        """Correct the step just made: `y <- y - lr * (c - c_i)`, in place.

        Args:
            model: The local model, right after the optimizer's step.
            curr_lr: The learning rate of that step.
            c_global_para: `c`, from `get_params`.
            c_local_para: `c_i`, from `get_params`.
        """
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.sub_(c_global_para[name] - c_local_para[name], alpha=curr_lr)
        self.cnt += 1

    def terms_update(
        self, model: nn.Module, curr_lr: float, c_global_para: Tensors, c_local_para: Tensors, model_global: nn.Module
    ) -> None:
        """After the last step: `c_i+ = c_i - c + (x - y) / (K lr)`, and what `c_i` gained for `get_delta_controls`.

        Args:
            model: The local model `y`, after `K` steps.
            curr_lr: The learning rate.
            c_global_para: `c`, from `get_params`.
            c_local_para: `c_i`, from `get_params`.
            model_global: The global model `x` that training began with.

        Raises:
            ValueError: No step was counted since `get_params`, or the learning rate is 0.
        """
        if not self.cnt or not curr_lr:
            raise ValueError(f"no controls can be learned from {self.cnt} steps at a learning rate of {curr_lr}")
        ours, theirs = model.state_dict(), model_global.state_dict()
        deltas: dict[str, Any] = {}
        with torch.no_grad():
            for name, before in c_local_para.items():
                if name not in self._trained:
                    deltas[name] = array_over(torch.zeros_like(before))
                    continue
                gradient = (theirs[name].to(before.device) - ours[name]) / (self.cnt * curr_lr)
                self.c_local[name] = before - c_global_para[name] + gradient
                deltas[name] = array_over(self.c_local[name] - before)
        self.c_delta_para = deltas

    def get_delta_controls(self) -> dict[str, Any]:
        """`c_i+ - c_i` of the last round as arrays by name.

        Raises:
            ValueError: There was no `terms_update` yet.
        """
        if self.c_delta_para is None:
            raise ValueError("there are no new controls before terms_update")
        return self.c_delta_para

    def state(self) -> dict[str, Any]:
        """The controls as arrays by name; each round has new ones, and writes to none."""
        if not self.c_local and self._waiting is not None:
            return dict(self._waiting)
        return {
            "c_global": {name: array_over(value) for name, value in self.c_global.items()},
            "c_local": {name: array_over(value) for name, value in self.c_local.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned; before `init` it waits for the model.

        Raises:
            ValueError: It is of another model; the line names layer and both shapes.
        """
        if not self.c_local:
            self._waiting = state if state.get("c_local") else None
            return
        self._waiting = None
        for controls, key in ((self.c_global, "c_global"), (self.c_local, "c_local")):
            check_fit(controls, state[key], what=f"the controls {key}")
            for name, control in controls.items():
                controls[name] = _like(control, tensor_over(state[key][name]))


def get_lr_values(optimizer: Optimizer) -> list[float]:
    """The learning rate of each of an optimizer's parameter groups."""
    return [group["lr"] for group in optimizer.param_groups]


def _trained(model: nn.Module) -> frozenset[str]:
    # Tied weights stand in the state dict under each of their names.
    named = model.named_parameters(remove_duplicate=False)
    return frozenset(name for name, parameter in named if parameter.requires_grad)


def _like(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """A copy of the new one, in dtype and on the device of the old one."""
    return new.to(device=old.device, dtype=old.dtype, copy=True)
