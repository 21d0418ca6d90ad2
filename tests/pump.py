"""A federation by hand, in one thread: whoever waits runs the sites' script, and time passes when nobody acts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.dxo import DXO
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from sides import FakeHistory, Side

Step = Callable[[], object]


class PumpWaiter:
    """A clock that stands still while there is something to do. `script` holds what the sites do, in order."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.script: deque[Step] = deque()
        self._watches: list[tuple[Callable[[], float | None], Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def notify(self) -> None:
        """Whoever waits looks by itself."""

    def watch(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        self._watches.append((due, act))

    def unwatch(self, act: Callable[[], None]) -> None:
        self._watches = [watch for watch in self._watches if watch[1] != act]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.script:
                self.script.popleft()()
                continue
            assert self.pass_time(), "everybody waits for ever"

    def pass_time(self) -> bool:
        """Let time pass until something is due; False if nothing is."""
        dues = [time for due, _ in self._watches if (time := due()) is not None]
        if not dues:
            return False
        self.time = max(self.time, min(dues))
        for due, act in list(self._watches):
            time = due()
            if time is not None and time <= self.time:
                act()
        return True


class ServerEngine(Side):
    """Contexts, events, components, a waiter and a history; no list of clients. A panic triggers the abort signal."""

    def __init__(self, components: dict[str, object], handlers: Iterable[FLComponent] = ()) -> None:
        super().__init__("project", list(handlers), components)
        self.waiter = PumpWaiter()
        self.history = FakeHistory()
        self.abort_signal = Signal()
        self.panics: list[str] = []
        self.commits: list[dict[str, Any]] = []

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.FATAL_SYSTEM_ERROR:
            self.panics.append(fl_ctx.get_prop(FLContextKey.EVENT_DATA))
            self.abort_signal.trigger("panic")
        super().fire_event(event_type, fl_ctx)

    def commit(self, workflow_state: dict[str, Any]) -> int:
        self.commits.append(workflow_state)
        return len(self.commits)


class KnowsSites(ServerEngine):
    """The same with a list of live sites."""

    def __init__(self, components: dict[str, object], handlers: Iterable[FLComponent] = ()) -> None:
        super().__init__(components, handlers)
        self.live: list[str] = []

    def get_clients(self) -> list[Client]:
        return [Client(name, "token") for name in self.live]


class Sites:
    """The sites of a federation: what they were given, and steps for the script."""

    def __init__(self, engine: ServerEngine, workflow: Controller) -> None:
        self.engine = engine
        self.workflow = workflow
        self.given: dict[str, tuple[str, str, Shareable]] = {}
        self.idle: list[str] = []

    def ask(self, *names: str) -> Step:
        """Each of them asks for work."""
        return lambda: [self._ask(name) for name in names]

    def answer(self, name: str, result: DXO | Shareable) -> Step:
        """The site answers what it was given last."""
        return lambda: self._submit(name, result)

    def _ask(self, name: str) -> None:
        with self.engine.new_context() as fl_ctx:
            task, task_id, data = self.workflow.process_task_request(Client(name, "token"), fl_ctx)
        if data is None:
            self.idle.append(name)
        else:
            self.given[name] = (task, task_id, data)

    def _submit(self, name: str, result: DXO | Shareable) -> None:
        task, task_id, data = self.given[name]
        reply = result.to_shareable() if isinstance(result, DXO) else result
        reply.set_cookie_jar(dict(data.get_cookie_jar() or {}))
        reply.set_peer_props({ReservedKey.IDENTITY_NAME: name})
        with self.engine.new_context() as fl_ctx:
            self.workflow.process_submission(Client(name, "token"), task, task_id, reply, fl_ctx)


def run(engine: ServerEngine, workflow: Controller) -> None:
    """One workflow as the server runs it."""
    with engine.new_context() as fl_ctx:
        workflow.initialize_run(fl_ctx)
    if not engine.abort_signal.triggered:
        with engine.new_context() as fl_ctx:
            workflow.control_flow(engine.abort_signal, fl_ctx)
    with engine.new_context() as fl_ctx:
        workflow.finalize_run(fl_ctx)
