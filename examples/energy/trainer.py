"""What runs at a site: where its wells are, for the statistics, and the training on its wells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from data import LOGS, Well, load, split
from model import Scale, new_network, tensors, train

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.apis.statistics_source import StatisticsSource
from hansa.components.torch.tensor_memory import tensor_over


def wells_of(fl_ctx: FLContext, data: str, seed: int) -> list[Well]:
    """The training wells of this site, which finds them by its name."""
    return split(load(Path(data)).wells, seed)[0][fl_ctx.get_identity_name()]


class Wells(StatisticsSource):
    """The logs of this site's training wells, for the federation's statistics.

    Args:
        data: The data folder.
        seed: Which wells are held out.
    """

    def __init__(self, data: str, seed: int) -> None:
        super().__init__()
        self._data, self._seed = data, seed

    def load(self, fl_ctx: FLContext) -> dict[str, dict[str, np.ndarray]]:
        """All rows, one column for each log; NaN is missing."""
        logs = np.concatenate([well.logs for well in wells_of(fl_ctx, self._data, self._seed)])
        return {"train": dict(zip(LOGS, logs.T, strict=True))}


class WellTrainer(Executor):
    """Trains on the site's wells, scaled by the mean and deviation of the whole federation.

    Args:
        data: The data folder.
        seed: Which wells are held out.
        every: One row of so many is used.
    """

    def __init__(self, data: str, seed: int, *, every: int = 1) -> None:
        super().__init__()
        self._data, self._seed, self._every = data, seed, every
        self._tensors = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """One pass over the site's rows, from the received weights on."""
        if task_name != AppConstants.TASK_TRAIN:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        if self._tensors is None:  # once; later rounds find it
            scaler = fl_ctx.get_engine().get_component("scaler")
            order = [scaler.features.index(name) for name in LOGS]
            scale = Scale(scaler.mean[order], scaler.sd[order])
            self._tensors = tensors(wells_of(fl_ctx, self._data, self._seed), scale, self._every)
        network = new_network()
        network.load_state_dict({name: tensor_over(value) for name, value in from_shareable(shareable).data.items()})
        steps = train(network, *self._tensors, epochs=1)
        weights = {name: value.numpy() for name, value in network.state_dict().items()}
        return DXO(DataKind.WEIGHTS, weights, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}).to_shareable()
