"""FedOpt: an optimizer on the server, whose gradient is the mean of the sites' updates, negated.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, algorithms 1 and 2; momentum on the
server (FedAvgM) is Hsu et al., 2019, arXiv:1909.06335.

With D the round's mean of what training added at the sites (the pseudo-gradient is -D), element by element::

    sgd       u = D                     without momentum
              b <- mu b + D             with momentum mu; u = b, or D + mu b with Nesterov's
    adam      m <- beta_1 m + (1 - beta_1) D
              v <- beta_2 v + (1 - beta_2) D^2
    yogi      m as above
              v <- v - (1 - beta_2) D^2 sign(v - D^2)
    adagrad   m as above
              v <- v + D^2
              u = m / (sqrt(v) + epsilon)       of these three

    x <- x + eta u

So `sgd` with learning rate 1 and no momentum is federated averaging, and `sgd` gives in every step what
`torch.optim.SGD` makes of the gradient -D.

The paper's three have no bias correction, and v begins at epsilon^2 (its epsilon is called tau), which damps the first
rounds; that is the default here. `bias_correction` of `adam` is Kingma and Ba's instead (2015, arXiv:1412.6980): v
begins at zero, and u = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon) in the t-th step, as in
`torch.optim.Adam`. `adagrad` with `initial_accumulator=0` is `torch.optim.Adagrad`.

Example:
    >>> import numpy as np
    >>> rule = make_rule("sgd", momentum=0.5)
    >>> state = init()
    >>> updates, state = step(rule, state, {"w": np.array([1.0])}, learning_rate=0.1)
    >>> updates, state = step(rule, state, {"w": np.array([1.0])}, learning_rate=0.1)
    >>> updates["w"]  # 0.1 * (0.5 * 1 + 1)
    array([0.15])
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hansa.algorithms.arrays import Array
from hansa.algorithms.named_tensors import Tensors

OPTIMIZERS: dict[str, dict[str, Any]] = {  # Any: numbers, a flag, or None
    "sgd": {"momentum": 0.0, "nesterov": False},
    "adam": {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "initial_accumulator": None, "bias_correction": False},
    "yogi": {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "initial_accumulator": None},
    "adagrad": {"beta_1": 0.0, "epsilon": 1e-3, "initial_accumulator": None},
}
"""What each optimizer takes besides the learning rate, and what is taken unless it is given: the paper's values."""


@dataclass(frozen=True)
class Rule:
    """An optimizer and its arguments; made by `make_rule`.

    Attributes:
        optimizer: One of `OPTIMIZERS`.
        momentum: mu of `sgd`, in [0, 1).
        nesterov: Whether `sgd` looks ahead along its momentum.
        beta_1: Decay of the mean of updates, in [0, 1).
        beta_2: Decay of the mean of squares, in [0, 1).
        epsilon: How much adaptivity is damped (the paper's tau), > 0.
        initial_accumulator: What v begins at, >= 0.
        bias_correction: Whether both means are corrected for their beginning at zero.
    """

    optimizer: str
    momentum: float = 0.0
    nesterov: bool = False
    beta_1: float = 0.0
    beta_2: float = 0.0
    epsilon: float = 1e-3
    initial_accumulator: float = 0.0
    bias_correction: bool = False


@dataclass(frozen=True)
class Moments:
    """What is remembered of one tensor.

    Attributes:
        num_steps: How many updates it has had.
        first: b of `sgd`, m of the others; None where nothing is remembered.
        second: v; None for `sgd`.
    """

    num_steps: int = 0
    first: Array | None = None
    second: Array | None = None


