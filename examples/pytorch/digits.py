"""A model and its data: a small network for the handwritten digits that come with scikit-learn."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.head(x.flatten(1))


def load(site=None, num_sites=8):
    """The training data of one site (every eighth image from its number on), or of all; and the test data."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    number = 0 if site is None else int(site.rpartition("-")[2]) - 1
    train = slice(None, 1400) if site is None else slice(number, 1400, num_sites)
    loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=16, shuffle=True)
    return loader, (x[1400:], y[1400:])
