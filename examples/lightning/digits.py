"""A module of Lightning and its data: the handwritten digits that come with scikit-learn."""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, _):
        x, y = batch
        return nn.functional.cross_entropy(self.layers(x), y)

    def validation_step(self, batch, _):
        x, y = batch
        self.log("accuracy", (self.layers(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def load(site=None, num_sites=2):
    """The training data of one site (every second image from its number on), or of all; and the test data."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    number = 0 if site is None else int(site.rpartition("-")[2]) - 1
    train = slice(None, 1400) if site is None else slice(number, 1400, num_sites)
    return DataLoader(TensorDataset(x[train], y[train]), batch_size=16), DataLoader(
        TensorDataset(x[1400:], y[1400:]), 500
    )


def quiet_trainer(**more):
    return pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **more
    )
