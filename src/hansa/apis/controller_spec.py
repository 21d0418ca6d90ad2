"""Tasks, and what a controller can do with them."""

from __future__ import annotations

import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any

from hansa.apis.client import Client
from hansa.apis.clock import process_clock
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class TaskCompletionStatus(Enum):
    """How a task ended."""

    OK = "ok"
    """Its condition was met."""
    TIMEOUT = "timeout"
    """Its time was up before."""
    ERROR = "error"
    """One of its callbacks raised; `Task.exception` says what."""
    CANCELLED = "cancelled"
    """Somebody cancelled it."""
    ABORTED = "aborted"
    """Somebody aborted it; the sites that work on it were asked to stop."""
    IGNORED = "ignored"
    """It did not end: what `check_task_exit` gives beside False."""


class SendOrder(Enum):
    """Who of the targets may take a task."""

    ANY = "any"
    """Whoever asks first."""
    SEQUENTIAL = "sequential"
    """The first of the list; the next ones as time goes by."""


class ClientTask:
    """One site's part of a task: what was handed out, and what came back.

    Args:
        client: The site.
        task: The task.
        key: Its id: workflow index, task name, the task's n-th posting, site, the site's n-th visit. A random one for
            a part that no board hands out.

    All attributes are plain; the times are seconds on the clock of the controller's waiter.
    """

    def __init__(self, client: Client, task: Task, *, key: str | None = None) -> None:
        self.client = client
        self.task = task
        self.id = key or str(uuid.uuid4())
        self.task_send_count = 0
        """How often it was handed out; more than 1 if the site asked again before it answered."""
        self.task_sent_time: float | None = None
        """When it was handed out last."""
        self.result_received_time: float | None = None
        """When the site answered; None while it has not."""
        self.result: Shareable | None = None
        self.props: dict[str, Any] = {}


