"""The task board: which site gets what, which results count, when a task is over. No lock, no thread, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.task_events import (
    BeingHandedOut,
    Changed,
    Deliver,
    DeliveryBegun,
    DeliveryEnded,
    Dropped,
    Effect,
    Event,
    Finished,
    HandedOut,
    HandOut,
    HandOutSettled,
    ResultSubmitted,
    StatusSet,
    TaskPosted,
    TaskRequested,
    Tick,
    UnknownResult,
)
from hansa.apis.task_manager import Tally, TaskCheckStatus, TaskManager, foresees


class TaskBoard:
    """Tasks in the order of their scheduling. `handle` takes an event and says what follows.

    Promises, for any sequence of events:

    * a site gets a task once, unless its manager gives it out again; an unanswered part is handed out again as the
      same part;
    * OK is only said when the manager's condition holds and no callback of the task is running; TIMEOUT only after
      the timeout; a status that somebody set is never overwritten by either;
    * a task whose status is set leaves the board with the next pass, as soon as none of its callbacks is running;
    * a submission costs the same whatever the number of tasks and of parts.

    Args:
        task_check_period: The board's patience in seconds: how long a task that was ended by hand stays listed at
            most, how long late answers are still taken (see `BcastTaskManager`), and how often a manager is asked
            that cannot say when it wants to be.
    """

    def __init__(self, task_check_period: float = 0.5) -> None:
        self.task_check_period = task_check_period
        self.alarm: float | None = None
        """The time that `next_due` gave last, or an earlier one that came up since."""
        self.workflow_index = 0
        """The place of the board's workflow in its job; the first part of every task's key."""
        self._now = 0.0
        self.postings: dict[str, int] = {}
        """How many tasks of each name were posted so far."""
        self._standing: dict[Task, _Standing] = {}
        self._parts: dict[str, ClientTask] = {}
        self._handlers: dict[type[Event], Callable[[Any], Sequence[Effect]]] = {
            TaskPosted: self._on_posted,
            TaskRequested: self._on_requested,
            HandOutSettled: self._on_hand_out_settled,
            ResultSubmitted: self._on_submitted,
            DeliveryBegun: self._on_delivery_begun,
            DeliveryEnded: self._on_delivery_ended,
            StatusSet: self._on_status_set,
            Tick: self._on_tick,
        }

    def handle(self, event: Event) -> Sequence[Effect]:
        """Take an event, of the kinds in `task_events`; returns what follows from it, in order.

        Raises:
            ValueError: A result names another task than its id does.
        """
        self._now = event.now
        return self._handlers[type(event)](event)

    def now(self) -> float:
        """The time of the latest event."""
        return self._now

    def next_due(self) -> float | None:
        """When the next pass is due, in seconds; None while nothing changes without an event."""
        self.alarm = min((entry.due for entry in self._standing.values() if entry.due is not None), default=None)
        return self.alarm

    def tasks(self) -> list[Task]:
        """The tasks on the board, in the order of their scheduling."""
        return list(self._standing)

    def departing(self) -> list[Task]:
        """The tasks that a pass has found over, and that wait for a callback of theirs to return."""
        return [task for task, entry in self._standing.items() if entry.seen_over]

    def num_standing(self) -> int:
        """How many tasks are on the board, those that are over but not taken off included."""
        return len(self._standing)

    def candidates(self, now: float) -> list[str] | None:
        """The sites, by code point, that might be given something if they asked now; None: anybody might.

        Nobody else would be given anything; of these, some may not be either. It costs as much as the standing tasks
        have targets and holders.
        """
        self._now = now
        names: dict[str, None] = {}  # keeps the order of the targets: sorting what is sorted is quick
        for task, entry in self._standing.items():
            if task.completion_status is not None or entry.is_past(now):
                continue
            takers = entry.manager.candidates(task) if entry.knows_candidates else None
            if takers is None:
                return None
            names |= dict.fromkeys(takers)
            names |= dict.fromkeys(entry.holders())
        return sorted(names)

    def part(self, client_task_id: str) -> ClientTask | None:
        """The part with that id of a task on the board."""
        return self._parts.get(client_task_id)

    def is_over(self, task: Task) -> bool:
        """Whether a caller may go on who waits for the task.

        That is when it has a status; where the board gave it, also when no callback is running any more, so that
        nobody works with results that one is still busy with.
        """
        if task.completion_status is None:
            return False
        entry = self._standing.get(task)
        return entry is None or entry.set_by_hand or not entry.busy

    def _on_posted(self, event: TaskPosted) -> Sequence[Effect]:
        task, manager = event.task, event.manager
        posting = self.postings[task.name] = self.postings.get(task.name, 0) + 1
        entry = _Standing(task, manager, f"{self.workflow_index}/{task.name}/{posting}")
        manager.now = self.now
        manager.task_check_period = self.task_check_period
        manager.tally = entry.tally
        task.create_time = event.now - event.age_s
        task.schedule_time = event.now
        task.is_standing = True
        entry.set_by_hand = task.completion_status is not None
        self._standing[task] = entry
        self._set_due(entry, event.now if entry.set_by_hand else self._due_of(entry))
        return (Changed(task),)

    def _on_requested(self, event: TaskRequested) -> Sequence[Effect]:
        name = event.client.name
        resend: ClientTask | None = None
        for task, entry in self._standing.items():
            if task.completion_status is not None or entry.is_past(event.now):
                continue
            held = task.last_client_task_map.get(name)
            if held is not None and held.result_received_time is None and held.id not in entry.arrived:
                resend = held
                continue
            if entry.offer is not None:
                return (BeingHandedOut(task),)
            visit = entry.visits.get(name, 0) + 1
            part = ClientTask(event.client, task, key=f"{entry.key}/{name}/{visit}")
            check = entry.manager.check_task_send(part, event.fl_ctx)
            if check is TaskCheckStatus.SEND:
                entry.offer = part
                entry.visits[name] = visit
                return (HandOut(part, resend=False),)
            if check is TaskCheckStatus.BLOCK:
                return ()
        if resend is None:
            return ()
        entry = self._standing[resend.task]
        if entry.offer is not None:
            return (BeingHandedOut(resend.task),)
        entry.offer = resend
        return (HandOut(resend, resend=True),)

    def _on_hand_out_settled(self, event: HandOutSettled) -> Sequence[Effect]:
        part = event.client_task
        task = part.task
        entry = self._standing[task]
        entry.offer = None
        if task.completion_status is not None:
            return self._after_callback(entry)
        part.task_send_count += 1
        part.task_sent_time = event.now
        if part.id not in self._parts:
            self._list_part(entry, part)
        return (HandedOut(part), *self._after_callback(entry))

    def _list_part(self, entry: _Standing, part: ClientTask) -> None:
        task = part.task
        self._parts[part.id] = part
        task.client_tasks.append(part)
        task.last_client_task_map[part.client.name] = part
        entry.tally.given += 1
        # Parts that nobody asks for again are cleared away when they are the larger half, so at constant cost each.
        if not entry.manager.keeps_history and len(task.client_tasks) > 2 * len(task.last_client_task_map) + 8:
            kept = []
            for old in task.client_tasks:
                if old.result_received_time is None or task.last_client_task_map.get(old.client.name) is old:
                    kept.append(old)
                else:
                    self._parts.pop(old.id, None)
            task.client_tasks[:] = kept
            entry.tally.given -= len(entry.tally.answered_at)
            entry.tally.answered_at.clear()

    def _on_submitted(self, event: ResultSubmitted) -> Sequence[Effect]:
        part = self._parts.get(event.client_task_id)
        if part is None or part.client.name != event.client.name:
            return (UnknownResult(),)
        task = part.task
        if task.name != event.task_name:
            raise ValueError(
                f"{event.client.name}: result for task {event.task_name!r}, "
                f"but {event.client_task_id} is of task {task.name!r}"
            )
        entry = self._standing[task]
        if task.completion_status is not None:
            return (Dropped(part, f"the task is over ({task.completion_status.value})"),)
        if part.result_received_time is not None or part.id in entry.arrived:
            return (Dropped(part, "the site has answered before"),)
        entry.arrived.add(part.id)
        return (Deliver(part),)

    def _on_delivery_begun(self, event: DeliveryBegun) -> Sequence[Effect]:
        part = event.client_task
        entry = self._standing[part.task]
        if entry.set_by_hand:
            return (Dropped(part, "the task was ended before its turn came"),)
        entry.manager.check_task_result(event.result, part, event.fl_ctx)
        part.result = event.result
        part.result_received_time = event.now
        entry.tally.answered_at.append(event.now)
        return (Deliver(part),)

    def _on_delivery_ended(self, event: DeliveryEnded) -> Sequence[Effect]:
        entry = self._standing[event.client_task.task]
        entry.arrived.discard(event.client_task.id)
        effects = self._after_callback(entry)
        if entry.manager.holds_back and not effects:
            return (Changed(entry.task),)
        return effects

    def _on_status_set(self, event: StatusSet) -> Sequence[Effect]:
        task = event.task
        if event.keep and task.completion_status is not None:
            return ()
        task.settle(event.status)
        entry = self._standing.get(task)
        if entry is None:
            return ()
        entry.set_by_hand = event.status is not None
        # Not at once: what the caller does next still finds the task listed, as where a pass comes by now and then.
        self._set_due(entry, event.now + self.task_check_period / 2)
        return (Changed(task),)

    def _on_tick(self, event: Tick) -> Sequence[Effect]:
        effects: list[Effect] = []
        for entry in list(self._standing.values()):
            if event.everything or (entry.due is not None and entry.due <= event.now):
                effects.extend(self._look(entry))
        return effects

    def _after_callback(self, entry: _Standing) -> Sequence[Effect]:
        """None of the task's callbacks may be running any more: is there something that waited for that?"""
        if entry.busy:
            return ()
        if entry.task.completion_status is not None:
            return self._take_off(entry) if entry.seen_over else ()
        due = self._due_of(entry)
        if due is not None and due <= self._now:
            return self._look(entry)
        self._set_due(entry, due)
        return ()

    def _look(self, entry: _Standing) -> Sequence[Effect]:
        """Decide whether the task is over, and take it off if it is."""
        task = entry.task
        effects: tuple[Effect, ...] = ()
        if task.completion_status is None:
            status = self._verdict(entry)
            if status is not None:
                task.settle(status)
                effects = (Changed(task),)
        if task.completion_status is None:
            due = self._due_of(entry)
            if due is not None and due <= self._now:  # never again at once: a pass must come to an end
                due = self._now + self.task_check_period
            self._set_due(entry, due)
            return effects
        entry.seen_over = True
        self._set_due(entry, None)
        return effects if entry.busy else (*effects, *self._take_off(entry))

    def _verdict(self, entry: _Standing) -> TaskCompletionStatus | None:
        if not entry.busy:  # a result counts when its callback is through with it
            is_over, status = entry.manager.check_task_exit(entry.task)
            if is_over:
                return status
        return TaskCompletionStatus.TIMEOUT if entry.is_past(self._now) else None

    def _take_off(self, entry: _Standing) -> Sequence[Effect]:
        task = entry.task
        del self._standing[task]
        for part in task.client_tasks:
            self._parts.pop(part.id, None)
        task.is_standing = False
        return (Finished(task),)

    def _due_of(self, entry: _Standing) -> float | None:
        times = [entry.deadline] if entry.deadline is not None else []
        if entry.next_change is None:
            patience = self._now + self.task_check_period
            times.append(patience if entry.due is None or entry.due <= self._now else min(entry.due, patience))
        elif not entry.busy:
            change = entry.next_change(entry.task)
            if change is not None:
                times.append(change)
        return min(times, default=None)

    def _set_due(self, entry: _Standing, due: float | None) -> None:
        entry.due = due
        if due is not None and (self.alarm is None or due < self.alarm):
            self.alarm = due


