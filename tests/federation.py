"""A federation with the standard parts: FedAvg's workflow, aggregator and generator around a model of two numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from hansa.apis.model_persistor import ModelPersistor
from hansa.apis.shareable import Shareable, make_reply
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from hansa.components.workflows.scatter_and_gather import ScatterAndGather
from pump import KnowsSites, ServerEngine, Sites, run

GRACE = 10
PERIOD = 0.5  # the board's task_check_period: a grace ends one of these late
LOGS = {event for name, event in vars(EventType).items() if name.endswith("_LOG_AVAILABLE")}


class MemoryPersistor(ModelPersistor):
    """Begins with [0, 0] and keeps every version."""

    def __init__(self, model: Any = None) -> None:
        super().__init__()
        self.model = make_model_learnable({"w": np.zeros(2)}, {}) if model is None else model
        self.saved: list[Any] = []
        self.seen: list[tuple[Any, Any]] = []

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        self.seen.append((fl_ctx.get_prop(AppConstants.START_ROUND), fl_ctx.get_prop(AppConstants.NUM_ROUNDS)))
        return self.model

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        self.saved.append(np.array(model[ModelLearnableKey.WEIGHTS]["w"]))


class Watch(FLComponent):
    """Notes the properties that each event's context holds."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        keys = [key for key in fl_ctx.get_all_details() if not key.startswith("__")]
        self.notes.append((event_type, {key: fl_ctx.get_prop(key) for key in keys}))

    def at(self, event_type: str) -> list[dict[str, Any]]:
        return [props for event, props in self.notes if event == event_type]


class Federation:
    """A server with the standard parts, and sites; `**arguments` are the workflow's."""

    def __init__(
        self,
        *live: str,
        engine: type[ServerEngine] = KnowsSites,
        parts: dict[str, object] | None = None,
        workflow: type[ScatterAndGather] = ScatterAndGather,
        **arguments: Any,
    ) -> None:
        self.watch = Watch()
        self.persistor = MemoryPersistor()
        self.aggregator = InTimeAccumulateWeightedAggregator(expected_data_kind=DataKind.WEIGHTS)
        components = {
            "aggregator": self.aggregator,
            "persistor": self.persistor,
            "shareable_generator": FullModelShareableGenerator(),
            **(parts or {}),
        }
        self.engine = engine(components, [self.watch])
        if isinstance(self.engine, KnowsSites):
            self.engine.live = list(live)
        settings = {"min_clients": 1, "num_rounds": 1, "wait_time_after_min_received": GRACE, **arguments}
        self.workflow = workflow(**settings)
        self.sites = Sites(self.engine, self.workflow)

    def script(self, *steps: Any) -> None:
        self.engine.waiter.script.extend(steps)

    def run(self) -> None:
        self.start_time = self.engine.waiter.time
        run(self.engine, self.workflow)

    @property
    def elapsed(self) -> float:
        return self.engine.waiter.time - self.start_time

    @property
    def events(self) -> list[str]:
        return [event for event in self.engine.fired if event not in LOGS]

    @property
    def counted(self) -> list[tuple[int, str]]:
        return [call[1:3] for call in self.engine.history.calls if call[0] == "counted"]

    @property
    def refused(self) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.engine.history.calls if call[0] == "refused"]


def trained(*values: float, steps: float = 1, metric: Any = None) -> DXO:
    meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}
    if metric is not None:
        meta[MetaKey.INITIAL_METRICS] = metric
    return DXO(DataKind.WEIGHTS, {"w": np.array(values)}, meta)


def failed(code: str = ReturnCode.EXECUTION_EXCEPTION, error: str = "ValueError: bad label") -> Shareable:
    reply = make_reply(code)
    reply.set_header(RoundKey.ERROR, error)
    return reply
