"""What the jobs of the benchmarks are made of; a module of its own, so that worker processes can have it, too."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, make_model_learnable
from hansa.apis.model_persistor import ModelPersistor
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.jobs import Component, Job, fed_avg

_PATIENCE_S = 120.0
_META = {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}


class AddInPlace(Executor):
    """Adds 1 to the arrays that it is given, and gives them back."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        data = from_shareable(shareable).data
        for name in data:
            data[name] += 1
        return DXO(DataKind.WEIGHTS, data, dict(_META)).to_shareable()


class AddAnew(Executor):
    """Answers x + 1 in new arrays."""

    writes_input = False

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        data = {name: value + 1 for name, value in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHTS, data, dict(_META)).to_shareable()


class AddAndForget(AddAnew):
    """The same, and says that it keeps nothing, so that a site is put away between its tasks."""

    stateless = True


class FirstWaits(FLComponent):
    """Holds one site's task back until other sites, in other processes, have handed their results over.

    Args:
        first: The site that waits; it sleeps in the kernel meanwhile.
        others: Those that it waits for.
        pipe: A named pipe; each of the others puts a byte in.
    """

    def __init__(self, first: str, others: list[str], pipe: str) -> None:
        super().__init__()
        self._first = first
        self._others = others
        self._pipe = os.open(pipe, os.O_RDWR)  # both, so that neither end waits for the other to be opened

    @property
    def hears(self) -> frozenset[str]:
        return frozenset((EventType.BEFORE_TASK_EXECUTION, EventType.AFTER_SEND_TASK_RESULT))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        name = fl_ctx.get_identity_name()
        if event_type == EventType.AFTER_SEND_TASK_RESULT and name in self._others:
            os.write(self._pipe, b"+")
        if event_type == EventType.BEFORE_TASK_EXECUTION and name == self._first:
            for _ in self._others:
                if not select.select([self._pipe], [], [], _PATIENCE_S)[0]:
                    raise TimeoutError("the other sites do not answer")
                os.read(self._pipe, 1)


class Zeros(ModelPersistor):
    """A model of zeros in float32, which is never written anywhere.

    Args:
        num_bytes: The size of all tensors.
        num_tensors: Among how many tensors they are shared out.
    """

    def __init__(self, num_bytes: int, num_tensors: int = 1) -> None:
        super().__init__()
        self._num_bytes = num_bytes
        self._num_tensors = num_tensors

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        return make_model_learnable(zeros(self._num_bytes, self._num_tensors), {})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        pass


class Metronome(FLComponent):
    """Calls `between` at the start of every round, which takes no time that a round is charged with."""

    reads_tensors = False
    between: ClassVar[Callable[[], None]] = lambda: None

    @property
    def hears(self) -> frozenset[str]:
        return frozenset((AppEventType.ROUND_STARTED,))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.ROUND_STARTED:
            Metronome.between()


@dataclass(frozen=True)
class Work:
    """What a benchmark's sites do.

    Attributes:
        kind: A key of `KINDS`.
        num_sites: How many there are.
        num_bytes: The size of the model.
        num_tensors: Of how many tensors it is made.
        num_rounds: How many rounds are timed, the first one too.
        sampling: As in `fed_avg`.
        wait_for: Sites for which the first one waits.
        pipe: How it hears of them.
        listeners: More components on the server.
    """

    kind: str
    num_sites: int
    num_bytes: int
    num_tensors: int = 1
    num_rounds: int = 6
    sampling: Mapping[str, Any] | None = None
    wait_for: tuple[str, ...] = ()
    pipe: str = ""
    listeners: tuple[Component, ...] = ()

    def job(self) -> Job:
        """The job; it has one more round than are timed, since a round's time ends where the next one starts."""
        more: dict[str, Any] = {}
        if self.sampling is not None:
            more["sampling"] = self.sampling
        if self.wait_for:
            turn = Component(FirstWaits, id="turn", first="site-1", others=list(self.wait_for), pipe=self.pipe)
            more["client_components"] = [turn]
        job = fed_avg(
            {"w": np.zeros(1, np.float32)},
            executor=KINDS[self.kind],
            rounds=self.num_rounds + 1,
            server_components=[
                Component(Zeros, id="zeros", num_bytes=self.num_bytes, num_tensors=self.num_tensors),
                Component(Metronome, id="metronome"),
                *self.listeners,
            ],
            **more,
        )
        return _with_persistor(job, "zeros")


KINDS: dict[str, type[Executor]] = {
    "x += 1": AddInPlace,
    "x + 1": AddAnew,
    "x + 1, parked": AddAndForget,
}


def zeros(num_bytes: int, num_tensors: int) -> dict[str, np.ndarray[Any, Any]]:
    """A model of zeros whose pages are there."""
    return {f"layer{i:03}": np.full(num_bytes // 4 // num_tensors, 0, np.float32) for i in range(num_tensors)}


def _with_persistor(job: Job, name: str) -> Job:
    """The job with another one of its components as the persistor."""
    app = job.apps["app"]
    server = dict(app.server or {})
    parts = [part for part in server["components"] if part["id"] != "persistor"]
    server["components"] = [{**part, "id": "persistor"} if part["id"] == name else part for part in parts]
    return replace(job, apps={"app": replace(app, server=server)})
