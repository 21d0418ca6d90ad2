"""The memory of an optimizer or a scheduler in a form that travels, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from hansa.components.torch.tensor_memory import array_over, tensor_over


class HasState(Protocol):
    """What torch's optimizers and schedulers have in common."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Take that up again."""
        ...


def plain_state(state: Any) -> Any:  # Any: what a state dict holds
    """A state dict with its tensors as arrays, and its dicts plain; copies."""
    if isinstance(state, torch.Tensor):
        return array_over(state.clone())
    if isinstance(state, Mapping):
        return {key: plain_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)([plain_state(value) for value in state])
    return state


def load_state(owner: HasState, state: Mapping[str, Any]) -> None:
    """Give an optimizer or a scheduler what `plain_state` made of its state dict.

    Raises:
        ValueError: It is that of another one.
    """
    try:
        owner.load_state_dict(_with_tensors(state))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"this is the state of another {type(owner).__name__}: {error}") from None


def _with_tensors(state: Any) -> Any:  # Any: as in plain_state
    if isinstance(state, np.ndarray):
        return tensor_over(state).clone()
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, Mapping):
        return {key: _with_tensors(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)([_with_tensors(value) for value in state])
    return state