class _Standing:
    """What the board knows of a task beside what the task shows."""

    __slots__ = (
        "arrived",
        "due",
        "key",
        "knows_candidates",
        "manager",
        "next_change",
        "offer",
        "seen_over",
        "set_by_hand",
        "tally",
        "task",
        "visits",
    )

    def __init__(self, task: Task, manager: TaskManager, key: str) -> None:
        self.task = task
        self.key = key
        """Workflow index, task name and its n-th posting; the same after a restart, and on every machine."""
        self.visits: dict[str, int] = {}
        """How many parts each site was given."""
        self.manager = manager
        self.knows_candidates = foresees(type(manager), "check_task_send", foresight="candidates")
        self.next_change: Callable[[Task], float | None] | None = _next_change_of(manager)
        self.tally = Tally()
        self.offer: ClientTask | None = None
        """The part whose sent-callbacks are running."""
        self.arrived: set[str] = set()
        """Ids of parts whose result waits for its turn, or is in its callback."""
        self.due: float | None = None
        """When the board looks at the task without being asked."""
        self.set_by_hand = False
        """Whether somebody, not the board, set the completion status."""
        self.seen_over = False
        """Whether a pass has seen that it is over: it goes as soon as no callback is running."""

    @property
    def busy(self) -> bool:
        """Whether a callback is running or about to."""
        return self.offer is not None or bool(self.arrived)

    def holders(self) -> list[str]:
        """The sites that hold the task without having answered: whoever of them asks gets it once more."""
        held = self.task.last_client_task_map.items() if self.tally.num_outstanding else ()
        return [name for name, part in held if part.result_received_time is None and part.id not in self.arrived]

    @property
    def deadline(self) -> float | None:
        """When the timeout is due; None if there is none."""
        task = self.task
        return task.schedule_time + task.timeout if task.timeout and task.schedule_time is not None else None

    def is_past(self, now: float) -> bool:
        """Whether the timeout has passed."""
        deadline = self.deadline
        return deadline is not None and now >= deadline


def _next_change_of(manager: TaskManager) -> Callable[[Task], float | None] | None:
    """The manager's `next_change`, unless a subclass has other exits than the class that `next_change` is of."""
    if not foresees(type(manager), "check_task_exit", foresight="next_change"):
        return None
    foresight: Callable[[Task], float | None] | None = getattr(manager, "next_change", None)
    return foresight
