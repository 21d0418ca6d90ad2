"""Executors for runs of the algorithms: they travel to worker processes as this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hansa.algorithms import ditto, fed_prox
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from worker_parts import die, first_time


def number_of(fl_ctx: FLContext) -> int:
    """3 at site-3."""
    return int(fl_ctx.get_identity_name().rpartition("-")[2])


class Squares(Executor):
    """Adds the number of its site to `bn.mean`, and the square of what that is now to `w`; `bn.steps` counts.

    Args:
        kind: What it sends.
        folder: Where it is marked that a task was tried; with it, processes die.
        kills: The sites whose every task kills its process when it is tried for the first time.
    """

    def __init__(self, kind: str = DataKind.WEIGHTS, folder: str = "", kills: Sequence[str] = ()) -> None:
        super().__init__()
        self.kind = kind
        self.folder = folder
        self.kills = kills

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        before = {name: np.array(value) for name, value in received.items()}
        received["bn.mean"] += number_of(fl_ctx)  # in place, as trainers do
        received["bn.steps"] += 1
        received["w"] += received["bn.mean"] ** 2
        if self.kind == DataKind.WEIGHT_DIFF:
            received = {name: value - before[name] for name, value in received.items()}
        if fl_ctx.get_identity_name() in self.kills and first_time(self.folder, fl_ctx):
            die()
        return DXO(self.kind, received).to_shareable()


class Descends(Executor):
    """Goes some steps down 1/2 a (w - b)^2, where a and b are the number of its site, towards which the task draws it.

    The task's header `fed_prox_mu` is the weight of a proximal term, `ditto_lambda` that of a personal model beside the
    one that is sent, `learning_rate` the step.
    """

    NUM_STEPS = 4

    def __init__(self) -> None:
        super().__init__()
        self.personal: dict[str, Any] = {}

    def state(self) -> Mapping[str, Any]:
        return {"personal": self.personal}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.personal = dict(state["personal"])

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable).data
        number = number_of(fl_ctx)
        rate = shareable.get_header("learning_rate", 0.05)
        trained = {name: value.copy() for name, value in received.items()}
        mu = shareable.get_header("fed_prox_mu")
        for _ in range(self.NUM_STEPS):
            slope = {name: number * (value - number) for name, value in trained.items()}
            if mu is not None:
                pull = fed_prox.proximal_gradient(trained, received, mu=mu)
                slope = {name: value + pull[name] for name, value in slope.items()}
            trained = {name: value - rate * slope[name] for name, value in trained.items()}
        if (weight := shareable.get_header("ditto_lambda")) is not None:
            self.train_personal(received, number, weight)
            fl_ctx.get_engine().get_component("analytic_sender").add_scalar("personal", float(self.personal["w"][0]))
        return DXO(DataKind.WEIGHTS, trained).to_shareable()

    def train_personal(self, received: dict[str, Any], number: int, weight: float) -> None:
        personal = self.personal or ditto.init(received)
        for _ in range(self.NUM_STEPS):
            slope = {name: number * (value - number) for name, value in personal.items()}
            personal = ditto.personal_step(personal, slope, received=received, ditto_lambda=weight, learning_rate=0.05)
        self.personal = personal
