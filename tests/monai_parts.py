"""Sites as MONAI's contract wants them, with a real network of MONAI; imported in slow tests only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.fl.client import ClientAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.losses import DiceLoss
from monai.networks.nets import BasicUNet


def network() -> BasicUNet:
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(2, 2, 2, 2, 2, 2))


class SquareAlgo(ClientAlgo):
    """Learns to find a bright square; what it is called is written down.

    Args:
        weight_type: What it sends.
        fails_in: The method that raises.
        diary: The file that takes a line for each call.
    """

    def __init__(self, weight_type: str = "weights", fails_in: str = "", diary: str = "diary.txt") -> None:
        self.weight_type, self.fails_in, self.diary = weight_type, fails_in, Path(diary).absolute()

    def _note(self, what: str, extra: dict[str, Any] | None) -> None:
        extra = extra or {}
        with self.diary.open("a") as file:
            file.write(f"{extra[ExtraItems.CLIENT_NAME]} {what} {extra.get('current_round', '-')}\n")
        if what == self.fails_in:
            raise ValueError(f"cannot {what}")

    def initialize(self, extra: dict[str, Any] | None = None) -> None:
        self._note("initialize", extra)
        assert extra is not None
        assert Path(extra[ExtraItems.APP_ROOT]).is_absolute()
        left = 4 if extra[ExtraItems.CLIENT_NAME] == "site-1" else 16
        self.masks = torch.zeros(2, 1, 32, 32)
        self.masks[:, :, left : left + 12, 8:20] = 1
        self.images = self.masks * 2 + torch.randn(self.masks.shape) * 0.1
        self.network = network()

    def train(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> None:
        self._note("train", extra)
        self.before = {name: value.clone() for name, value in data.weights.items()}
        self.network.load_state_dict(data.weights)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=0.02)
        self.steps = 4
        for _ in range(self.steps):
            optimizer.zero_grad()
            DiceLoss(sigmoid=True)(self.network(self.images), self.masks).backward()
            optimizer.step()

    def get_weights(self, extra: dict[str, Any] | None = None) -> ExchangeObject:
        assert extra is not None
        self._note(f"get_weights({extra.get(ExtraItems.MODEL_TYPE, '')})", extra)
        weights = self.network.state_dict()
        statistics = {FlStatistics.NUM_EXECUTED_ITERATIONS: getattr(self, "steps", 0)}
        if self.weight_type == "none":
            return ExchangeObject(weights=weights)
        if self.weight_type == "diff":
            weights = {name: value - self.before[name] for name, value in weights.items()}
            return ExchangeObject(weights=weights, weight_type=WeightType.WEIGHT_DIFF, statistics=statistics)
        return ExchangeObject(weights=weights, weight_type=WeightType.WEIGHTS, statistics=statistics)

    def evaluate(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> ExchangeObject:
        self._note("evaluate", extra)
        self.network.load_state_dict(data.weights)
        with torch.no_grad():
            loss = DiceLoss(sigmoid=True)(self.network(self.images), self.masks)
        return ExchangeObject(metrics={"dice": 1 - loss, "note": "no number"})

    def finalize(self, extra: dict[str, Any] | None = None) -> None:
        self._note("finalize", extra)


class TrainsOnly(SquareAlgo):
    """Has nothing to evaluate on."""

    def evaluate(self, data: ExchangeObject, extra: dict[str, Any] | None = None) -> ExchangeObject:
        return ClientAlgo.evaluate(self, data, extra)
