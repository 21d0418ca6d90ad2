"""What runs at a site: CIFAR-10 by FedAvg, FedProx, FedOpt or SCAFFOLD; and on the server, the global model's accuracy.

The images lie on the device as bytes and are cropped, flipped and scaled there. Network, optimizer and images stay on
the device between tasks; only the weights travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import load
from networks import NETWORKS
from torch.nn.functional import cross_entropy

from hansa.algorithms.partition import Parts, dirichlet, iid
from hansa.apis.app_constant import AlgorithmConstants, AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import OffersHistory, port
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.learner_spec import Learner
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.torch.pt_fedproxloss import PTFedProxLoss
from hansa.components.torch.pt_scaffold import PTScaffoldHelper, get_lr_values
from hansa.components.torch.tensor_memory import tensor_over

MARGIN = 4
"""How far a crop may be off the centre."""
MEAN, SPREAD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
"""Of the training images' red, green and blue."""
IN_A_TEST_BATCH = 1000

_WEIGHTS = AppConstants.MODEL_WEIGHTS
_CONTROLS = AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL
_CONTROL_CHANGE = AlgorithmConstants.SCAFFOLD_CTRL_DIFF


@dataclass(frozen=True)
class Training:
    """How a site trains.

    Attributes:
        network: `moderate` or `simple`.
        epochs: Passes over the site's images per round.
        batch: Images per step.
        rate: Learning rate.
        momentum: Of SGD; kept from round to round.
        device: `cuda` or `cpu`.
        fast: TF32 and the memory format channels_last, where the device gains by them; other bits.
    """

    network: str = "moderate"
    epochs: int = 4
    batch: int = 64
    rate: float = 0.01
    momentum: float = 0.9
    device: str = "cpu"
    fast: bool = False

    def new_network(self) -> torch.nn.Module:
        """A network on the device."""
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.fast
        network = NETWORKS[self.network]().to(self.device)
        return network.to(memory_format=torch.channels_last) if self.fast else network


def split(labels: np.ndarray[Any, Any], num_sites: int, *, alpha: float | None, seed: int) -> Parts:
    """Which images each site has: a Dirichlet split as FLARE's, or none (`alpha` None) for one site that has all."""
    if alpha is None:
        return iid(len(labels), num_sites, seed=seed)
    return dirichlet(labels, num_sites, alpha=alpha, seed=seed, balanced=True)


