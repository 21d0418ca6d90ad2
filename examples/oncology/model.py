"""Cox regression (Cox 1972) with Breslow's ties, by Newton's method; nothing here knows of a federation."""

from __future__ import annotations

import numpy as np
from data import NUM_FEATURES, Patients

RIDGE = 1.0
"""Half of it times the squared size of the weights is taken from the log partial likelihood: some see few deaths."""


def derivatives(beta: np.ndarray, patients: Patients) -> tuple[np.ndarray, np.ndarray]:
    """Gradient, shape (39,), and negative Hessian, shape (39, 39), of the log partial likelihood.

    Each death is held against the patients of the same group who were still under observation then. Without a death
    both are zero.
    """
    order = np.argsort(-patients.days, kind="stable")
    x, died, days = patients.x[order], patients.died[order], patients.days[order]
    risk = np.exp(x @ beta - np.max(x @ beta, initial=0.0))
    # Sums over everyone who was observed at least as long: the last place with the same time has all of them.
    last = np.searchsorted(-days, -days, side="right") - 1
    sum_0 = np.cumsum(risk)[last]
    sum_1 = np.cumsum(risk[:, None] * x, axis=0)[last]
    sum_2 = np.cumsum(risk[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)
    gradient, hessian = np.zeros(len(beta)), np.zeros((len(beta), len(beta)))
    for row in np.flatnonzero(died):
        mean = sum_1[row] / sum_0[row]
        gradient += x[row] - mean
        hessian += sum_2[last[row]] / sum_0[row] - np.outer(mean, mean)
    return gradient, hessian


def step(beta: np.ndarray, gradient: np.ndarray, hessian: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Newton's next weights, shape (39,), with the ridge's own derivatives added."""
    return beta + np.linalg.solve(hessian + ridge * np.eye(len(beta)), gradient - ridge * beta)


def fit(patients: Patients, steps: int) -> np.ndarray:
    """The weights after some steps from zero, shape (39,)."""
    beta = np.zeros(NUM_FEATURES)
    for _ in range(steps):
        beta = step(beta, *derivatives(beta, patients))
    return beta


def concordance(risk: np.ndarray, patients: Patients) -> float:
    """Harrell's C: of two patients of whom one died first, how often that one had the higher risk."""
    right = pairs = 0.0
    for row in np.flatnonzero(patients.died):
        longer = patients.days > patients.days[row]
        pairs += longer.sum()
        right += (risk[row] > risk[longer]).sum() + 0.5 * (risk[row] == risk[longer]).sum()
    return float(right / pairs)
