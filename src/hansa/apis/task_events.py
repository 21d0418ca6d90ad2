"""What happens on a task board, and what follows from it: plain values, never changed once made.

They are not `frozen`: ten are made for each site and round, and a frozen one takes three times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.task_manager import TaskManager


@dataclass(slots=True)
class Event:
    """Something happened. `now` is the time, in seconds on the clock of the board's owner."""

    now: float


@dataclass(slots=True)
class TaskPosted(Event):
    """A task is to stand on the board from now on."""

    task: Task
    manager: TaskManager
    age_s: float
    """How long ago the task was created."""


@dataclass(slots=True)
class TaskRequested(Event):
    """A site asks for work. Gives HandOut, BeingHandedOut, or nothing."""

    client: Client
    fl_ctx: FLContext


@dataclass(slots=True)
class HandOutSettled(Event):
    """The callbacks of a HandOut have run. Gives HandedOut, unless the task is over by now."""

    client_task: ClientTask


@dataclass(slots=True)
class ResultSubmitted(Event):
    """A result has arrived. Gives Deliver, Dropped or UnknownResult."""

    client: Client
    task_name: str
    client_task_id: str


@dataclass(slots=True)
class DeliveryBegun(Event):
    """It is this result's turn; `now` is when it arrived. Gives Deliver, or Dropped if somebody ended the task."""

    client_task: ClientTask
    result: Shareable
    fl_ctx: FLContext


@dataclass(slots=True)
class DeliveryEnded(Event):
    """The callback of a result has run."""

    client_task: ClientTask


@dataclass(slots=True)
class StatusSet(Event):
    """Somebody set a task's completion status. `keep` leaves one alone that was set before."""

    task: Task
    status: TaskCompletionStatus | None
    keep: bool = False


@dataclass(slots=True)
class Tick(Event):
    """A pass: of all tasks, or of those whose time has come."""

    everything: bool = False


@dataclass(slots=True)
class Effect:
    """Something to do, or to know."""


@dataclass(slots=True)
class HandOut(Effect):
    """Run the sent-callbacks of this part, then report HandOutSettled."""

    client_task: ClientTask
    resend: bool


@dataclass(slots=True)
class BeingHandedOut(Effect):
    """The sent-callbacks of this task are running for another request: ask again when they are done."""

    task: Task


@dataclass(slots=True)
class HandedOut(Effect):
    """The site has the task."""

    client_task: ClientTask


@dataclass(slots=True)
class Deliver(Effect):
    """The result is accepted: its turn is to be reported with DeliveryBegun, or its callback is to run now."""

    client_task: ClientTask


@dataclass(slots=True)
class Dropped(Effect):
    """The result is not wanted any more."""

    client_task: ClientTask
    reason: str


@dataclass(slots=True)
class UnknownResult(Effect):
    """Nothing on the board has that id."""


@dataclass(slots=True)
class Changed(Effect):
    """A task got its completion status, or others may take it now: whoever waits should look again."""

    task: Task


@dataclass(slots=True)
class Finished(Effect):
    """The task is off the board: run its task_done_cb."""

    task: Task
