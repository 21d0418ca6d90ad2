"""What a script and the federation exchange: parameters, and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hansa.apis.script import ScriptTask


class ParamsType(StrEnum):
    """What the parameters of an `FLModel` are."""

    FULL = "full"
    """The parameters themselves."""
    DIFF = "diff"
    """What training has added to those that were received."""


@dataclass(eq=False)
class FLModel:
    """A model on its way: what `receive` returns, and what `send` takes.

    Attributes:
        params: Tensors by name, of any shape and dtype: torch tensors (on any device) or NumPy arrays. What `receive`
            returns is the script's own memory; it may train in place in it.
        params_type: "full" or "diff"; see `ParamsType`.
        metrics: Numbers by name: Python's, NumPy's, or tensors of one element. They stand in the run's history for
            this round and site.
        num_steps: The local work behind the parameters (steps, or samples): the weight of this site in the mean, above
            0. None: every site counts the same.
        meta: Received: what the server sets for this round (`learning_rate`, `fed_prox_mu`, ...) and SCAFFOLD's
            `scaffold_c_global`. Sent: numbers, texts and arrays that go along, and SCAFFOLD's `scaffold_c_diff`.
        current_round: Received: which round this is, from 0.
        total_rounds: Received: how many there will be.

    Raises:
        ValueError: `params_type` is neither.
    """

    params: Mapping[str, Any] | None = None  # Any: tensors of any framework
    params_type: str = ParamsType.FULL
    metrics: Mapping[str, Any] | None = None  # Any: numbers of any framework
    num_steps: Any = None  # Any: likewise
    meta: dict[str, Any] = field(default_factory=dict)  # Any: what the codec can carry
    current_round: int | None = None
    total_rounds: int | None = None

    def __post_init__(self) -> None:
        try:
            self.params_type = ParamsType(str(self.params_type).lower()).value
        except ValueError:
            raise ValueError(f"params_type must be 'full' or 'diff', but got {self.params_type!r}") from None


def answer_of(model: FLModel, asked: ScriptTask) -> dict[str, Any]:  # Any: plain values and tensors
    """What `send` sends, checked.

    Raises:
        TypeError: Something in it is of another type.
        ValueError: It lacks what was asked for.
    """
    if not isinstance(model, FLModel):
        raise TypeError(f"send() takes an FLModel, not a {type(model).__name__}")
    for name, value in (("params", model.params), ("metrics", model.metrics), ("meta", model.meta)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a dict, not a {type(value).__name__}")
    params = dict(model.params or {})
    for key in params:
        if not isinstance(key, str):
            raise TypeError(f"params must have names, but has the key {key!r}")
    if asked is ScriptTask.EVALUATE and not model.metrics:
        raise ValueError("the task is to evaluate the model, and the FLModel that was sent has no metrics")
    if asked is not ScriptTask.EVALUATE and not params:
        raise ValueError("the FLModel that was sent has no params")
    metrics = {check_name(key): number_of(f"metrics[{key!r}]", value) for key, value in (model.metrics or {}).items()}
    return {
        "params": {} if asked is ScriptTask.EVALUATE else params,
        "params_type": ParamsType(model.params_type).value,
        "metrics": metrics,
        "num_steps": None if model.num_steps is None else number_of("num_steps", model.num_steps),
        "meta": dict(model.meta or {}),
    }


def number_of(name: str, value: object) -> float:
    """A number of any library as Python's.

    Raises:
        TypeError: It is none.
    """
    item = getattr(value, "item", None)
    try:
        plain = item() if callable(item) else value  # NumPy's, torch's
    except (TypeError, ValueError, RuntimeError):
        plain = None  # more than one element
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        shape = getattr(value, "shape", None)
        what = f"a {type(value).__name__} of shape {tuple(shape)}" if shape is not None else repr(value)[:80]
        raise TypeError(f"{name} must be a number, not {what}")
    return float(plain)


def check_name(name: object) -> str:
    """The name of a metric.

    Raises:
        TypeError: It is no text.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a metric must be a text, not {name!r}")
    return name
