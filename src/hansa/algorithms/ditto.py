"""Ditto: every site trains a model of its own beside the global one, drawn to it as strongly as one likes.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021, arXiv:2012.04221, algorithm
1. The global model is trained by federated averaging (or anything else); site k also goes steps on::

    min_v  h_k(v; w) = F_k(v) + lambda/2 ||v - w||^2

    v <- v - eta (grad F_k(v) + lambda (v - w))                `personal_step`

w is the global model that it received. lambda = 0 is training alone, lambda to infinity is the global model. v never
leaves the site and is kept from round to round (`state()` of the component that trains).
"""

from __future__ import annotations

import numpy as np

from hansa.algorithms.arrays import Array
from hansa.algorithms.named_tensors import Tensors, check_alike


def init(received: Tensors) -> dict[str, Array]:
    """The personal model before the first step: a copy of the global one."""
    return {name: np.array(tensor) for name, tensor in received.items()}


def personal_step(
    personal: Tensors, gradient: Tensors, *, received: Tensors, ditto_lambda: float, learning_rate: float
) -> dict[str, Array]:
    """The personal model after one step of gradient descent.

    Stable for eta (L + lambda) < 2, where L bounds the curvature of F_k: a large lambda wants a small eta.

    Args:
        personal: v, by name.
        gradient: The gradient of the local loss at v; tensors without one stay as they are.
        received: w, the global model.
        ditto_lambda: How strongly v is drawn to w, >= 0.
        learning_rate: eta.

    Returns:
        The next v, in the dtypes of `personal`.

    Raises:
        ValueError: `ditto_lambda` is below 0, or a tensor is missing or of another shape.
    """
    if not ditto_lambda >= 0:
        raise ValueError(f"ditto_lambda must be at least 0, but got {ditto_lambda!r}")
    check_alike(gradient, personal=personal, received=received)
    pull, eta = float(ditto_lambda), float(learning_rate)
    stepped = dict(personal)
    for name, slope in gradient.items():
        v = personal[name]
        stepped[name] = np.asarray(v - eta * (slope + pull * (v - received[name]))).astype(v.dtype, copy=False)
    return stepped
