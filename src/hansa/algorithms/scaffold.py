"""SCAFFOLD: control variates take the drift of unlike sites out of their local steps.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, arXiv:1910.06378,
algorithm 1. The server keeps x and c, site i keeps c_i, all controls begin at zero. In a round the server sends (x, c);
site i goes K local steps from y_i = x::

    y_i <- y_i - eta_l (g_i(y_i) - c_i + c)                    `corrected_gradient`

    c_i+ = g_i(x)                                   option I   the gradient at the received model, over all local data
    c_i+ = c_i - c + (x - y_i) / (K eta_l)          option II  `new_control`; needs no more gradients

and sends the differences y_i - x and c_i+ - c_i, which the server averages over the sites S that answered::

    x <- x + eta_g mean_S(y_i - x)
    c <- c + |S|/N mean_S(c_i+ - c_i)                          `server_update`

N is how many sites there are. The fixed point is the optimum of the mean loss (weigh the sites alike in both means),
whereas federated averaging with several local steps stops beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.algorithms.arrays import Array
from hansa.algorithms.named_tensors import Tensors, check_alike


@dataclass(frozen=True)
class ServerState:
    """What the server keeps.

    Attributes:
        weights: x, by name.
        control: c, by name: only of what sites train by gradients.
    """

    weights: Tensors
    control: Tensors


def init_control(weights: Tensors) -> dict[str, Array]:
    """A control before the first round, the server's or a site's: zeros of the shapes and dtypes of these weights."""
    return {name: np.zeros_like(weight) for name, weight in weights.items()}


def init(weights: Tensors, *, trained: Tensors | None = None) -> ServerState:
    """The server's state before the first round.

    Args:
        weights: The initial model.
        trained: Those of the weights that are trained by gradients; None for all of them.
    """
    return ServerState(dict(weights), init_control(weights if trained is None else trained))


def corrected_gradient(gradient: Tensors, *, control: Tensors, control_global: Tensors) -> dict[str, Array]:
    """What a site follows in place of its gradient: g - c_i + c, in the dtype of the gradient.

    Args:
        gradient: g_i(y_i), by name.
        control: c_i, the site's own.
        control_global: c, which came with the task.

    Raises:
        ValueError: A control is missing or of another shape.
    """
    check_alike(gradient, control=control, control_global=control_global)
    return {name: _in_dtype_of(value, value - control[name] + control_global[name]) for name, value in gradient.items()}


def new_control(
    control: Tensors,
    *,
    control_global: Tensors,
    received: Tensors,
    trained: Tensors,
    num_steps: int,
    learning_rate: float,
) -> dict[str, Array]:
    """A site's control after its local steps, by option II: c_i - c + (x - y_i) / (K eta_l).

    Option I needs no function: the new control is the gradient at `received` over all local data.

    Args:
        control: c_i, the site's own; its names count.
        control_global: c, which came with the task.
        received: x, the weights that came with the task.
        trained: y_i, the weights after training.
        num_steps: K, how many local steps there were, >= 1.
        learning_rate: eta_l of these steps, > 0. Where it changed on the way, give its mean over the steps.

    Returns:
        By name, in the dtypes of `control`; the difference from `control` is what the server is sent.

    Raises:
        ValueError: A number is out of range, or a tensor is missing or of another shape.
    """
    if num_steps < 1 or not learning_rate > 0:
        raise ValueError(f"no control can be told from {num_steps!r} steps of learning rate {learning_rate!r}")
    check_alike(control, control_global=control_global, received=received, trained=trained)
    scale = 1.0 / (num_steps * float(learning_rate))
    return {
        name: _in_dtype_of(value, value - control_global[name] + scale * (received[name] - trained[name]))
        for name, value in control.items()
    }


def server_update(
    state: ServerState,
    *,
    mean_weight_diff: Tensors,
    mean_control_diff: Tensors,
    server_learning_rate: float = 1.0,
    fraction: float = 1.0,
) -> ServerState:
    """The server's state after a round.

    Args:
        state: The state before it.
        mean_weight_diff: The mean of y_i - x over the sites that answered. A tensor that is not there stays.
        mean_control_diff: The mean of c_i+ - c_i over the same sites.
        server_learning_rate: eta_g.
        fraction: |S|/N: the share of all sites that answered, in (0, 1].

    Raises:
        ValueError: The fraction is out of range, or a difference is of no tensor of the state or of another shape.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of sites must be above 0 and at most 1, but got {fraction!r}")
    return ServerState(
        _moved(state.weights, mean_weight_diff, float(server_learning_rate), label="weights"),
        _moved(state.control, mean_control_diff, float(fraction), label="control"),
    )


def _moved(tensors: Tensors, differences: Tensors, factor: float, *, label: str) -> dict[str, Array]:
    check_alike(differences, **{label: tensors})
    moved = dict(tensors)
    for name, difference in differences.items():
        moved[name] = _in_dtype_of(tensors[name], tensors[name] + factor * difference)
    return moved


def _in_dtype_of(tensor: Array, value: Array) -> Array:
    if tensor.dtype.kind in "biu":
        value = np.rint(value)
    return np.asarray(value).astype(tensor.dtype, copy=False)
