"""A small network and its score; nothing here knows of a federation."""

from __future__ import annotations

import numpy as np
import torch
from data import NUM_FEATURES, Payments
from torch import nn

BATCH = 64
RATE = 1e-3


def new_network() -> nn.Module:
    """From a payment to the logarithm of the odds that it is a fraud."""
    return nn.Sequential(nn.Linear(NUM_FEATURES, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))


def train(network: nn.Module, payments: Payments, epochs: int) -> int:
    """Train in place; returns the number of steps."""
    x, y = torch.from_numpy(payments.x), torch.from_numpy(payments.fraud.astype(np.float32))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    steps = 0
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(network(x[batch])[:, 0], y[batch]).backward()
            optimizer.step()
            steps += 1
    return steps


@torch.no_grad()
def scores(network: nn.Module, payments: Payments) -> np.ndarray:
    """The larger, the likelier a fraud; shape (n,)."""
    return network(torch.from_numpy(payments.x))[:, 0].numpy()


def precision_and_recall(said: np.ndarray, fraud: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall where the threshold is each of the scores, from the highest down.

    Args:
        said: The score of each payment, shape (n,).
        fraud: Whether it is one, shape (n,).
        weight: How many genuine payments each one here stands for.
    """
    order = np.argsort(-said, kind="stable")
    ends = np.flatnonzero(np.diff(said[order], append=np.nan) != 0)  # payments with one score fall together
    found = np.cumsum(fraud[order])[ends]
    false = weight * np.cumsum(~fraud[order])[ends]
    return found / (found + false), found / fraud.sum()


def average_precision(said: np.ndarray, fraud: np.ndarray, weight: float) -> float:
    """The mean of the precision over the frauds, each taken where it is found."""
    precision, recall = precision_and_recall(said, fraud, weight)
    return float(np.sum(np.diff(recall, prepend=0) * precision))
