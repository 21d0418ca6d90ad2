"""Training in torch, once as Hansa's executor and once as a plain loop over processes; both call the same functions.

As a program it is one process of the plain loop: it takes weights, trains its sites on them one after the other, and
gives the weighted sum of what came out.
"""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal

Weights = dict[str, Any]  # Any: arrays or tensors


@dataclass(frozen=True)
class Setting:
    """What every site does in a round.

    Attributes:
        network: A key of `NETWORKS`.
        num_images: How many images a site has.
        batch: How many go into one step.
        rate: Of plain SGD.
        device: Where it trains.
    """

    network: str
    num_images: int
    batch: int
    rate: float = 0.01
    device: str = "cpu"


def small_network() -> nn.Module:
    """Two convolutions and three dense layers: 62,006 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def dense_network() -> nn.Module:
    """Two convolutions and a wide dense layer, the network of pfl's CIFAR-10 benchmark: 1,626,442 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(64 * 14 * 14, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


NETWORKS = {"small": small_network, "dense": dense_network}


@cache
def images(site: str, num_images: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A site's images, shape (n, 3, 32, 32), and labels, shape (n,)."""
    generator = torch.Generator().manual_seed(int(site.rpartition("-")[2]))
    pixels = torch.rand(num_images, 3, 32, 32, generator=generator)
    return pixels.to(device), torch.randint(0, 10, (num_images,), generator=generator).to(device)


class Trainee:
    """A network that trains on one site's images after the other."""

    def __init__(self, setting: Setting) -> None:
        torch.manual_seed(0)
        self.setting = setting
        self.network = NETWORKS[setting.network]().to(setting.device).train()
        self.loss = nn.CrossEntropyLoss()

    def train(self, weights: Weights, site: str) -> int:
        """One epoch from these weights; returns the number of steps."""
        setting = self.setting
        self.network.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
        x, y = images(site, setting.num_images, setting.device)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=setting.rate)
        num_steps = 0
        for begin in range(0, len(x), setting.batch):
            optimizer.zero_grad()
            self.loss(self.network(x[begin : begin + setting.batch]), y[begin : begin + setting.batch]).backward()
            optimizer.step()
            num_steps += 1
        return num_steps


class Trainer(Executor):
    """The same as a site's executor; all sites of a process train one network.

    Args:
        network: See `Setting`.
        num_images: Likewise.
        batch: Likewise.
        rate: Likewise.
        device: Likewise.
    """

    stateless = True
    _trainees: ClassVar[dict[Setting, Trainee]] = {}

    def __init__(self, network: str, num_images: int, *, batch: int, rate: float, device: str) -> None:
        super().__init__()
        self._setting = Setting(network, num_images, batch, rate, device)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        trainee = self._trainees.get(self._setting)
        if trainee is None:
            trainee = self._trainees[self._setting] = Trainee(self._setting)
        steps = trainee.train(from_shareable(shareable).data, fl_ctx.get_identity_name())
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}
        return DXO(DataKind.WEIGHTS, dict(trainee.network.state_dict()), meta).to_shareable()


class BareLoop:
    """The same work without a framework: processes that train their share of the sites, and a mean.

    Args:
        setting: What a site does.
        num_processes: Over how many processes the sites of a round are spread; 0: this one.
    """

    def __init__(self, setting: Setting, num_processes: int) -> None:
        self.weights = {name: value.numpy() for name, value in NETWORKS[setting.network]().state_dict().items()}
        self._local = Trainee(setting) if num_processes == 0 else None
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(num_processes):
            ours, theirs = context.Pipe()
            self._ends.append(ours)
            self._processes.append(context.Process(target=_serve, args=(theirs, setting), daemon=True))
            self._processes[-1].start()

    def round(self, sites: list[str]) -> None:
        """Train on the sites and take the mean."""
        if self._local is not None:
            sums = [_trained(self._local, self.weights, sites)]
        else:
            shares = [part.tolist() for part in np.array_split(np.array(sites), len(self._ends))]
            for end, share in zip(self._ends, shares, strict=True):
                end.send((self.weights, share))
            sums = [end.recv() for end in self._ends]
        total = sum(weight for _, weight in sums)
        self.weights = {name: sum(each[name] for each, _ in sums) / np.float32(total) for name in self.weights}

    def close(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.send(None)
        for process in self._processes:
            process.join()


def _trained(trainee: Trainee, weights: Weights, sites: list[str]) -> tuple[Weights, int]:
    total: Weights = {}
    num_steps = 0
    for site in sites:
        steps = trainee.train(weights, site)
        num_steps += steps
        for name, value in trainee.network.state_dict().items():
            term = value.cpu().numpy() * np.float32(steps)
            total[name] = total[name] + term if name in total else term
    return total, num_steps


def _serve(end: Connection, setting: Setting) -> None:
    torch.set_num_threads(1)
    trainee = Trainee(setting)
    while (asked := end.recv()) is not None:
        end.send(_trained(trainee, *asked))
