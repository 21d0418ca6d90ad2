"""Which worker gets which device, how many tasks run side by side, and the way back from a full device."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import ConfigError
from hansa.runtime.devices import VISIBLE, Device, FakeDevices, FakeOutOfMemory
from hansa.runtime.packing import (
    Decision,
    FailTask,
    MemoryRanOut,
    Packing,
    PackingLimits,
    StartTask,
    TaskEnded,
    TaskReady,
    WorkerLost,
)


def one_device(num_workers: int, free: int | None = 1000, **limits: int) -> Packing:
    return Packing([Device("gpu", 1000, free)], num_workers, limits=PackingLimits(**limits))


def ready(packing: Packing, workers: Iterable[int], task: str = "train") -> list[int]:
    """The workers that start at once."""
    return starts([decision for worker in workers for decision in packing.handle(TaskReady(worker, task))])


def starts(decisions: Iterable[Decision]) -> list[int]:
    return [decision.worker for decision in decisions if isinstance(decision, StartTask)]


def learnt(packing: Packing, used_bytes: int | None, task: str = "train") -> Packing:
    """The same after worker 0 has shown what a task of this name needs."""
    assert ready(packing, [0], task) == [0]
    assert packing.handle(TaskEnded(0, used_bytes)) == []
    return packing


# -- placing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "placed"),
    [
        # 80, 80: the first; then 40 against 80: the second; then 40 against 40: the first; then 26.7 against 40
        ({"a": 80, "b": 80}, "abab"),
        # 80 against 20: a; 40 against 20: a; 26.7 against 20: a; 20 against 20: a
        ({"a": 80, "b": 20}, "aaaa"),
        # 90/1, 90/2 = 45 against 40: a; 30 against 40: b; 30 against 20: a
        ({"a": 90, "b": 40}, "aaba"),
        ({"a": None, "b": None}, "abab"),
    ],
)
def test_workers_go_where_most_memory_is_left_for_each(free: dict[str, int | None], placed: str) -> None:
    packing = Packing([Device(name, 100, bytes_) for name, bytes_ in free.items()], 4)
    assert "".join(packing.device(worker) or "-" for worker in range(4)) == placed
    assert packing.environment(0) == {VISIBLE: placed[0]}


def test_without_devices_everybody_starts_at_once_and_the_environment_stays() -> None:
    packing = Packing([], 3)
    assert ready(packing, range(3)) == [0, 1, 2]
    assert packing.environment(0) == {}
    assert packing.device(0) is None
    assert packing.handle(TaskEnded(0)) == []
    assert packing.handle(WorkerLost(1)) == []
    [failed] = packing.handle(MemoryRanOut(2))
    assert isinstance(failed, FailTask)


def test_devices_do_not_hold_each_other_up() -> None:
    packing = Packing([Device("a", 100, 100), Device("b", 100, 100)], 4)
    assert ready(packing, range(4)) == [0, 1]  # one on each, watched alone
    assert starts(packing.handle(TaskEnded(1, 10))) == [3]
    assert starts(packing.handle(TaskEnded(0, 10))) == [2]


# -- as many as fit ---------------------------------------------------------------------------------------------------


def test_a_new_kind_of_task_runs_alone_and_then_as_many_as_fit() -> None:
    packing = one_device(8)
    assert ready(packing, range(8)) == [0]
    # 1000 less a tenth is 900; each needs 200: 4 side by side
    assert starts(packing.handle(TaskEnded(0, 200))) == [1, 2, 3, 4]
    assert starts(packing.handle(TaskEnded(2, 150))) == [5]  # the most that was seen counts, 200
    assert ready(packing, [2], "validate") == []  # new: it waits until it is alone
    assert starts(packing.handle(TaskEnded(1, 200))) == [6]
    assert starts([d for w in (3, 4, 5, 6) for d in packing.handle(TaskEnded(w, 200))]) == [7]
    assert starts(packing.handle(TaskEnded(7, 200))) == [2]
    assert ready(packing, [0]) == []  # nobody beside it
    assert starts(packing.handle(TaskEnded(2, 500))) == [0]
    assert ready(packing, [1, 2], "validate") == [1]  # 200 + 500 fit, 200 + 500 + 500 do not


def test_a_need_that_grows_is_believed() -> None:
    packing = learnt(one_device(4), 200)
    assert ready(packing, range(4)) == [0, 1, 2, 3]
    packing.handle(TaskEnded(0, 400))
    packing.handle(TaskEnded(1, 100))
    assert ready(packing, [0]) == []  # two of 400 are running: 3 * 400 is more than 900
    assert starts(packing.handle(TaskEnded(2, 100))) == [0]


def test_a_task_larger_than_the_device_runs_alone() -> None:
    packing = learnt(one_device(2), 950)
    assert ready(packing, [0, 1]) == [0]
    assert starts(packing.handle(TaskEnded(0, 950))) == [1]


def test_where_no_need_is_known_all_run() -> None:
    assert ready(learnt(one_device(4), None), range(4)) == [0, 1, 2, 3]
    assert ready(learnt(one_device(4, free=None), 10**12), range(4)) == [0, 1, 2, 3]


def test_what_the_job_fixes_goes_before() -> None:
    assert ready(one_device(8, need_bytes=300), range(8)) == [0, 1, 2]  # 3 * 300 = 900, and nobody is watched alone
    assert ready(learnt(one_device(8, most_per_device=2), 10), range(8)) == [0, 1]


@pytest.mark.parametrize("limits", [{"most_per_device": 0}, {"need_bytes": 1.5}, {"need_bytes": True}])
def test_bad_limits_are_named(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"^{next(iter(limits))}: must be an integer >= 1, not"):
        PackingLimits(**limits)


# -- full devices -----------------------------------------------------------------------------------------------------


class Watched:
    """Workers of one device that always have a task to start, and what the decisions made of them."""

    def __init__(self, packing: Packing, num_workers: int) -> None:
        self.packing = learnt(packing, None)
        self.running: list[int] = []
        self.waiting: set[int] = set()
        self.failed: list[FailTask] = []
        for worker in range(num_workers):
            self.ready(worker)

    def ready(self, worker: int) -> None:
        self.waiting.add(worker)
        self.take(self.packing.handle(TaskReady(worker, "train")))

    def end(self, worker: int, *, and_go_on: bool) -> None:
        self.running.remove(worker)
        self.take(self.packing.handle(TaskEnded(worker)))
        if and_go_on:
            self.ready(worker)

    def run_out(self, worker: int) -> None:
        self.running.remove(worker)
        self.waiting.add(worker)
        self.take(self.packing.handle(MemoryRanOut(worker)))

    def take(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self.waiting.discard(decision.worker)
            if isinstance(decision, StartTask):
                self.running.append(decision.worker)
            else:
                self.failed.append(decision)

    def tasks_until_more_run(self) -> int | None:
        """How many end well, one after the other, until more run side by side than now; None: it stays as it is."""
        num = len(self.running)
        for count in range(1, 1500):
            self.end(self.running[0], and_go_on=True)
            if len(self.running) > num:
                return count
        return None


def test_a_task_that_ran_out_is_tried_with_half_as_many_then_a_quarter_then_alone() -> None:
    watched = Watched(one_device(8), 8)
    assert len(watched.running) == 8
    crowds = []
    for _ in range(3):
        watched.run_out(7)
        while 7 not in watched.running:  # nobody new starts before it
            watched.end(watched.running[0], and_go_on=True)
        crowds.append(len(watched.running))
    assert crowds == [4, 2, 1]
    assert not watched.failed
    watched.run_out(7)
    assert watched.failed == [FailTask(7, "out of memory on gpu though it ran alone there; it does not fit")]


def test_who_is_tried_again_comes_before_those_who_wait() -> None:
    watched = Watched(one_device(3, most_per_device=2), 3)
    assert (watched.running, watched.waiting) == ([0, 1], {2})
    watched.run_out(1)
    watched.end(0, and_go_on=True)
    assert (watched.running, watched.waiting) == ([1], {0, 2})


def test_who_is_tried_again_gets_no_more_neighbours_while_it_runs() -> None:
    watched = Watched(one_device(8), 8)
    watched.run_out(7)
    for _ in range(50):  # far longer than the peace that lets one more run: 5 would
        other = next(worker for worker in watched.running if worker != 7)
        watched.end(other, and_go_on=True)
        if 7 in watched.running:
            assert len(watched.running) == 4
    assert 7 in watched.running
    watched.end(7, and_go_on=True)
    assert len(watched.running) > 4


def test_a_crowd_that_fails_together_delays_the_growth_once() -> None:
    watched = Watched(one_device(2), 2)
    watched.run_out(0)
    watched.run_out(1)
    assert watched.tasks_until_more_run() == 8  # and not 16


def test_a_crowd_that_fails_together_is_halved_once() -> None:
    packing = learnt(one_device(8), None)
    ready(packing, range(8))
    started = starts([d for worker in range(8) for d in packing.handle(MemoryRanOut(worker))])
    # The last ones report when the others are gone already: none of them was alone, so none fails, and 4 start anew.
    assert len(started) == 4


def test_a_task_that_had_neighbours_was_not_alone() -> None:
    packing = learnt(one_device(2), None)
    ready(packing, [0, 1])
    packing.handle(TaskEnded(0))
    assert packing.handle(MemoryRanOut(1)) == [StartTask(1)]  # once more, now alone from the start
    assert isinstance(packing.handle(MemoryRanOut(1))[0], FailTask)


def test_who_failed_alone_lets_the_next_one_try() -> None:
    packing = one_device(2)
    assert ready(packing, [0, 1]) == [0]
    failed, started = packing.handle(MemoryRanOut(0))
    assert isinstance(failed, FailTask)
    assert started == StartTask(1)


def test_the_number_grows_again_slowly_and_slower_after_each_failure() -> None:
    watched = Watched(one_device(2), 2)
    watched.run_out(1)
    assert watched.tasks_until_more_run() == 8
    watched.run_out(watched.running[1])
    assert watched.tasks_until_more_run() == 16


def test_it_grows_up_to_what_is_allowed_and_no_further() -> None:
    watched = Watched(one_device(4, most_per_device=2), 4)
    watched.run_out(0)
    watched.end(1, and_go_on=True)  # from here one at a time
    assert len(watched.running) == 1
    assert watched.tasks_until_more_run() == 7
    assert watched.tasks_until_more_run() is None


# -- workers that go --------------------------------------------------------------------------------------------------


def test_a_lost_worker_makes_room_whether_it_ran_or_waited() -> None:
    packing = one_device(3)
    assert ready(packing, range(3)) == [0]
    assert packing.handle(WorkerLost(1)) == []
    assert starts(packing.handle(WorkerLost(0))) == [2]
    assert ready(packing, [0]) == []  # another process under the same number
    assert starts(packing.handle(TaskEnded(2, 100))) == [0]


def test_events_that_cannot_be_are_errors() -> None:
    packing = one_device(2)
    ready(packing, [0, 1])
    for worker in (0, 1):  # one runs, one waits
        with pytest.raises(ValueError, match=f"worker {worker} has a task already"):
            packing.handle(TaskReady(worker, "train"))
    with pytest.raises(ValueError, match="worker 1 runs no task"):
        packing.handle(TaskEnded(1))
    with pytest.raises(ValueError, match="worker 1 runs no task"):
        packing.handle(MemoryRanOut(1))


# -- whole runs on fake devices ---------------------------------------------------------------------------------------


class FakeRun:
    """Workers on fake devices, each with a list of tasks, in an order drawn from a seed."""

    def __init__(self, sizes: dict[str, int], tasks: list[list[tuple[str, int]]], *, seed: int, reports: bool) -> None:
        self.devices = FakeDevices(sizes)
        self.packing = Packing(self.devices.found(), len(tasks))
        self.todo = {worker: list(mine) for worker, mine in enumerate(tasks)}
        self.random = random.Random(seed)
        self.reports = reports
        self.held: dict[int, ExitStack] = {}
        self.done: list[int] = []
        self.failed: list[tuple[int, int]] = []
        self.open: set[int] = set()

    def play(self) -> None:
        for _ in range(20_000):
            idle = [w for w, mine in self.todo.items() if mine and w not in self.open]
            if not idle and not self.held:
                break
            if idle and (not self.held or self.random.random() < 0.7):
                worker = self.random.choice(idle)
                self.open.add(worker)
                self.take(self.packing.handle(TaskReady(worker, self.todo[worker][0][0])))
            else:
                self.end(self.random.choice(sorted(self.held)))
        assert not any(self.todo.values())  # nobody waits for ever

    def end(self, worker: int) -> None:
        self.held.pop(worker).close()
        _, size = self.todo[worker].pop(0)
        self.open.discard(worker)
        self.done.append(worker)
        self.take(self.packing.handle(TaskEnded(worker, size if self.reports else None)))

    def take(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            worker = decision.worker
            if isinstance(decision, FailTask):
                self.failed.append((self.todo[worker].pop(0)[1], worker))
                self.open.discard(worker)
                continue
            assert worker not in self.held  # never twice at a time
            stack = ExitStack()
            try:
                stack.enter_context(self.devices.taken(self.packing.device(worker) or "", self.todo[worker][0][1]))
            except FakeOutOfMemory:
                self.take(self.packing.handle(MemoryRanOut(worker)))
            else:
                self.held[worker] = stack


TASKS = st.lists(
    st.lists(st.tuples(st.sampled_from(["train", "validate"]), st.integers(1, 120)), max_size=6), min_size=1, max_size=8
)


@given(TASKS, st.integers(0, 2**20), st.booleans(), st.booleans())
def test_every_task_ends_well_unless_it_does_not_fit_alone(
    tasks: list[list[tuple[str, int]]], seed: int, reports: bool, two: bool
) -> None:
    run = FakeRun({"a": 100, "b": 100} if two else {"a": 100}, tasks, seed=seed, reports=reports)
    run.play()
    too_large = sorted((size, worker) for worker, mine in enumerate(tasks) for _, size in mine if size > 100)
    assert sorted(run.failed) == too_large
    assert len(run.done) == sum(map(len, tasks)) - len(too_large)


@given(st.integers(1, 90), st.integers(0, 2**20))
def test_memory_never_runs_out_where_needs_are_told_and_constant(size: int, seed: int) -> None:
    run = FakeRun({"a": 100}, [[("train", size)] * 5] * 6, seed=seed, reports=True)
    run.play()
    assert run.devices.num_refused == 0
