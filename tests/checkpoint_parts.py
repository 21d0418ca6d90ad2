"""What is run in simulations that are cut off and go on: it travels there as this file."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.filter import Filter
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator


class Remembers(Executor):
    """Goes on in the direction of the steps before, and measures the model that it gets.

    Args:
        worse_from: From which round on the measure falls.
    """

    def __init__(self, worse_from: int = 99) -> None:
        super().__init__()
        self.worse_from = worse_from
        self.momentum: dict[str, Any] = {}
        self.tasks = 0

    def state(self) -> Mapping[str, Any]:
        return {"momentum": self.momentum, "tasks": self.tasks}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.momentum, self.tasks = dict(state["momentum"]), int(state["tasks"])

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        self.tasks += 1
        change = {}
        for name, value in from_shareable(shareable).data.items():
            drawn = (np.random.normal(size=np.shape(value)) * random.random() / self.tasks).astype(value.dtype)
            self.momentum[name] = drawn + self.momentum.get(name, 0) * value.dtype.type(0.9)
            change[name] = np.asarray(self.momentum[name])
        number = int(shareable.get_header(AppConstants.CURRENT_ROUND))
        meta = {
            MetaKey.NUM_STEPS_CURRENT_ROUND: 1 + self.tasks,
            MetaKey.INITIAL_METRICS: float(number if number < self.worse_from else -number),
        }
        return DXO(DataKind.WEIGHT_DIFF, change, meta).to_shareable()


class Leaves(Remembers):
    """One site gives up in a round."""

    def __init__(self, number: int, site: str) -> None:
        super().__init__()
        self.number = number
        self.site = site

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if fl_ctx.get_identity_name() == self.site and shareable.get_header(AppConstants.CURRENT_ROUND) == self.number:
            self.system_panic("enough", fl_ctx)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


class Fails(Remembers):
    """One site fails in some rounds."""

    def __init__(self, numbers: Sequence[int], site: str) -> None:
        super().__init__()
        self.numbers = numbers
        self.site = site

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if fl_ctx.get_identity_name() == self.site and shareable.get_header(AppConstants.CURRENT_ROUND) in self.numbers:
            raise ValueError("no luck")
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


class Light(Executor):
    """The same without a memory."""

    stateless = True

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        change = {
            name: np.random.normal(size=np.shape(value)).astype(value.dtype)
            for name, value in from_shareable(shareable).data.items()
        }
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()


class StopsOnce(FLComponent):
    """Ends the run as failed, the first time that it hears of something in a round.

    Args:
        file: Where it is marked that it has done so.
        at: The event.
        number: The round.
    """

    reads_tensors = False

    def __init__(self, file: str, at: str = AppEventType.BEFORE_AGGREGATION, number: int = 2) -> None:
        super().__init__()
        self.file = Path(file)
        self.at = at
        self.number = number

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type != self.at or fl_ctx.get_prop(AppConstants.CURRENT_ROUND) != self.number:
            return
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        self.system_panic("cut off", fl_ctx)


class DrawsModels(FullModelShareableGenerator):
    """Adds to each model what the server draws, and what it has drawn before and keeps as a sticky property."""

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        learned = super().shareable_to_learnable(shareable, fl_ctx)
        assert fl_ctx.get_prop(RoundKey.MODEL_VERSION, 0) == fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        luck = 0.5 * fl_ctx.get_prop("luck", 0.0) + random.random() + np.random.random()
        fl_ctx.set_prop("luck", luck, private=True, sticky=True)
        for name, value in learned["weights"].items():
            learned["weights"][name] = value + value.dtype.type(luck)
        return learned


class DrawsTasks(Filter):
    """On the server: each site gets another model, by what is drawn and by how many went through before."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def state(self) -> Mapping[str, Any]:
        return {"count": self.count}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        self.count += 1
        dxo = from_shareable(shareable)
        luck = np.random.normal() + self.count
        data = {name: value + value.dtype.type(luck) for name, value in dxo.data.items()}
        return DXO(dxo.data_kind, data, dxo.meta).update_shareable(shareable)


class Tells(FLComponent):
    """On the server: sends the sites an event after each round."""

    reads_tensors = False

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.ROUND_DONE:
            request = Shareable()
            request["round"] = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
            fl_ctx.get_engine().send_aux_request([], "tell", request, 0.0, fl_ctx)


class Hears(Remembers):
    """Its next step depends on what it has heard outside of a task."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0.0

    def state(self) -> Mapping[str, Any]:
        return {**super().state(), "heard": self.heard}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.heard = state["heard"]

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            fl_ctx.get_engine().register_aux_message_handler("tell", self._told)

    def _told(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self.heard = math.sqrt(self.heard) + request["round"]
        return Shareable()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        self.momentum = {name: value + value.dtype.type(self.heard) for name, value in self.momentum.items()}
        return super().execute(task_name, shareable, fl_ctx, abort_signal)
