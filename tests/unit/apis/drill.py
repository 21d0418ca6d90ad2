"""A workflow on a clock that the test holds, and sites that ask and answer by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.testing import ClockedEngine, ManualWaiter

PERIOD = 0.5
NOTHING = ("", "", None)


class Workflow(Controller):
    """Keeps what it is told."""

    def __init__(self, task_check_period: float = PERIOD) -> None:
        super().__init__(task_check_period)
        self.calls: list[str] = []
        self.unknown: list[tuple[str, str, str, Shareable]] = []

    def start_controller(self, fl_ctx: FLContext) -> None:
        self.calls.append("start")

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        self.calls.append("flow")

    def stop_controller(self, fl_ctx: FLContext) -> None:
        self.calls.append("stop")

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        self.unknown.append((client.name, task_name, client_task_id, result))


class Drill:
    """A running workflow without any thread of its own."""

    def __init__(self, *, jump: bool = False, run: bool = True) -> None:
        self.waiter = ManualWaiter(jump=jump)
        self.engine = ClockedEngine(self.waiter)
        self.workflow = Workflow()
        self.ctx = self.engine.new_context()
        self.done: list[str] = []
        self.heard: list[str] = []
        if run:
            self.workflow.initialize_run(self.ctx)

    def task(self, name: str = "train", timeout: int = 0, **callbacks: Callable[..., Any]) -> Task:
        """A task that tells `heard` who answered, and `done` when it is over."""
        own: dict[str, Callable[..., Any]] = {"result_received_cb": self.hear, "task_done_cb": self.end}
        return Task(name, Shareable(), timeout=timeout, **{**own, **callbacks})

    def hear(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        self.heard.append(client_task.client.name)

    def end(self, task: Task, fl_ctx: FLContext) -> None:
        status = task.completion_status
        self.done.append(f"{task.name}:{status.value if status else None}")

    def ask(self, name: str) -> tuple[str, str, Shareable | None]:
        """What the site is given now."""
        return self.workflow.process_task_request(Client(name, "token"), self.engine.new_context())

    def gets(self, name: str) -> str:
        """The name of the task that the site is given now."""
        return self.ask(name)[0]

    def answer(self, name: str, given: tuple[str, str, Shareable | None]) -> Shareable:
        """The site answers what it was given."""
        result = Shareable()
        ctx = self.engine.new_context()
        self.workflow.process_submission(Client(name, "token"), given[0], given[1], result, ctx)
        return result

    def serve(self, name: str) -> Shareable:
        """The site asks and answers."""
        given = self.ask(name)
        assert given != NOTHING
        return self.answer(name, given)

    @property
    def standing(self) -> int:
        return self.workflow.get_num_standing_tasks()


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Start it in a thread of its own."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(thread: threading.Thread) -> bool:
    """Whether it ended in a time after which nothing would come any more."""
    thread.join(20.0)
    return not thread.is_alive()
