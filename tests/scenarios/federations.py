"""Small jobs for whole federations in one process: parts are classes, also such as a test makes on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hansa
from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.filter import Filter
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.jobs import Component, Job, fed_avg
from hansa.jobs.component import as_config
from hansa.jobs.job import App
from hansa.jobs.place import Place
from hansa.runtime.run import Run

Part = type | Component
Chains = Mapping[str, Sequence[Part]]


def make_job(
    workflows: Sequence[Part],
    executor: Part,
    *,
    server: Sequence[Part] = (),
    client: Sequence[Part] = (),
    filters: Chains | None = None,
) -> Job:
    """A job of these parts for the task `train`.

    `filters` has chains by position: `server data`, `client data`, `client result`, `server result`.
    """
    classes: dict[str, type] = {}

    def name_class(cls: type) -> str:
        path = f"{cls.__module__}.{cls.__name__}"
        while classes.setdefault(path, cls) is not cls:
            path += "_"
        return path

    def config(part: Part) -> dict[str, Any]:
        part = part if isinstance(part, Component) else Component(part)
        return {"id": part.label, **as_config(part, name_class, Place())}

    def configs(parts: Sequence[Part]) -> list[dict[str, Any]]:
        made = [config(part) for part in parts]
        names = [part["id"] for part in made]
        return [{**part, "id": name if name not in names[:n] else f"{name}-{n}"}
                for n, (part, name) in enumerate(zip(made, names, strict=True))]  # fmt: skip

    def side(parts: Sequence[Part], name: str) -> dict[str, Any]:
        result: dict[str, Any] = {"format_version": 2}
        for kind in ("data", "result"):
            chain = (filters or {}).get(f"{name} {kind}", ())
            if chain:
                entry = {"tasks": ["train"], "filters": [config(part) for part in chain]}
                result[f"task_{kind}_filters"] = [entry]
        result["components"] = configs(parts)
        return result

    server_config = {**side(server, "server"), "workflows": configs(workflows)}
    client_config = {**side(client, "client"), "executors": [{"tasks": ["train"], "executor": config(executor)}]}
    return Job("scenario", {"app": App(server=server_config, client=client_config)}, classes=classes)


def simulate(job: Job, sites: int = 2, *, home: Path, seed: int = 0, abort_signal: Signal | None = None) -> Run:
    return hansa.simulate(job, sites, seed=seed, home=home, progress=False, abort_signal=abort_signal)


def number_of(fl_ctx: FLContext) -> int:
    """3 at site-3."""
    return int(fl_ctx.get_identity_name().rpartition("-")[2])


class Adds(Executor):
    """Adds the number of its site to every weight; as many steps as the table says, else 1."""

    def __init__(self, steps: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.steps = steps or {}

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        received = from_shareable(shareable)
        weights = {name: value + np.float32(number_of(fl_ctx)) for name, value in received.data.items()}
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: self.steps.get(fl_ctx.get_identity_name(), 1)}
        return DXO(DataKind.WEIGHTS, weights, meta).to_shareable()


class Echo(Executor):
    """Answers with the very message."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        return shareable


class Silent(Executor):
    """Answers with nothing but OK."""

    writes_input = False

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        return make_reply(ReturnCode.OK)


def executor(function: Callable[[Shareable, FLContext, Signal], Any], *, writes_input: bool = True) -> type[Executor]:
    """An executor class that calls a function."""

    class Calls(Executor):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            result: Shareable = function(data, ctx, signal)
            return result

    Calls.writes_input = writes_input
    return Calls


def filter_of(function: Callable[[Shareable, FLContext], Any]) -> type[Filter]:
    """A filter class that calls a function; None means the message itself."""

    class Calls(Filter):
        def process(self, data: Shareable, ctx: FLContext) -> Shareable:
            result = function(data, ctx)
            return data if result is None else result

    return Calls


def listener(function: Callable[[str, FLContext], object]) -> type[FLComponent]:
    """A component class that calls a function for each event."""

    class Listens(FLComponent):
        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            function(event_type, fl_ctx)

    return Listens


class Flow(Controller):
    """A controller whose control flow is a function of itself; what is left is FLARE's."""

    def start_controller(self, fl_ctx: FLContext) -> None: ...

    def stop_controller(self, fl_ctx: FLContext) -> None: ...

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None: ...

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None: ...


def flow(function: Callable[[Any, Signal, FLContext], None]) -> type[Flow]:
    """A controller class with this control flow, called with the controller itself."""

    class Calls(Flow):
        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            function(self, abort_signal, fl_ctx)

    return Calls


def ask(controller: Controller, fl_ctx: FLContext, data: Shareable | None = None, **how: Any) -> dict[str, Shareable]:
    """Broadcast the task `train` to all sites and wait; results by site."""
    results: dict[str, Shareable] = {}

    def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
        assert client_task.result is not None
        results[client_task.client.name] = client_task.result

    names = [client.name for client in fl_ctx.get_engine().get_clients()]
    task = Task("train", data if data is not None else Shareable(), result_received_cb=received, **how)
    controller.broadcast_and_wait(task, fl_ctx, names, len(names), 0, fl_ctx.get_run_abort_signal())
    return results


def weights(**values: Any) -> Shareable:
    """A message with these weights."""
    return DXO(DataKind.WEIGHTS, {name: np.asarray(value) for name, value in values.items()}).to_shareable()


def averaging(part: Part, *, rounds: int = 1, model: Mapping[str, Any] | None = None, **options: Any) -> Job:
    """FedAvg over a small float32 model."""
    initial = {"w": np.zeros(2, np.float32), "b": np.float32(1)} if model is None else model
    return fed_avg(initial, executor=part, rounds=rounds, **options)
