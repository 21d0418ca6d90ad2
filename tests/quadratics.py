"""Sites with unlike quadratic losses, whose best common point is known: they travel to worker processes as this file.

Site i has f_i(w, b) = Σ a_ik (w_k - t_ik)² / 2 + d_i (b - u_i)² / 2. All numbers come from the site's number alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.algorithms import scaffold
from hansa.apis.app_constant import AlgorithmConstants, AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal

Tensors = dict[str, Any]

MODEL = {"w": np.zeros(3), "b": np.float64(0.0), "seen": np.int64(7)}  # the last is not trained
TRAINED = ("w", "b")
LEARNING_RATE = 0.1
NUM_STEPS = 10  # of each site, per round


def loss_of(number: int) -> tuple[Tensors, Tensors]:
    """Curvature and own best point of a site."""
    draw = np.random.default_rng(number)
    curvature = {"w": draw.uniform(0.3, 3.0, 3), "b": np.float64(draw.uniform(0.3, 3.0))}
    return curvature, {"w": draw.normal(scale=3.0, size=3), "b": np.float64(draw.normal(scale=3.0))}


def optimum(weights: Mapping[int, float]) -> Tensors:
    """The best point of Σ weight(i) f_i: Σ weight a_i t_i / Σ weight a_i."""
    found = {}
    for name in TRAINED:
        curves = {i: weight * loss_of(i)[0][name] for i, weight in weights.items()}
        found[name] = sum(curves[i] * loss_of(i)[1][name] for i in curves) / sum(curves.values())
    return found


def distance(model: Mapping[str, Any], point: Tensors) -> float:
    return max(float(np.abs(model[name] - point[name]).max()) for name in TRAINED)


class FedAvgSite(Executor):
    """Goes some steps down its own loss.

    Args:
        steps: By site, how many steps it says that it has made; None: it does not say.
        folder: Where it is marked that a task was tried; with it, each task kills its process once.
        killed: The sites that do.
    """

    def __init__(self, steps: Mapping[str, int] | None = None, folder: str = "", killed: Iterable[str] = ()) -> None:
        super().__init__()
        self.steps = steps
        self.folder = folder
        self.killed = tuple(killed)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        zeros = scaffold.init_control({name: received[name] for name in TRAINED})
        trained = self.train(received, zeros, zeros, fl_ctx=fl_ctx)
        return DXO(DataKind.WEIGHT_DIFF, difference(trained, received), self.meta(fl_ctx)).to_shareable()

    def train(self, received: Tensors, control: Tensors, control_global: Tensors, *, fl_ctx: FLContext) -> Tensors:
        curvature, best = loss_of(int(fl_ctx.get_identity_name().rpartition("-")[2]))
        trained = {name: received[name] for name in TRAINED}
        for _ in range(NUM_STEPS):
            gradient = {name: curvature[name] * (value - best[name]) for name, value in trained.items()}
            step = scaffold.corrected_gradient(gradient, control=control, control_global=control_global)
            trained = {name: value - LEARNING_RATE * step[name] for name, value in trained.items()}
        self.die_once(fl_ctx)
        return trained

    def meta(self, fl_ctx: FLContext) -> dict[str, Any]:
        return {} if self.steps is None else {MetaKey.NUM_STEPS_CURRENT_ROUND: self.steps[fl_ctx.get_identity_name()]}

    def die_once(self, fl_ctx: FLContext) -> None:
        """At the end of a training, so that what was learnt in it must be forgotten."""
        site = fl_ctx.get_identity_name()
        if not self.folder or site not in self.killed:
            return
        name = str(fl_ctx.get_prop(FLContextKey.TASK_ID)).replace("/", "_")
        try:
            os.close(os.open(Path(self.folder, f"{site}-{name}"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


class ScaffoldSite(FedAvgSite):
    """The same with control variates, which it keeps."""

    def __init__(self, steps: Mapping[str, int] | None = None, folder: str = "", killed: Iterable[str] = ()) -> None:
        super().__init__(steps, folder, killed)
        self.control: Tensors = {}

    def state(self) -> Mapping[str, Any]:
        return {"control": self.control}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.control = dict(state["control"])

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        parts = from_shareable(shareable).data
        received = parts[AppConstants.MODEL_WEIGHTS].data
        control_global = parts[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL].data
        control = self.control or scaffold.init_control({name: received[name] for name in TRAINED})
        trained = self.train(received, control, control_global, fl_ctx=fl_ctx)
        self.control = scaffold.new_control(
            control,
            control_global=control_global,
            received=received,
            trained=trained,
            num_steps=NUM_STEPS,
            learning_rate=LEARNING_RATE,
        )
        gained = {name: value - control[name] for name, value in self.control.items()}
        answer = {
            AppConstants.MODEL_WEIGHTS: DXO(DataKind.WEIGHT_DIFF, difference(trained, received), self.meta(fl_ctx)),
            AlgorithmConstants.SCAFFOLD_CTRL_DIFF: DXO(DataKind.WEIGHT_DIFF, gained, self.meta(fl_ctx)),
        }
        return DXO(DataKind.COLLECTION, answer).to_shareable()


def difference(trained: Tensors, received: Tensors) -> Tensors:
    """What training added; nothing to what is not trained."""
    return {name: trained.get(name, value) - value for name, value in received.items()}
