"""What runs at a hospital: its patients for the statistics, the training, and the measuring of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from data import COLUMNS, load, split
from model import Scale, auc, scores, train

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.apis.statistics_source import StatisticsSource


class Records(StatisticsSource):
    """The training patients of this hospital, which finds its file by its name.

    Args:
        data: The data folder.
        seed: Who is held out.
    """

    def __init__(self, data: str, seed: int) -> None:
        super().__init__()
        self._data, self._seed = Path(data), seed

    def load(self, fl_ctx: FLContext) -> dict[str, dict[str, np.ndarray]]:
        """A column for each of the 13 features; NaN is missing."""
        patients, _ = split(load(self._data, fl_ctx.get_identity_name()), self._seed)
        return {"train": dict(zip(COLUMNS, patients.x.T, strict=True))}


class HospitalTrainer(Executor):
    """Trains on its patients and measures models on those held out, scaled by the whole federation's statistics.

    Args:
        data: The data folder.
        seed: Who is held out.
    """

    def __init__(self, data: str, seed: int) -> None:
        super().__init__()
        self._data, self._seed = Path(data), seed
        self._own = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """`train`: a few steps. `validate`: the AUC of a model. `submit_model`: this hospital's own last weights."""
        if task_name == AppConstants.TASK_SUBMIT_MODEL:
            return DXO(DataKind.WEIGHTS, dict(self._own)).to_shareable()
        patients, held_out = split(load(self._data, fl_ctx.get_identity_name()), self._seed)
        scaler = fl_ctx.get_engine().get_component("scaler")
        order = [scaler.features.index(name) for name in COLUMNS]
        scale = Scale(scaler.mean[order], scaler.sd[order])
        weights = from_shareable(shareable).data
        if task_name == AppConstants.TASK_VALIDATION:
            measured = auc(scores(weights, scale, held_out.x), held_out.ill)
            return DXO(DataKind.METRICS, {"auc": measured}).to_shareable()
        self._own = train(weights, scale, patients)
        return DXO(DataKind.WEIGHTS, self._own, {MetaKey.NUM_STEPS_CURRENT_ROUND: len(patients.ill)}).to_shareable()
