"""The two networks: FLARE's for the published figures, and a small one for a laptop."""

from __future__ import annotations

import torch
from torch import nn


class ModerateCNN(nn.Module):
    """Six convolutions, three dense layers, no batch normalisation; 3,491,530 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_block(3, 32, 64),
            *_block(64, 128, 128),
            nn.Dropout2d(0.05),
            *_block(128, 256, 256),
        )
        self.dense = nn.Sequential(
            nn.Dropout(0.1),
            nn.Linear(4096, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(512, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images, shape (n, 3, 32, 32), to scores, shape (n, 10)."""
        return self.dense(self.convolutions(images).flatten(1))


def _block(num_in: int, *widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(num_in, width, 3, padding=1), nn.ReLU()]
        num_in = width
    return [*layers, nn.MaxPool2d(2)]


class SimpleNetwork(nn.Module):
    """Two convolutions and three dense layers, as in the announcement of FLARE 2.0; 62,006 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.dense = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images, shape (n, 3, 32, 32), to scores, shape (n, 10)."""
        return self.dense(self.convolutions(images).flatten(1))


NETWORKS: dict[str, type[nn.Module]] = {"moderate": ModerateCNN, "simple": SimpleNetwork}
