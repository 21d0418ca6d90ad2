"""Federations from objects, as users test their own parts with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.model_persistor import ModelPersistor
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.aggregators import InTimeAccumulateWeightedAggregator
from hansa.components.shareablegenerators import FullModelShareableGenerator
from hansa.components.workflows.scatter_and_gather import ScatterAndGather
from hansa.testing import Outcome, run_federation


class Adds(Executor):
    def __init__(self, what: float) -> None:
        super().__init__()
        self.what = what

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if self.what < 0:
            raise ValueError("less than nothing")
        data = {name: value + self.what for name, value in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHTS, data).to_shareable()


class InMemory(ModelPersistor):
    def load_model(self, fl_ctx: FLContext) -> object:
        return make_model_learnable({"w": np.zeros(2)}, {})

    def save_model(self, model: object, fl_ctx: FLContext) -> None:
        self.saved = model


def federated(folder: Path, *what: float) -> Outcome:
    parts = {
        "persistor": InMemory(),
        "aggregator": InTimeAccumulateWeightedAggregator(expected_data_kind="WEIGHTS"),
        "shareable_generator": FullModelShareableGenerator(),
    }
    executors = {f"site-{i + 1}": Adds(each) for i, each in enumerate(what)}
    return run_federation(ScatterAndGather(num_rounds=2), executors, folder=folder, components=parts)


def test_a_workflow_runs_over_executors_at_hand(tmp_path: Path) -> None:
    outcome = federated(tmp_path, 1.0, 2.0, 6.0)

    # each round adds (1 + 2 + 6) / 3 = 3
    assert outcome.context.get_prop("global_model")["weights"]["w"].tolist() == [6.0, 6.0]
    assert [sorted(r.counted) for r in outcome.history.rounds] == [["site-1", "site-2", "site-3"]] * 2
    assert outcome.failures == []


def test_failures_are_kept(tmp_path: Path) -> None:
    outcome = federated(tmp_path, 1.0, -1.0)

    assert len(outcome.failures) == 2
    assert outcome.failures[0].startswith("site-2, task train: ValueError: less than nothing (test_testing.py:")
    assert sorted(outcome.history.rounds[0].refused) == ["site-2"]
