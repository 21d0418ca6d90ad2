"""A site as MONAI's contract wants it: a `ClientAlgo` with MONAI's network, loss, transforms and metric.

Nothing here knows of Hansa; `hansa.components.monai.client_algo_executor.ClientAlgoExecutor` calls it.
"""

from __future__ import annotations

from typing import Any

import torch
from data import Volumes, augmented, training_seed, volumes
from monai.fl.client import ClientAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.losses import DiceCELoss
from monai.metrics import compute_dice
from monai.networks.nets import UNet

BATCH = 2
RATE = 5e-3


def new_network() -> UNet:
    """A small 3-D U-Net without state of its own in the normalisation, so that all of it can be averaged."""
    return UNet(
        3, in_channels=1, out_channels=1, channels=(8, 16, 32), strides=(2, 2), num_res_units=1, norm="instance"
    )


def new_optimizer(network: UNet) -> torch.optim.Optimizer:
    """Adam over all weights."""
    return torch.optim.Adam(network.parameters(), lr=RATE)


def train(network: UNet, optimizer: torch.optim.Optimizer, data: Volumes, epochs: int) -> int:
    """Train in place on images and masks; returns the number of steps."""
    images, masks = data
    loss = DiceCELoss(sigmoid=True)
    change = augmented()
    change.set_random_state(seed=int(torch.randint(2**31, (1,))))
    network.train()
    steps = 0
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(BATCH):
            both = torch.stack([change(torch.cat([images[each], masks[each]])) for each in batch])
            optimizer.zero_grad()
            loss(network(both[:, :1]), both[:, 1:]).backward()
            optimizer.step()
            steps += 1
    return steps


@torch.no_grad()
def segmented(network: UNet, images: torch.Tensor) -> torch.Tensor:
    """Masks, 0 or 1, of the images' shape."""
    network.eval()
    return (network(images) > 0).float()


def dice(network: UNet, images: torch.Tensor, masks: torch.Tensor) -> float:
    """Mean Dice coefficient of the volumes: 1 where both masks are the same."""
    return float(compute_dice(segmented(network, images), masks).mean())


class ScannerAlgo(ClientAlgo):
    """One scanner's site: network, optimizer and volumes stay from round to round, weights come and go.

    Args:
        number: How many training volumes the site has.
        seed: Of the volumes.
        epochs: Passes over them per round.
    """

    def __init__(self, number: int, seed: int, epochs: int = 2) -> None:
        self.number, self.seed, self.epochs = number, seed, epochs

    def initialize(self, extra: dict[str, Any] | None = None) -> None:
        """Make the volumes of the scanner that the site is called after."""
        self.data = volumes((extra or {})[ExtraItems.CLIENT_NAME], self.number, training_seed(self.seed))
        self.network = new_network()
        self.optimizer = new_optimizer(self.network)
        self.steps = 0

    def train(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> None:
        """Train from the received weights on."""
        self.network.load_state_dict(data.weights)
        self.steps = train(self.network, self.optimizer, self.data, self.epochs)

    def get_weights(self, extra: dict[str, Any] | None = None) -> ExchangeObject:
        """The weights, and how many steps are behind them."""
        return ExchangeObject(
            weights=self.network.state_dict(),
            weight_type=WeightType.WEIGHTS,
            statistics={FlStatistics.NUM_EXECUTED_ITERATIONS: self.steps},
        )

    def evaluate(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> ExchangeObject:
        """How a model does on this site's volumes."""
        self.network.load_state_dict(data.weights)
        return ExchangeObject(metrics={"dice": dice(self.network, *self.data)})
