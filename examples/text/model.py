"""The network, its training and its score; nothing here knows of a federation."""

from __future__ import annotations

import numpy as np
import torch
from data import LENGTH, NUM_CODES, UNKNOWN
from torch import nn

BATCH = 16
RATE = 0.01
WARM_UP = 16
"""Characters at the beginning of a window that are read and not scored, since little is known there."""


class NextCharacter(nn.Module):
    """A small GRU that says of every character which one comes next."""

    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.embed = nn.Embedding(NUM_CODES, 16)
        self.gru = nn.GRU(16, hidden, batch_first=True)
        self.head = nn.Linear(hidden, NUM_CODES)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Scores of the next character, shape (n, length, 79), for codes of shape (n, length)."""
        return self.head(self.gru(self.embed(codes))[0])


def train(network: nn.Module, text: np.ndarray, characters: int, batch: int = BATCH) -> int:
    """Train in place on windows drawn at random.

    Args:
        network: Is trained.
        text: Codes, uint8, shape (n,), n > `LENGTH`.
        characters: How many to read, in all.
        batch: Windows in a step.

    Returns:
        The number of steps.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    steps = max(1, characters // (batch * LENGTH))
    for _ in range(steps):
        starts = torch.randint(len(text) - LENGTH, (batch, 1)).numpy()
        windows = torch.from_numpy(text[starts + np.arange(LENGTH + 1)].astype(np.int64))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return steps


@torch.no_grad()
def accuracy(network: nn.Module, text: np.ndarray) -> float:
    """How often the likeliest next character is the right one; every character of a text counts once."""
    starts = np.arange(0, len(text) - LENGTH, LENGTH - WARM_UP)[:, None]
    windows = torch.from_numpy(text[starts + np.arange(LENGTH + 1)].astype(np.int64))
    said = network(windows[:, :-1]).argmax(2)
    return (said == windows[:, 1:])[:, WARM_UP:].float().mean().item()


@torch.no_grad()
def continued(network: nn.Module, prompt: np.ndarray, number: int, seed: int) -> np.ndarray:
    """A text goes on as the model thinks; codes, shape (number,), drawn at temperature 0.5.

    Args:
        network: The model.
        prompt: Codes of how the text begins.
        number: How many characters to write.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    text = torch.from_numpy(prompt.astype(np.int64))
    for _ in range(number):
        chances = (network(text[None, -LENGTH:])[0, -1, :UNKNOWN] / 0.5).softmax(0)
        text = torch.cat([text, torch.multinomial(chances, 1, generator=generator)])
    return text[len(prompt) :].numpy()
