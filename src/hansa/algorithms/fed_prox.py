"""FedProx: sites stay near the global model, however long they train and however unlike their data is.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127, equation 2. Site k
minimises, from the received weights w_t on, by any solver and as far as it gets::

    h_k(w; w_t) = F_k(w) + mu/2 ||w - w_t||^2

and the server averages as ever. mu = 0 is federated averaging; as mu grows, sites move less. The global model's fixed
point is nearer to the optimum of the mean loss than that of federated averaging, but it is not that optimum.

The gradient of the term is mu (w - w_t): add it to the gradient of the loss in each local step.
"""

from __future__ import annotations

import numpy as np

from hansa.algorithms.arrays import Array
from hansa.algorithms.named_tensors import Tensors, check_alike


def proximal_term(weights: Tensors, received: Tensors, *, mu: float) -> float:
    """mu/2 times the sum of all squared differences, added up in float64.

    Args:
        weights: The trained parameters, of floats; what is not among them (buffers, counters) has no part in it.
        received: The global model's; may have more names.
        mu: Weight of the term, >= 0.

    Raises:
        ValueError: `mu` is below 0, or a parameter is missing or of another shape.
    """
    _check(weights, received, mu)
    squares = 0.0
    for name, weight in weights.items():
        difference = np.subtract(weight, received[name], dtype=np.float64)
        squares += float(np.vdot(difference, difference))
    return 0.5 * float(mu) * squares


def proximal_gradient(weights: Tensors, received: Tensors, *, mu: float) -> dict[str, Array]:
    """The gradient of the term: mu (w - w_t), by name, in the dtype of the weights.

    Args:
        weights: See `proximal_term`.
        received: Likewise.
        mu: Likewise.

    Raises:
        ValueError: See `proximal_term`.

    Example:
        >>> proximal_gradient({"w": np.array([3.0])}, {"w": np.array([1.0])}, mu=0.5)
        {'w': array([1.])}
    """
    _check(weights, received, mu)
    return {name: np.asarray(float(mu) * (weight - received[name])) for name, weight in weights.items()}


def _check(weights: Tensors, received: Tensors, mu: float) -> None:
    if not mu >= 0:
        raise ValueError(f"mu must be at least 0, but got {mu!r}")
    check_alike(weights, received=received)
