"""A site of the tournament: it trains on one half of its digits and scores its model on the other half."""

import random

import numpy as np

from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor
from hansa.demos.digits import BATCH, NUM_HIDDEN, RATE, load_digits
from hansa.demos.small_network import accuracy, initial_weights, train_epoch


class ScoredTrainer(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        rng = np.random.default_rng(random.getrandbits(32))  # the same for the same site and round
        images, labels = load_digits(0).sites[int(fl_ctx.get_identity_name().rpartition("-")[2]) - 1]
        half = len(labels) // 2
        received = from_shareable(shareable).data or initial_weights(images.shape[1], NUM_HIDDEN, 10, seed=0)
        weights = {name: np.array(value) for name, value in received.items()}
        for _ in range(2):
            train_epoch(weights, images[:half], labels[:half], rate=RATE, batch=BATCH, rng=rng)
        return DXO(DataKind.WEIGHTS, weights, {"score": accuracy(weights, images[half:], labels[half:])}).to_shareable()
