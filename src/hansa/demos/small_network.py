"""A network with one hidden layer in plain NumPy, small enough to read in a minute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]
Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def initial_weights(num_inputs: int, num_hidden: int, num_classes: int, seed: int) -> Weights:
    """Weights before training: He et al. 2015 (arXiv:1502.01852) for the layers, zero for the biases."""
    rng = np.random.default_rng(seed)
    return {
        "hidden.weight": rng.normal(0, np.sqrt(2 / num_inputs), (num_inputs, num_hidden)).astype(np.float32),
        "hidden.bias": np.zeros(num_hidden, np.float32),
        "output.weight": rng.normal(0, np.sqrt(2 / num_hidden), (num_hidden, num_classes)).astype(np.float32),
        "output.bias": np.zeros(num_classes, np.float32),
    }


def _forward(weights: Weights, images: Images) -> tuple[Images, Images]:
    hidden = np.maximum(images @ weights["hidden.weight"] + weights["hidden.bias"], 0)
    return hidden, hidden @ weights["output.weight"] + weights["output.bias"]


def accuracy(weights: Weights, images: Images, labels: Labels) -> float:
    """The share of images, shape (n, inputs), whose most likely class is their label, shape (n,)."""
    return float(np.mean(_forward(weights, images)[1].argmax(axis=1) == labels))


def train_epoch(
    weights: Weights, images: Images, labels: Labels, *, rate: float, batch: int, rng: np.random.Generator
) -> int:
    """One pass of stochastic gradient descent on the cross-entropy, in place; returns the number of steps."""
    order = rng.permutation(len(labels))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        _step(weights, images[chosen], labels[chosen], rate)
    return -(-len(order) // batch)


def _step(weights: Weights, images: Images, labels: Labels, rate: float) -> None:
    hidden, scores = _forward(weights, images)
    scores -= scores.max(axis=1, keepdims=True)
    error = np.exp(scores)
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ weights["output.weight"].T) * (hidden > 0)
    weights["output.weight"] -= rate * (hidden.T @ error)
    weights["output.bias"] -= rate * error.sum(axis=0)
    weights["hidden.weight"] -= rate * (images.T @ back)
    weights["hidden.bias"] -= rate * back.sum(axis=0)
