"""Laws of the task board, for any sequence of events, callbacks that are still running included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.apis.any_relay_manager import AnyRelayTaskManager
from hansa.apis.bcast_manager import BcastForeverTaskManager, BcastTaskManager
from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, SendOrder, Task, TaskCompletionStatus
from hansa.apis.fl_context import FLContext
from hansa.apis.send_manager import SendTaskManager
from hansa.apis.seq_relay_manager import SequentialRelayTaskManager
from hansa.apis.shareable import Shareable
from hansa.apis.task_board import TaskBoard
from hansa.apis.task_events import (
    Deliver,
    DeliveryBegun,
    DeliveryEnded,
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
from hansa.apis.task_manager import TaskManager

PERIOD = 0.5
SITES = ["a", "b", "c", "d"]
CTX = FLContext()

kinds = st.sampled_from(["bcast", "forever", "send", "any", "relay", "relay any"])
posts = st.tuples(
    st.just("post"),
    kinds,
    st.one_of(st.none(), st.lists(st.sampled_from(SITES), min_size=1, max_size=4)),  # targets
    st.integers(0, 3),  # min_responses, or a result timeout
    st.integers(0, 3),  # grace, or an assignment timeout
    st.integers(0, 6),  # timeout
)
indices = st.integers(0, 50)
# Whole errands beside single events, so that many scripts get far.
steps = st.one_of(
    posts,
    st.tuples(st.sampled_from(["take", "take", "ask"]), st.sampled_from(SITES)),
    st.tuples(st.sampled_from(["submit", "arrive", "reply", "reply"]), indices),
    st.tuples(st.sampled_from(["settle", "begin", "end", "cancel"]), indices),
    st.tuples(st.just("advance"), st.floats(0.0, 4.0)),
    st.tuples(st.just("tick"), st.booleans()),
)
scripts = st.builds(
    lambda first, rest: [*first, *rest],
    st.lists(posts, min_size=1, max_size=2),
    st.lists(steps, min_size=15, max_size=50),
)


class World:
    """A board, and what is on its way around it."""

    def __init__(self) -> None:
        self.board = TaskBoard(PERIOD)
        self.now = 1000.0
        self.kind: dict[Task, tuple[str, int, int]] = {}
        self.by_hand: dict[Task, TaskCompletionStatus] = {}
        self.offers: list[ClientTask] = []
        self.handed: list[ClientTask] = []
        self.arrived: list[ClientTask] = []
        self.in_callback: list[ClientTask] = []
        self.first_times: Counter[tuple[Task, str]] = Counter()
        self.callbacks: Counter[str] = Counter()
        self.finished: Counter[Task] = Counter()
        self.answered_at: dict[Task, list[float]] = {}

    def do(self, event: Event) -> Sequence[Effect]:
        before = {task: task.completion_status for task in self.kind}
        effects = self.board.handle(event)
        for effect in effects:
            if isinstance(effect, Finished):
                self.finished[effect.task] += 1
                assert effect.task.completion_status is not None
                assert not self.busy(effect.task)
        for task, status in before.items():
            if task.completion_status is not status and not isinstance(event, StatusSet):
                assert status is None  # what is over stays as it is
                self.check_end(task)
        for task, by_hand in self.by_hand.items():
            assert task.completion_status is by_hand
        for task in self.kind:
            if self.board.is_over(task):
                assert task in self.by_hand or not self.busy(task)
        return effects

    def busy(self, task: Task) -> bool:
        return any(part.task is task for part in self.offers + self.arrived + self.in_callback)

    def check_end(self, task: Task) -> None:
        """The board ended the task: was its condition met?"""
        assert task.schedule_time is not None
        kind, first, second = self.kind[task]
        answers = [part for part in task.client_tasks if part.result_received_time is not None]
        if task.completion_status is TaskCompletionStatus.TIMEOUT:
            past = task.timeout > 0 and self.now >= task.schedule_time + task.timeout
            assert past or kind == "relay"
            return
        assert task.completion_status is TaskCompletionStatus.OK
        assert not self.busy(task)
        assert answers
        if kind == "bcast":
            assert len(answers) >= first
            if first == 0:
                assert len(answers) == len(task.client_tasks)
            everybody = task.targets is not None and len(answers) == len(task.targets)
            if second and not everybody:
                enough_at = sorted(self.answered_at[task])[max(first, 1) - 1 if first else -1]
                assert self.now >= enough_at + second
        elif kind == "relay any":
            assert len(answers) >= len(task.targets or ())
        assert kind != "forever"

    def post(self, kind: str, targets: list[str] | None, first: int, second: int, timeout: int) -> None:
        task = Task("t", Shareable(), timeout=timeout)
        names = targets if kind.startswith("relay") or targets is None else list(dict.fromkeys(targets))
        manager: TaskManager
        if kind == "bcast":
            manager = BcastTaskManager(task, first, second)
        elif kind == "forever":
            manager = BcastForeverTaskManager()
        elif kind == "relay":
            manager = SequentialRelayTaskManager(task, second, first, targets is None or timeout > 3)
        elif kind == "relay any":
            manager = AnyRelayTaskManager(task, first, targets is None)
        else:
            names = names or ["a"]
            manager = SendTaskManager(task, SendOrder.ANY if kind == "any" else SendOrder.SEQUENTIAL, second)
        task.targets = [] if kind.startswith("relay") and names is None else names
        self.kind[task] = (kind, first, second)
        self.do(TaskPosted(self.now, task, manager, 0.0))

    def ask(self, site: str) -> None:
        candidates = self.board.candidates(self.now)
        for effect in self.do(TaskRequested(self.now, Client(site, ""), CTX)):
            if isinstance(effect, HandOut):
                assert candidates is None or site in candidates
                task = effect.client_task.task
                assert task.completion_status is None
                assert all(part.task is not task for part in self.offers)
                if task.targets is not None:
                    assert site in task.targets
                assert effect.resend == (effect.client_task in task.client_tasks)
                self.offers.append(effect.client_task)

    def take(self, site: str) -> None:
        num_offers = len(self.offers)
        self.ask(site)
        if len(self.offers) > num_offers:
            self.settle(num_offers)

    def arrive(self, index: int) -> None:
        """The first part that has not answered, from there on, answers."""
        for offset in range(len(self.handed)):
            part = self.handed[(index + offset) % len(self.handed)]
            if part.result_received_time is None and part not in self.arrived + self.in_callback:
                self.submit(index + offset)
                return

    def reply(self, index: int) -> None:
        num_arrived = len(self.arrived)
        self.arrive(index)
        if len(self.arrived) > num_arrived:
            num_running = len(self.in_callback)
            self.begin(num_arrived)
            if len(self.in_callback) > num_running:
                self.end(num_running)

    def settle(self, index: int) -> None:
        part = self.offers.pop(index % len(self.offers))
        fresh = part not in part.task.client_tasks
        over = part.task.completion_status is not None
        effects = self.do(HandOutSettled(self.now, part))
        handed = any(isinstance(effect, HandedOut) for effect in effects)
        assert handed != over
        if handed and fresh:
            self.handed.append(part)
            task, site = part.task, part.client.name
            kind = self.kind[task][0]
            self.first_times[task, site] += 1
            if kind == "bcast":
                assert self.first_times[task, site] == 1
            elif kind in ("send", "any"):
                assert len(task.client_tasks) == 1
            elif kind == "relay":
                assert self.first_times[task, site] <= (task.targets or []).count(site)

    def submit(self, index: int) -> None:
        part = self.handed[index % len(self.handed)]
        event = ResultSubmitted(self.now, part.client, "t", part.id)
        for effect in self.do(event):
            assert isinstance(effect, UnknownResult) == (part.task in self.finished)
            if isinstance(effect, Deliver):
                assert part.task.completion_status is None
                self.arrived.append(part)

    def begin(self, index: int) -> None:
        part = self.arrived[index % len(self.arrived)]
        if any(other.task is part.task for other in self.in_callback):
            return  # callbacks of one task are serialised
        self.arrived.remove(part)
        self.in_callback.append(part)
        effects = self.do(DeliveryBegun(self.now, part, Shareable(), CTX))
        if any(isinstance(effect, Deliver) for effect in effects):
            assert part.task not in self.by_hand
            self.callbacks[part.id] += 1
            assert self.callbacks[part.id] == 1
            self.answered_at.setdefault(part.task, []).append(self.now)
        else:
            assert part.task in self.by_hand
            assert part.result is None

    def end(self, index: int) -> None:
        part = self.in_callback.pop(index % len(self.in_callback))
        self.do(DeliveryEnded(self.now, part))

    def cancel(self, index: int) -> None:
        task = list(self.kind)[index % len(self.kind)]
        if task.completion_status is None:
            self.by_hand[task] = TaskCompletionStatus.CANCELLED
        self.do(StatusSet(self.now, task, TaskCompletionStatus.CANCELLED, keep=True))

    def step(self, name: str, *arguments: Any) -> None:
        if name == "advance":
            self.now += arguments[0]
        elif name == "tick":
            self.do(Tick(self.now, arguments[0]))
        else:
            needs: list[Any] | dict[Any, Any] | None = {
                "settle": self.offers,
                "submit": self.handed,
                "arrive": self.handed,
                "reply": self.handed,
                "begin": self.arrived,
                "end": self.in_callback,
                "cancel": self.kind,
            }.get(name)
            if needs is None or needs:
                getattr(self, name)(*arguments)

    def let_callbacks_return(self) -> None:
        while self.offers or self.arrived or self.in_callback:
            for name in ("settle", "end", "begin"):
                self.step(name, 0)

    def run_out(self) -> None:
        """Go from due time to due time until nothing is due any more."""
        for _ in range(2000):
            due = self.board.next_due()
            if due is None:
                return
            self.now = max(self.now, due)
            self.do(Tick(self.now))
        raise AssertionError("the passes never come to an end")


@settings(max_examples=1000, deadline=None)
@given(scripts)
def test_at_most_once_never_early_and_always_an_end(script: list[tuple[Any, ...]]) -> None:
    world = World()
    for step in script:
        world.step(*step)
    world.let_callbacks_return()
    world.run_out()
    for task, (kind, first, second) in world.kind.items():
        if task.timeout:
            assert world.finished[task] == 1
        elif kind == "bcast" and task not in world.finished:
            answers = len(world.answered_at.get(task, ()))
            assert answers < max(first, 1) or (first == 0 and answers < len(task.client_tasks))
        elif kind == "relay" and second and task.client_tasks and first:
            assert world.finished[task] == 1
    for index in range(len(world.kind)):
        world.cancel(index)
    world.run_out()
    assert world.finished == Counter(list(world.kind))  # each left the board, once
    assert (world.board.num_standing(), world.board._parts) == (0, {})


@settings(max_examples=1000, deadline=None)
@given(scripts)
def test_own_passes_at_due_times_miss_nothing(script: list[tuple[Any, ...]]) -> None:
    """Nothing but an explicit pass could end a task earlier than the due time, and then only a broadcast."""
    world = World()
    for step in script:
        world.step(*step)
    world.let_callbacks_return()
    for task in world.board.tasks():
        due = world.board._standing[task].due
        if task.completion_status is None and (due is None or due > world.now):
            over, _ = world.board._standing[task].manager.check_task_exit(task)
            kind, first, second = world.kind[task]
            assert not over or (kind == "bcast" and second == 0 and first > 0)
            if over:  # somebody still works on it; else it would have ended with the last answer
                assert any(part.result_received_time is None for part in task.client_tasks)
