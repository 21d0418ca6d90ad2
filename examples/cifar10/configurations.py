"""What is compared: presets, configurations, and the job of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from learner import CifarLearner, GlobalAccuracy, Training

from hansa.errors import ConfigError
from hansa.jobs import Component, Job, fed_avg, fed_opt, fed_prox, scaffold

NUM_SITES = 8
NAMES = (
    "central",
    "fedavg-1.0",
    "fedavg-0.5",
    "fedavg-0.3",
    "fedavg-0.1",
    "fedprox-0.1",
    "fedopt-0.1",
    "scaffold-0.1",
)
PUBLISHED = {
    "central": 0.8798,
    "fedavg-1.0": 0.8854,
    "fedavg-0.5": 0.8633,
    "fedavg-0.3": 0.8350,
    "fedavg-0.1": 0.7733,
    "fedprox-0.1": 0.7615,
    "fedopt-0.1": 0.8013,
    "scaffold-0.1": 0.8222,
}
"""Accuracies that FLARE 2.0 publishes for these settings: one run each, without seed or spread."""

METHODS: dict[str, tuple[str, Callable[..., Job], dict[str, Any]]] = {  # Any: arguments of a recipe
    "fedavg": ("FedAvg", fed_avg, {}),
    "fedprox": ("FedProx", fed_prox, {"mu": 1e-5}),
    "fedopt": (
        "FedOpt",
        fed_opt,
        {
            "optimizer": "sgd",
            "server_learning_rate": {"schedule": "cosine", "initial": 1.0, "final": 0.9},
            "optimizer_args": {"momentum": 0.6},
        },
    ),
    "scaffold": ("SCAFFOLD", scaffold, {}),
}
CENTRAL = "central"


@dataclass(frozen=True)
class Preset:
    """The settings that all configurations share.

    Attributes:
        name: What it is called.
        rounds: Of the federated configurations.
        central_epochs: Of the central one: as many rounds of one epoch.
        images: The first so many training images are divided over the sites.
        test_images: The first so many test images measure the global model.
        training: What a site does in a round.
    """

    name: str
    rounds: int
    central_epochs: int
    images: int
    test_images: int
    training: Training


FULL = Preset("full", rounds=50, central_epochs=25, images=50_000, test_images=10_000, training=Training())
CPU = Preset(
    "cpu",
    rounds=12,
    central_epochs=16,
    images=10_000,
    test_images=2_000,
    training=Training(network="simple", epochs=2, batch=16, rate=0.005),
)
PRESETS = {preset.name: preset for preset in (FULL, CPU)}


@dataclass(frozen=True)
class Configuration:
    """One line of the table.

    Attributes:
        name: `central`, or a method and its alpha: `fedavg-0.1`.
        alpha: How unlike the sites are; None for the central one.
    """

    name: str
    alpha: float | None

    @classmethod
    def named(cls, name: str) -> Configuration:
        """The configuration of a name; any alpha will do.

        Raises:
            ConfigError: There is no such method, or alpha is no number above 0.
        """
        if name == CENTRAL:
            return cls(name, None)
        method, _, alpha = name.partition("-")
        if method not in METHODS:
            raise ConfigError(f"no configuration {name!r}; there are: {', '.join(NAMES)}", key="--only")
        try:
            value = float(alpha)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(f"alpha must be a number above 0, not {alpha!r}, in {name!r}", key="--only")
        return cls(f"{method}-{value}", value)

    @property
    def label(self) -> str:
        """How figures and tables call it."""
        if self.alpha is None:
            return CENTRAL
        return f"{METHODS[self.name.partition('-')[0]][0]}, alpha {self.alpha:g}"

    @property
    def num_sites(self) -> int:
        """How many sites take part."""
        return 1 if self.alpha is None else NUM_SITES

    def job(self, preset: Preset, seed: int, *, data: Path) -> Job:
        """The job; the seed decides initial weights and split.

        Args:
            preset: The settings.
            seed: Of this run.
            data: The folder that `data.unpack` has filled.
        """
        training, rounds = preset.training, preset.rounds
        if self.alpha is None:
            training, rounds = replace(training, epochs=1), preset.central_epochs
        torch.manual_seed(seed)
        how = {"data": str(data), "training": asdict(training)}
        _, recipe, options = METHODS["fedavg" if self.alpha is None else self.name.partition("-")[0]]
        return recipe(
            replace(training, device="cpu").new_network(),
            executor=Component(CifarLearner, alpha=self.alpha, num_sites=self.num_sites, seed=seed, **how),
            rounds=rounds,
            params_type="diff",
            server_components=[Component(GlobalAccuracy, num_images=preset.test_images, **how)],
            name=self.name.replace(".", "_"),
            **options,
        )