class CifarLearner(Learner):
    """Trains on this site's part of CIFAR-10 and sends back what training added to the weights.

    The algorithm follows from what the task brings: a proximal term if it has the header `fed_prox_mu`, control
    variates if it holds them, else plain SGD. The momentum of SGD and the controls are the site's state.

    Args:
        data: The folder that `data.unpack` has filled.
        alpha: How unlike the sites are; see `split`.
        num_sites: How many sites share the images; a site finds its part by its name (`site-1`, ...).
        seed: Of the split.
        training: See `Training`.
    """

    def __init__(
        self, data: str, *, alpha: float | None, num_sites: int, seed: int, training: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._data = Path(data)
        self._alpha = alpha
        self._seed = seed
        self._num_sites = num_sites
        self._training = Training(**(training or {}))
        self._controls = PTScaffoldHelper()
        self._has_controls = False

    def initialize(self, parts: dict[str, Any], fl_ctx: FLContext) -> None:
        """Find the site's images; network and optimizer stay from here to the end."""
        how = self._training
        self._windows, labels = training_images(self._data, how.device)
        position = int(fl_ctx.get_identity_name().rpartition("-")[2]) - 1
        mine = split(labels.cpu().numpy(), self._num_sites, alpha=self._alpha, seed=self._seed)[position]
        self._mine = torch.from_numpy(mine).to(how.device)
        self._labels = labels
        self._network, self._global = how.new_network(), how.new_network()
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=how.rate, momentum=how.momentum, fused=how.device == "cuda"
        )
        self._sender = parts.get("analytic_sender")

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """A few epochs from the received model on."""
        dxo = from_shareable(data)
        parts = dxo.data if dxo.data_kind == DataKind.COLLECTION else {_WEIGHTS: dxo}
        load_weights(self._global, parts[_WEIGHTS].data)
        self._network.load_state_dict(self._global.state_dict())
        if _CONTROLS in parts:
            self._take_controls(parts[_CONTROLS].data)
        loss = self._train(data.get_header("fed_prox_mu", 0.0), abort_signal)
        if loss is None:
            return make_reply(ReturnCode.TASK_ABORTED)
        if self._sender is not None:
            self._sender.add_scalar("train_loss", loss)
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: self._num_steps()}
        change = DXO(DataKind.WEIGHT_DIFF, weight_difference(self._network, self._global), meta)
        if _CONTROLS not in parts:
            return change.to_shareable()
        controls = DXO(DataKind.WEIGHT_DIFF, self._controls.get_delta_controls(), dict(meta))
        return DXO(DataKind.COLLECTION, {_WEIGHTS: change, _CONTROL_CHANGE: controls}).to_shareable()

    def state(self) -> Mapping[str, Any]:
        """The optimizer's momentum, by parameter, and the controls."""
        if not hasattr(self, "_optimizer"):
            return {}
        held = ((name, self._optimizer.state[value]) for name, value in self._network.named_parameters())
        momentum = {name: own["momentum_buffer"].cpu().numpy().copy() for name, own in held if "momentum_buffer" in own}
        return {"momentum": momentum, "controls": self._controls.state() if self._has_controls else {}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        momentum = state.get("momentum", {})
        for name, value in self._network.named_parameters():
            if name in momentum:
                self._optimizer.state[value]["momentum_buffer"] = torch.from_numpy(momentum[name]).to(value.device)
        if state.get("controls"):
            self._make_controls()
            self._controls.restore(state["controls"])

    def _make_controls(self) -> None:
        if not self._has_controls:
            self._controls.init(self._network)
            self._has_controls = True

    def _take_controls(self, weights: Mapping[str, Any]) -> None:
        self._make_controls()
        self._controls.load_global_controls(weights)

    def _num_steps(self) -> int:
        """Steps per epoch: all sites train the same number of epochs."""
        return -(-len(self._mine) // self._training.batch)

    def _train(self, mu: float, abort_signal: Signal) -> float | None:
        """The mean loss; None if the result is no longer wanted."""
        network, optimizer, controls = self._network, self._optimizer, self._controls
        proximal = PTFedProxLoss(mu) if mu else None
        terms = controls.get_params() if self._has_controls else None
        rate = get_lr_values(optimizer)[0]
        total = torch.zeros((), device=self._training.device)
        network.train()
        for batch in self._batches():
            if abort_signal.triggered:
                return None
            loss = cross_entropy(network(augmented(self._windows, batch)), self._labels[batch])
            total += loss.detach()
            if proximal is not None:
                loss = loss + proximal(network, self._global)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if terms is not None:
                controls.model_update(network, rate, *terms)
        if terms is not None:
            controls.terms_update(network, rate, *terms, self._global)
        return float(total) / (self._training.epochs * self._num_steps())

    def _batches(self) -> Iterator[torch.Tensor]:
        for _ in range(self._training.epochs):
            order = torch.randperm(len(self._mine), device=self._mine.device)
            yield from self._mine[order].split(self._training.batch)


class GlobalAccuracy(FLComponent):
    """On the server: the accuracy of the global model on the test images at the start of each round, and at the end.

    The history gets it as the metric `accuracy` of the round, and what the last round leaves as `final_accuracy`.

    Args:
        data: The folder that `data.unpack` has filled.
        num_images: The first so many of the test images.
        training: As the learner's.
    """

    reads_tensors = False  # of the sites' results, that is; it reads the global model
    hears = frozenset((AppEventType.ROUND_STARTED, AppEventType.ROUND_DONE))

    def __init__(self, data: str, *, num_images: int, training: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._data = Path(data)
        self._num_images = num_images
        self._training = Training(**(training or {}))
        self._network: torch.nn.Module | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Measure the model that a round begins with, or that the last one leaves."""
        kept = port(fl_ctx.get_engine(), OffersHistory)
        number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        is_last = number == fl_ctx.get_prop(AppConstants.NUM_ROUNDS) - 1
        if kept is None or (event_type == AppEventType.ROUND_DONE and not is_last):
            return
        name = "accuracy" if event_type == AppEventType.ROUND_STARTED else "final_accuracy"
        value = self._measure(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"])
        kept.history.scalar(number, "server", name=name, value=value)

    def _measure(self, weights: Mapping[str, Any]) -> float:
        if self._network is None:
            self._network = self._training.new_network()
        load_weights(self._network, weights)
        return accuracy(self._network, *test_images(self._data, self._training.device, self._num_images))


# -- images and weights ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def training_images(folder: Path, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All crops of all training images, without a copy for each, and the labels; one copy per process.

    Returns:
        uint8, shape (n, 3, 9, 9, 32, 32): the crop of an image by its offset from the top and the left; int64, (n,).
    """
    pixels, labels = load(folder, "train")
    bordered = np.pad(pixels, ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="reflect")
    windows = torch.from_numpy(bordered).to(device).unfold(2, 32, 1).unfold(3, 32, 1)
    return windows, torch.from_numpy(labels).to(device)


@lru_cache(maxsize=1)
def test_images(folder: Path, device: str, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first test images, uint8, shape (number, 3, 32, 32), and their labels."""
    pixels, labels = load(folder, "test")
    return torch.from_numpy(np.array(pixels[:number])).to(device), torch.from_numpy(labels[:number]).to(device)


def augmented(windows: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """A batch, each image cropped at random and mirrored or not.

    Args:
        windows: From `training_images`.
        batch: Which images, shape (n,).

    Returns:
        float32, shape (n, 3, 32, 32), scaled.
    """
    size, device = (len(batch),), windows.device
    down, right = (torch.randint(2 * MARGIN + 1, size, device=device) for _ in range(2))
    crops = windows[batch, :, down, right]
    is_mirrored = torch.rand(size, device=device) < 0.5
    return scaled(torch.where(is_mirrored.view(-1, 1, 1, 1), crops.flip(3), crops))


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes, shape (n, 3, 32, 32), to numbers of mean 0 and deviation 1 over the training images."""
    mean, spread = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
    return (pixels - mean) / spread


@torch.no_grad()
def accuracy(network: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """The part of the images that the network names rightly."""
    network.eval()
    batches = zip(pixels.split(IN_A_TEST_BATCH), labels.split(IN_A_TEST_BATCH), strict=True)
    right = sum((network(scaled(images)).argmax(dim=1) == wanted).sum() for images, wanted in batches)
    return int(right) / len(labels)


def load_weights(network: torch.nn.Module, weights: Mapping[str, Any]) -> None:
    """Put received arrays into a network."""
    network.load_state_dict({name: tensor_over(value) for name, value in weights.items()})


def weight_difference(network: torch.nn.Module, before: torch.nn.Module) -> dict[str, Any]:
    """What training added to each tensor, as arrays."""
    old = before.state_dict()
    return {name: (value - old[name]).cpu().numpy() for name, value in network.state_dict().items()}
