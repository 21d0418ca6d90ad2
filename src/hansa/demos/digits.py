"""Handwritten digits over eight unlike sites: what a data scientist would write.

The 1,797 images come with scikit-learn. A quarter is kept for testing; the rest is divided over the sites with a
Dirichlet split, so that most sites have never seen some of the digits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hansa.algorithms.partition import dirichlet
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import OffersHistory, port
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.demos.small_network import Images, Labels, accuracy, initial_weights, train_epoch
from hansa.errors import MissingExtra
from hansa.jobs import Component, Job, fed_avg

NUM_SITES = 8
ALPHA = 0.3
NUM_HIDDEN = 32
RATE = 0.1
BATCH = 16
LOCAL_EPOCHS = 2


@dataclass(frozen=True)
class Digits:
    """The data of one split.

    Attributes:
        sites: For each site its images, shape (n, 64) in [0, 1], and labels, shape (n,).
        test: Images and labels that no site trains on.
    """

    sites: list[tuple[Images, Labels]]
    test: tuple[Images, Labels]

    @property
    def pooled(self) -> tuple[Images, Labels]:
        """All sites' examples in one place, which in reality nobody may have."""
        return np.concatenate([x for x, _ in self.sites]), np.concatenate([y for _, y in self.sites])


@lru_cache(maxsize=8)
def load_digits(seed: int, num_sites: int = NUM_SITES, alpha: float = ALPHA) -> Digits:
    """Divide scikit-learn's digits over sites.

    Args:
        seed: Of the split into training, test and sites.
        num_sites: How many sites.
        alpha: How unlike they are; see `hansa.algorithms.partition.dirichlet`.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load_from_sklearn
    except ImportError:
        raise MissingExtra("the digits demo", extra="demo") from None
    images, labels = load_from_sklearn(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    num_test = len(labels) // 4
    test, train = order[:num_test], order[num_test:]
    parts = dirichlet(labels[train], num_sites, alpha=alpha, seed=seed, min_size=20)
    return Digits([(images[train[p]], labels[train[p]]) for p in parts], (images[test], labels[test]))


class DigitsTrainer(Executor):
    """Trains the network on this site's digits and sends back what training changed.

    Args:
        seed: Which split; the site finds its part by its name (`site-1`, ...).
        num_sites: How many sites share the data.
        local_epochs: Passes over the site's data per round.
    """

    def __init__(self, seed: int = 0, num_sites: int = NUM_SITES, local_epochs: int = LOCAL_EPOCHS) -> None:
        super().__init__()
        self._seed = seed
        self._num_sites = num_sites
        self._local_epochs = local_epochs

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Train for a few epochs; the accuracy before training goes along as the initial metric."""
        if task_name != AppConstants.TASK_TRAIN:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        # Hansa seeds `random` anew for each site and round. First of all: to import scikit-learn draws from it, too.
        rng = np.random.default_rng(random.getrandbits(32))
        position = int(fl_ctx.get_identity_name().rpartition("-")[2]) - 1
        images, labels = load_digits(self._seed, self._num_sites).sites[position]
        received = from_shareable(shareable).data
        weights = {name: value.copy() for name, value in received.items()}
        before = accuracy(weights, images, labels)
        steps = 0
        for _ in range(self._local_epochs):
            if abort_signal.triggered:
                return make_reply(ReturnCode.TASK_ABORTED)
            steps += train_epoch(weights, images, labels, rate=RATE, batch=BATCH, rng=rng)
        change = {name: weights[name] - received[name] for name in weights}
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: steps, MetaKey.INITIAL_METRICS: before}
        return DXO(DataKind.WEIGHT_DIFF, change, meta).to_shareable()


class GlobalTest(FLComponent):
    """On the server: measures the global model after each round on the test images.

    Args:
        seed: Which split.
        num_sites: How many sites share the data.
    """

    hears = frozenset((AppEventType.ROUND_DONE,))

    def __init__(self, seed: int = 0, num_sites: int = NUM_SITES) -> None:
        super().__init__()
        self._seed = seed
        self._num_sites = num_sites

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Report the accuracy when a round is done."""
        if event_type != AppEventType.ROUND_DONE:
            return
        kept = port(fl_ctx.get_engine(), OffersHistory)
        if kept is not None:
            weights = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"]
            value = accuracy(weights, *load_digits(self._seed, self._num_sites).test)
            kept.history.scalar(
                fl_ctx.get_prop(AppConstants.CURRENT_ROUND), "server", name="test_accuracy", value=value
            )


def digits_job(seed: int = 0, rounds: int = 40, num_sites: int = NUM_SITES) -> Job:
    """The job: federated averaging of the small network over the digits of `num_sites` sites.

    Args:
        seed: Of the split and the initial weights.
        rounds: How many rounds.
        num_sites: How many sites share the data.
    """
    return fed_avg(
        model=initial_weights(64, NUM_HIDDEN, 10, seed),
        executor=Component(DigitsTrainer, seed=seed, num_sites=num_sites),
        rounds=rounds,
        name="digits",
        params_type="diff",
        server_components=[Component(GlobalTest, seed=seed, num_sites=num_sites)],
    )
