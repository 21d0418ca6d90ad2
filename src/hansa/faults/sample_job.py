"""The job that `hansa faults` runs where it is given none: quick, deterministic, and with something to lose.

Each site keeps a momentum, some SCAFFOLD's control variate besides, and draws random numbers; one tensor travels in a
file, one in the message. A lost or doubled task, a state from a round too early or a seed drawn anew changes the model.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hansa.algorithms import scaffold as control_variates
from hansa.apis.app_constant import AlgorithmConstants, AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.jobs.component import Component
from hansa.jobs.job import Job
from hansa.jobs.recipes import fed_avg, scaffold

MODEL: Mapping[str, Any] = {"w": np.linspace(-1, 1, 90_000, dtype=np.float32).reshape(300, 300), "b": np.zeros(3)}
"""The initial weights; the first is too large for a frame."""
LEARNING_RATE = 0.1
NUM_STEPS = 3
_MOMENTUM = 0.9
_NOISE = 1e-3
_CONTROL, _OF_STEPS = "control", "momentum"

Tensors = dict[str, Any]  # Any: arrays


class MomentumSite(Executor):
    """Goes some random steps, with a momentum that it keeps from round to round.

    Args:
        task_s: How long a task takes at least.
    """

    def __init__(self, task_s: float = 0.05) -> None:
        super().__init__()
        self.task_s = task_s
        self.kept: Tensors = {}

    def state(self) -> Mapping[str, Any]:
        """The momentum, or the control variate."""
        return dict(self.kept)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.kept = dict(state)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Train for a round."""
        threading.Event().wait(self.task_s)
        received = from_shareable(shareable).data
        change = {}
        for name, value in received.items():
            self.kept[name] = drawn(value) + self.kept.get(name, 0) * value.dtype.type(_MOMENTUM)
            change[name] = np.asarray(self.kept[name])
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: NUM_STEPS}).to_shareable()


class ScaffoldSite(MomentumSite):
    """The same with SCAFFOLD's control variates besides."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Train for a round."""
        threading.Event().wait(self.task_s)
        parts = from_shareable(shareable).data
        received = parts[AppConstants.MODEL_WEIGHTS].data
        of_all = parts[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL].data
        control = self.kept.get(_CONTROL) or control_variates.init_control(received)
        momentum = self.kept.get(_OF_STEPS) or {name: np.zeros_like(value) for name, value in received.items()}
        trained = dict(received)
        for _ in range(NUM_STEPS):
            gradient = {name: drawn(value) + value for name, value in trained.items()}
            step = control_variates.corrected_gradient(gradient, control=control, control_global=of_all)
            momentum = {name: step[name] + old * old.dtype.type(_MOMENTUM) for name, old in momentum.items()}
            trained = {
                name: value - value.dtype.type(LEARNING_RATE) * momentum[name] for name, value in trained.items()
            }
        gained_control = control_variates.new_control(
            control,
            control_global=of_all,
            received=received,
            trained=trained,
            num_steps=NUM_STEPS,
            learning_rate=LEARNING_RATE,
        )
        self.kept = {_CONTROL: dict(gained_control), _OF_STEPS: momentum}
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: NUM_STEPS}
        change = {name: value - received[name] for name, value in trained.items()}
        gained = {name: value - control[name] for name, value in gained_control.items()}
        answer = {
            AppConstants.MODEL_WEIGHTS: DXO(DataKind.WEIGHT_DIFF, change, dict(meta)),
            AlgorithmConstants.SCAFFOLD_CTRL_DIFF: DXO(DataKind.WEIGHT_DIFF, gained, dict(meta)),
        }
        return DXO(DataKind.COLLECTION, answer).to_shareable()


class ServerNoise(FLComponent):
    """Adds a little to the sum on the server, from the server's own generators."""

    hears = frozenset((AppEventType.AFTER_AGGREGATION,))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Add it."""
        if event_type == AppEventType.AFTER_AGGREGATION:
            result = fl_ctx.get_prop(AppConstants.AGGREGATION_RESULT)
            sums = from_shareable(result)
            noisy = {name: value + drawn(value) * value.dtype.type(_NOISE) for name, value in sums.data.items()}
            DXO(sums.data_kind, noisy, sums.meta).update_shareable(result)


def drawn(like: Any) -> Any:  # Any: an array
    """Random numbers in the form of an array, from NumPy's and Python's generators."""
    like = np.asarray(like)
    return np.random.normal(size=like.shape).astype(like.dtype) * like.dtype.type(random.random())  # noqa: NPY002


def sample_job(recipe: str, *, rounds: int, seed: int = 0, name: str = "faults") -> Job:
    """The job.

    Args:
        recipe: `momentum` (FedAvg) or `scaffold`.
        rounds: How many.
        seed: What its random numbers come from.
        name: What it is called.
    """
    make, site = (scaffold, ScaffoldSite) if recipe == "scaffold" else (fed_avg, MomentumSite)
    noise = [] if recipe == "scaffold" else [Component(ServerNoise)]
    job = make(MODEL, executor=Component(site), rounds=rounds, params_type="diff", name=name, server_components=noise)
    return replace(job, meta={**job.meta, "seed": seed})
