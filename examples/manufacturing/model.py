"""The network, its training and its score; nothing here knows of a federation."""

from __future__ import annotations

import numpy as np
import torch
from data import MOST_LIFE, SENSORS
from torch import nn

BATCH = 64
RATE = 1e-3


class LifeNet(nn.Module):
    """A small 1-D convolutional network over the cycles of a window.

    The first layer scales the sensors by all that it has seen. Its means and variances are part of the state, so they
    are averaged over the plants like the weights, and nobody has to agree on a scale beforehand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(len(SENSORS), affine=False, momentum=None)
        self.first = nn.Conv1d(len(SENSORS), 32, 5)
        self.second = nn.Conv1d(32, 32, 5)
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cycles left, shape (n,), for windows of shape (n, 14, 30)."""
        x = self.second(self.first(self.scale(x)).relu()).relu()
        return self.head(torch.cat([x.mean(2), x[:, :, -1]], dim=1)).squeeze(1) * MOST_LIFE


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> int:
    """Train in place; returns the number of steps."""
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    network.train()
    steps = 0
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x[batch]) / MOST_LIFE, y[batch] / MOST_LIFE).backward()
            optimizer.step()
            steps += 1
    return steps


@torch.no_grad()
def predict(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Cycles left, shape (n,)."""
    network.eval()
    return network(x).numpy()


def rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared error, in cycles."""
    return float(np.sqrt(np.mean((np.asarray(predicted, np.float64) - true) ** 2)))
