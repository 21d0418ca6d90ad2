"""Logistic regression on scaled values, and its score; nothing here knows of a federation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from data import COLUMNS, Patients

RATE = 0.5
STEPS = 5
DECAY = 1e-2
"""Weight of half the squared size of the weights in the loss."""
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each column, shape (13,) each."""

    mean: np.ndarray
    sd: np.ndarray

    @staticmethod
    def of(x: np.ndarray) -> Scale:
        """Of the values that are known; a column of which nothing or one value is known gets mean 0 and deviation 1."""
        known = np.isfinite(x)
        count = known.sum(axis=0)
        mean = np.where(count > 0, np.where(known, x, 0).sum(axis=0) / np.maximum(count, 1), 0.0)
        sd = np.sqrt(np.where(known, (x - mean) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1))
        return Scale(mean, np.where(sd > 0, sd, 1.0))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Scaled values; what is not known becomes the mean, 0."""
        return np.nan_to_num((x - self.mean) / self.sd, nan=0.0)


def initial() -> Weights:
    """Weights that say nothing."""
    return {"w": np.zeros(len(COLUMNS)), "b": np.zeros(1)}


def scores(weights: Weights, scale: Scale, x: np.ndarray) -> np.ndarray:
    """The larger, the likelier ill; shape (n,)."""
    return scale.apply(x) @ weights["w"] + weights["b"]


def train(weights: Weights, scale: Scale, patients: Patients, *, steps: int = STEPS) -> Weights:
    """Some steps of gradient descent on the whole of the patients."""
    x, w, b = scale.apply(patients.x), weights["w"], weights["b"]
    for _ in range(steps):
        error = 1 / (1 + np.exp(-(x @ w + b))) - patients.ill
        w = w - RATE * (x.T @ error / len(error) + DECAY * w)
        b = b - RATE * error.mean()
    return {"w": w, "b": b}


def auc(said: np.ndarray, ill: np.ndarray) -> float:
    """The area under the ROC curve: how probably someone ill has a larger score than someone who is not."""
    larger = said[ill][:, None] - said[~ill][None, :]
    return float(np.mean((larger > 0) + 0.5 * (larger == 0)))