class Task:
    """Something that sites are asked to do. It may be scheduled once.

    Args:
        name: What the sites know it by.
        data: What they are given.
        props: The caller's own notes; the dict itself is kept.
        timeout: Whole seconds from scheduling until it ends with TIMEOUT; 0 for never.
        before_task_sent_cb: Called with `client_task=, fl_ctx=` before a hand-out; may replace `task.data`.
        after_task_sent_cb: Called with `client_task=, fl_ctx=` after it, also when the first one failed.
        result_received_cb: Called with `client_task=, fl_ctx=` for each result.
        task_done_cb: Called with `task=, fl_ctx=` once, when the task is over.

    Callbacks of one task never overlap (`cb_lock` sees to it) and hold no lock of the board. All attributes are plain
    and writable; an assignment to `completion_status` ends the task.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: The timeout is negative.
    """

    def __init__(
        self,
        name: str,
        data: Shareable,
        props: dict[str, Any] | None = None,
        timeout: int = 0,
        before_task_sent_cb: Callable[..., Any] | None = None,
        after_task_sent_cb: Callable[..., Any] | None = None,
        result_received_cb: Callable[..., Any] | None = None,
        task_done_cb: Callable[..., Any] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be str, but got {type(name)}.")
        if not isinstance(data, Shareable):
            raise TypeError(f"data must be an instance of Shareable, but got {type(data)}.")
        if props is not None and not isinstance(props, dict):
            raise TypeError(f"props must be a dict, but got {type(props)}.")
        if not isinstance(timeout, int):
            raise TypeError(f"timeout must be an int, but got {type(timeout)}.")
        if timeout < 0:
            raise ValueError(f"timeout must be >= 0, but got {timeout}.")
        _check_callable("before_task_sent", before_task_sent_cb)
        _check_callable("after_task_sent_cb", after_task_sent_cb)
        _check_callable("result_received", result_received_cb)
        _check_callable("task_done", task_done_cb)
        self.name = name
        self.data = data
        self.props: dict[str, Any] = {} if props is None else props
        self.timeout = timeout
        self.before_task_sent_cb = before_task_sent_cb
        self.after_task_sent_cb = after_task_sent_cb
        self.result_received_cb = result_received_cb
        self.task_done_cb = task_done_cb
        self.cb_lock = threading.RLock()
        self.targets: list[str] | None = None
        """Names; None: whoever asks."""
        self.client_tasks: list[ClientTask] = []
        """Hand-outs in order. Of a `broadcast_forever`, answered ones that are not a site's latest may be missing."""
        self.last_client_task_map: dict[str, ClientTask] = {}
        """The latest hand-out of each site, by name."""
        self.is_standing = False
        self.create_time = process_clock()
        """Seconds; on the clock of the controller's waiter once it is scheduled."""
        self.schedule_time: float | None = None
        self.exception: BaseException | None = None
        """What a callback raised."""
        self._completion_status: TaskCompletionStatus | None = None
        self._on_status: Callable[[Task, TaskCompletionStatus | None], None] | None = None

    @property
    def completion_status(self) -> TaskCompletionStatus | None:
        """How it ended; None while it has not. Who assigns it ends the task, from any thread, also in a callback."""
        return self._completion_status

    @completion_status.setter
    def completion_status(self, status: TaskCompletionStatus | None) -> None:
        listener = self._on_status
        if listener is None:
            self._completion_status = status
        else:
            listener(self, status)

    def report_to(self, listener: Callable[[Task, TaskCompletionStatus | None], None] | None) -> None:
        """From now on give assignments of `completion_status` to a board, which calls `settle`; None: to nobody."""
        self._on_status = listener

    def settle(self, status: TaskCompletionStatus | None) -> None:
        """Set `completion_status` without telling anybody: for the board alone."""
        self._completion_status = status

    def set_prop(self, key: str, value: Any) -> None:  # Any: a note of the caller's own
        """Keep a note in `props`.

        Raises:
            ValueError: The key begins with `__`.
        """
        _check_key(key)
        self.props[key] = value

    def get_prop(self, key: str) -> Any:  # Any: a note of the caller's own
        """A note from `props`, or None.

        Raises:
            ValueError: The key begins with `__`.
        """
        _check_key(key)
        return self.props.get(key)

    def __repr__(self) -> str:
        return f"Task({self.name!r}, status={self._completion_status})"


def _check_callable(name: str, callback: object) -> None:
    if callback is not None and not callable(callback):
        raise TypeError(f"{name} must be a callable function, but got {type(callback)}.")


def _check_key(key: str) -> None:
    if key.startswith("__"):
        raise ValueError("Keys start with __ is reserved. Please use other key")


def before_task_sent_cb_signature(client_task: ClientTask, fl_ctx: FLContext) -> None:
    """How a before_task_sent_cb looks.

    Called before a task is handed out, again for a re-send. It may replace `client_task.task.data`, set public
    properties in `fl_ctx` for that site, schedule and cancel tasks. If it sets the task's completion status, nothing
    is handed out.

    Args:
        client_task: The site's part of the task.
        fl_ctx: The context of the site's request.
    """


def after_task_sent_cb_signature(client_task: ClientTask, fl_ctx: FLContext) -> None:
    """How an after_task_sent_cb looks.

    Called once the data to hand out are fixed, also after a before_task_sent_cb that failed; it may clear
    `client_task.task.data`. If it sets the task's completion status, nothing is handed out.

    Args:
        client_task: The site's part of the task.
        fl_ctx: The context of the site's request.
    """


def result_received_cb_signature(client_task: ClientTask, fl_ctx: FLContext) -> None:
    """How a result_received_cb looks.

    Called for each result, before the submission returns. It may change `client_task.result` or set it to None.

    Args:
        client_task: The site's part of the task, with `result` set.
        fl_ctx: The context of the site's submission.
    """


def task_done_cb_signature(task: Task, fl_ctx: FLContext) -> None:
    """How a task_done_cb looks.

    Called once, when the task is over, whatever its completion status.

    Args:
        task: The task.
        fl_ctx: A new context.
    """


class ControllerSpec(ABC):
    """What a workflow can do with tasks; `Controller` does it."""

    @abstractmethod
    def start_controller(self, fl_ctx: FLContext) -> None:
        """Called when the workflow begins, before its control flow."""

    @abstractmethod
    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Called when the workflow is over."""

    @abstractmethod
    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A result came for a task that is not on the board, most often because it came too late.

        Args:
            client: Who sends it.
            task_name: The task as the site names it.
            client_task_id: The id that the site was given.
            result: What it sends.
            fl_ctx: The context of the submission.
        """

    def broadcast(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        min_responses: int = 0,
        wait_time_after_min_received: int = 0,
    ) -> None:
        """Hand a task to each of many sites once; see `Controller`."""
        raise NotImplementedError

    def broadcast_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        min_responses: int = 0,
        wait_time_after_min_received: int = 0,
        abort_signal: Signal | None = None,
    ) -> None:
        """`broadcast`, and wait until the task is over."""
        raise NotImplementedError

    def broadcast_forever(self, task: Task, fl_ctx: FLContext, targets: list[Client] | list[str] | None = None) -> None:
        """Hand a task to each site whenever it asks, until the task is cancelled or its time is up."""
        raise NotImplementedError

    def send(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
    ) -> None:
        """Hand a task to one of the targets; see `Controller`."""
        raise NotImplementedError

    def send_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
        abort_signal: Signal | None = None,
    ) -> None:
        """`send`, and wait until the task is over."""
        raise NotImplementedError

    def relay(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
        task_result_timeout: int = 0,
        dynamic_targets: bool = True,
    ) -> None:
        """Hand a task to one site after another; see `Controller`."""
        raise NotImplementedError

    def relay_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: list[Client] | list[str] | None = None,
        send_order: SendOrder = SendOrder.SEQUENTIAL,
        task_assignment_timeout: int = 0,
        task_result_timeout: int = 0,
        dynamic_targets: bool = True,
        abort_signal: Signal | None = None,
    ) -> None:
        """`relay`, and wait until the task is over."""
        raise NotImplementedError

    def get_num_standing_tasks(self) -> int:
        """How many tasks are on the board."""
        raise NotImplementedError

    def cancel_task(
        self,
        task: Task,
        completion_status: TaskCompletionStatus = TaskCompletionStatus.CANCELLED,
        fl_ctx: FLContext | None = None,
    ) -> None:
        """End a task; sites that work on it are not told."""
        raise NotImplementedError

    def cancel_all_tasks(
        self,
        completion_status: TaskCompletionStatus = TaskCompletionStatus.CANCELLED,
        fl_ctx: FLContext | None = None,
    ) -> None:
        """End all standing tasks; sites that work on them are not told."""
        raise NotImplementedError

    def abort_task(self, task: Task, fl_ctx: FLContext) -> None:
        """End a task, and ask the sites that work on it to stop."""
        raise NotImplementedError

    def abort_all_tasks(self, fl_ctx: FLContext) -> None:
        """End all standing tasks, and ask the sites that work on them to stop."""
        raise NotImplementedError