@dataclass(frozen=True)
class State:
    """What the optimizer remembers, by name of the tensor, in the dtype of its updates."""

    moments: Mapping[str, Moments] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:  # Any: nested dicts of arrays and integers
        """Dicts of arrays and integers, for a file or a message."""
        return {
            "num_steps": {name: each.num_steps for name, each in self.moments.items()},
            "first": {name: each.first for name, each in self.moments.items() if each.first is not None},
            "second": {name: each.second for name, each in self.moments.items() if each.second is not None},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> State:  # Any: as above
        """The state that `to_plain` wrote."""
        first, second = plain["first"], plain["second"]
        return cls({n: Moments(int(t), first.get(n), second.get(n)) for n, t in plain["num_steps"].items()})


def make_rule(optimizer: str = "adam", **arguments: Any) -> Rule:  # Any: checked one by one
    """An optimizer with these arguments, the paper's values for the others.

    Args:
        optimizer: `sgd`, `adam`, `yogi` or `adagrad`.
        arguments: See `OPTIMIZERS` for which it takes, and `Rule` for what they mean.

    Raises:
        ValueError: An unknown optimizer, an argument that it does not take, or a value out of range.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {optimizer!r}; known are {', '.join(OPTIMIZERS)}")
    known = OPTIMIZERS[optimizer]
    for key, value in arguments.items():
        if key not in known:
            raise ValueError(f"optimizer {optimizer!r} takes no argument {key!r}; it takes {', '.join(known)}")
        _check_argument(key, value)
    values = {**known, **arguments}
    if values.get("nesterov") and not values["momentum"]:
        raise ValueError("nesterov needs a momentum above 0")
    if values.get("initial_accumulator", 0.0) is None:
        values["initial_accumulator"] = 0.0 if values.get("bias_correction") else values["epsilon"] ** 2
    elif values.get("bias_correction") and values["initial_accumulator"]:
        raise ValueError("bias_correction is for an accumulator that begins at 0; leave out initial_accumulator")
    return Rule(optimizer, **values)


def init() -> State:
    """The state before the first step."""
    return State()


def step(rule: Rule, state: State, mean_diff: Tensors, *, learning_rate: float) -> tuple[dict[str, Array], State]:
    """What is to be added to the model after one round.

    Args:
        rule: The optimizer.
        state: What it remembers.
        mean_diff: D: by name the mean over the sites of trained minus received weights, of floats. A tensor that is
            not there has no step, and its memory stays as it is.
        learning_rate: eta of this round.

    Returns:
        By name what to add to the weights, in the dtype of `mean_diff`, and the next state.

    Raises:
        ValueError: A tensor has another shape than the one remembered under its name.
    """
    eta = float(learning_rate)  # NumPy's own float64 would make float64 of float32
    updates: dict[str, Array] = {}
    moments = dict(state.moments)
    for name, diff in mean_diff.items():
        before = moments.get(name, Moments())
        for memory in (before.first, before.second):
            if memory is not None and memory.shape != diff.shape:
                raise ValueError(f"the update of '{name}' has shape {diff.shape}, those before had {memory.shape}")
        direction, moments[name] = (
            _momentum(rule, before, diff) if rule.optimizer == "sgd" else _adapt(rule, before, diff)
        )
        updates[name] = np.asarray(eta * direction)
    return updates, State(moments)


def _momentum(rule: Rule, before: Moments, diff: Array) -> tuple[Array, Moments]:
    num_steps = before.num_steps + 1
    if not rule.momentum:
        return diff, Moments(num_steps)
    # A copy, because what is remembered must not be the message's own array.
    first = diff.copy() if before.first is None else np.asarray(rule.momentum * before.first + diff)
    direction = diff + rule.momentum * first if rule.nesterov else first
    return direction, Moments(num_steps, first)


def _adapt(rule: Rule, before: Moments, diff: Array) -> tuple[Array, Moments]:
    num_steps = before.num_steps + 1
    square = np.square(diff)
    first = (1 - rule.beta_1) * diff
    if before.first is not None:
        first = rule.beta_1 * before.first + first
    second = before.second if before.second is not None else np.full_like(diff, rule.initial_accumulator)
    if rule.optimizer == "adam":
        second = rule.beta_2 * second + (1 - rule.beta_2) * square
    elif rule.optimizer == "yogi":
        second = second - (1 - rule.beta_2) * square * np.sign(second - square)
    else:
        second = second + square
    direction, root = first, np.sqrt(second)
    if rule.bias_correction:
        direction = first / (1 - rule.beta_1**num_steps)
        root = root / math.sqrt(1 - rule.beta_2**num_steps)
    kept = np.asarray(first) if rule.beta_1 else None
    return direction / (root + rule.epsilon), Moments(num_steps, kept, np.asarray(second))


_FLAGS = ("nesterov", "bias_correction")


def _check_argument(key: str, value: object) -> None:
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, but got {value!r}")
        return
    if key == "initial_accumulator" and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} must be a number, but got {value!r}")
    if key == "epsilon":
        if value <= 0:
            raise ValueError(f"epsilon must be above 0, but got {value!r}")
    elif value < 0 or (value >= 1 and key != "initial_accumulator"):
        bound = "at least 0" if key == "initial_accumulator" else "in [0, 1)"
        raise ValueError(f"{key} must be {bound}, but got {value!r}")
