"""The network, its training and its scores; nothing here knows of a federation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from data import NUM_FEATURES, Well, features
from torch import nn

NUM_CLASSES = 12
BATCH = 256
RATE = 1e-3


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each log, shape (10,) each."""

    mean: np.ndarray
    sd: np.ndarray

    @staticmethod
    def of(wells: list[Well]) -> Scale:
        """Of all rows of some wells; a log that none of them has gets mean 0 and deviation 1."""
        logs = np.concatenate([well.logs for well in wells]).astype(np.float64)
        count = np.isfinite(logs).sum(axis=0)
        mean = np.where(count > 0, np.nansum(logs, axis=0) / np.maximum(count, 1), 0.0)
        sd = np.sqrt(np.nansum((logs - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
        return Scale(mean, np.where((count > 1) & (sd > 0), sd, 1.0))


def new_network() -> nn.Module:
    """From what is known of a row to the scores of the classes."""
    return nn.Sequential(
        nn.Linear(NUM_FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES)
    )


def tensors(wells: list[Well], scale: Scale, every: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, float32, shape (rows, 40), and classes, shape (rows,), of all wells; one row of so many."""
    inputs = np.concatenate([features((well.logs - scale.mean) / scale.sd)[::every] for well in wells])
    return torch.from_numpy(inputs), torch.from_numpy(np.concatenate([well.lithology[::every] for well in wells]))


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> int:
    """Train in place; returns the number of steps."""
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    steps = 0
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
            steps += 1
    return steps


@torch.no_grad()
def predict(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    """The class of each row, shape (rows,)."""
    return network(x).argmax(1).numpy()


def accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """The part of the rows that is right."""
    return float((true == predicted).mean())


def penalty_score(true: np.ndarray, predicted: np.ndarray, penalty: np.ndarray) -> float:
    """The contest's score: minus the mean penalty of (true, predicted); 0 is best."""
    return float(-penalty[true, predicted].mean())
