"""The virtual clock, and waiting without losing a wake-up. The real clock is a number that the test moves."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hansa.apis.engine import Waiter
from hansa.runtime.event_loop import EventLoop

EPOCH = 1000.0


class Real:
    """A real clock that somebody else moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def thread(target: Callable[[], None]) -> Iterator[threading.Thread]:
    """A thread that has ended when the block is left."""
    worker = threading.Thread(target=target, daemon=True)
    worker.start()
    yield worker
    worker.join(30)
    assert not worker.is_alive()


def never() -> float | None:
    return None


def test_it_is_a_waiter() -> None:
    assert isinstance(EventLoop(), Waiter)


def test_the_clock_stands_still_while_the_loop_works() -> None:
    real = Real()
    loop = EventLoop(real, epoch=EPOCH)
    real.seconds = 500.0  # sites work for 500 real seconds
    assert loop.now() == EPOCH
    assert not loop.run_due()
    assert loop.now() == EPOCH


def test_the_clock_jumps_to_the_next_due_time_when_all_wait() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    loop.watch(lambda: EPOCH + 30, lambda: None)
    loop.watch(lambda: EPOCH + 7, lambda: None)
    assert loop.idle(loop.generation, num_actors=0)
    assert loop.now() == EPOCH + 7


def test_a_due_time_that_has_passed_does_not_turn_the_clock_back() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    loop.watch(lambda: EPOCH - 7, lambda: None)
    assert loop.idle(loop.generation, num_actors=0)
    assert loop.now() == EPOCH


def test_nothing_due_and_all_wait_means_never() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    loop.watch(never, lambda: None)
    assert not loop.idle(loop.generation, num_actors=0)


def test_a_change_that_was_missed_is_not_waited_for() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    seen = loop.generation
    loop.notify()
    assert loop.idle(seen, num_actors=5)  # nobody waits, and yet it returns at once


def test_the_jump_waits_for_the_other_thread() -> None:
    # The other thread waits for a condition that only time brings: the loop may jump once it does, not before.
    loop = EventLoop(Real(), epoch=EPOCH)
    over = threading.Event()
    seen_times = []

    def act() -> None:
        seen_times.append(loop.now())
        over.set()
        loop.notify()

    loop.watch(lambda: None if over.is_set() else EPOCH + 60, act)
    with thread(lambda: loop.wait_until(over.is_set)):
        while not over.is_set():
            seen = loop.generation
            if not loop.run_due():
                assert loop.idle(seen, num_actors=1)
    assert seen_times == [EPOCH + 60]


def test_never_is_only_said_when_the_other_thread_waits_too() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    free, result = threading.Event(), []
    with thread(lambda: loop.wait_until(free.is_set)):
        result.append(loop.idle(loop.generation, num_actors=1))
        free.set()
        loop.notify()
    assert result == [False]


def test_time_flows_while_another_thread_is_busy() -> None:
    # A busy thread (it never waits here) reads the clock while the loop idles: 4 real seconds are 4 virtual ones.
    real = Real()
    loop = EventLoop(real, epoch=EPOCH)
    times: list[float] = []

    def busy() -> None:
        while not flowing():
            pass
        real.seconds += 4
        times.append(loop.now())
        loop.notify()

    def flowing() -> bool:
        return loop._flowing_since is not None  # the one thing that no call tells

    seen = loop.generation
    with thread(busy):
        assert loop.idle(seen, num_actors=1)
    assert times == [EPOCH + 4]
    real.seconds += 100  # and stands still again
    assert loop.now() == EPOCH + 4


def test_a_due_time_is_reached_in_real_time_while_another_thread_is_busy() -> None:
    # Nobody settles, nobody notifies: only the real clock brings the due time, and idle returns by itself.
    loop = EventLoop(epoch=EPOCH)
    due, ran = EPOCH + 0.001, []
    loop.watch(lambda: due, lambda: ran.append(loop.now()))
    while not loop.run_due():
        assert loop.idle(loop.generation, num_actors=1)
    assert ran
    assert ran[0] >= due


def test_time_flows_where_it_is_told_to() -> None:
    real = Real()
    loop = EventLoop(real, epoch=EPOCH)
    with loop.flowing():
        real.seconds += 3
        assert loop.now() == EPOCH + 3
    real.seconds += 100
    assert loop.now() == EPOCH + 3


def test_nobody_goes_on_while_the_loop_holds() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    ready, asked, order = threading.Event(), threading.Event(), []

    def condition() -> bool:
        asked.set()
        return ready.is_set()

    def wait() -> None:
        loop.wait_until(condition)
        order.append("on")

    with thread(wait):
        assert asked.wait(30)
        with loop.held():
            asked.clear()
            ready.set()
            loop.notify()
            assert asked.wait(30)  # it has looked and found it true, and stays
            order.append("step over")
    assert order == ["step over", "on"]


def test_run_due_runs_what_is_due_and_nothing_else() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    ran: list[str] = []
    loop.watch(lambda: EPOCH, lambda: ran.append("now"))
    loop.watch(lambda: EPOCH + 1, lambda: ran.append("later"))
    loop.watch(never, lambda: ran.append("never"))
    assert loop.run_due()
    assert ran == ["now"]


def test_unwatched_means_not_run_any_more() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.unwatch(second)  # the pass that comes next in the same turn

    def second() -> None:
        ran.append("second")

    loop.watch(lambda: EPOCH, first)
    loop.watch(lambda: EPOCH, second)
    loop.run_due()
    loop.unwatch(first)
    assert not loop.run_due()
    assert ran == ["first"]


def test_unwatch_from_within_the_pass_does_not_wait_for_itself() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    ran = []

    def act() -> None:
        loop.unwatch(act)
        ran.append(1)

    loop.watch(lambda: EPOCH, act)
    assert loop.run_due()
    assert not loop.run_due()
    assert ran == [1]


def test_when_unwatch_returns_the_pass_is_not_running() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    inside, go_on, steps = threading.Event(), threading.Event(), []

    def act() -> None:
        inside.set()
        assert go_on.wait(30)
        steps.append("pass over")

    def stop() -> None:
        assert inside.wait(30)
        go_on.set()
        loop.unwatch(act)
        steps.append("unwatched")

    loop.watch(lambda: EPOCH, act)
    with thread(stop):
        loop.run_due()
    assert steps == ["pass over", "unwatched"]


def test_watch_wakes_the_loop() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    seen = loop.generation
    loop.watch(never, lambda: None)
    assert loop.generation != seen


def test_on_resume_is_called_when_a_wait_ends() -> None:
    loop = EventLoop(Real(), epoch=EPOCH)
    resumed: list[int] = []
    loop.on_resume = lambda: resumed.append(1)
    loop.wait_until(lambda: True)
    assert resumed == [1]


def test_no_wake_up_is_lost() -> None:
    # Two waiters and three notifiers, 2,000 times: each waiter goes on as soon as its number is there. A lost wake-up
    # would leave a waiter behind, and the threads would not end.
    loop = EventLoop(Real(), epoch=EPOCH)
    turns = 2000
    counts = [0, 0]
    asked = [threading.Semaphore(0), threading.Semaphore(0)]
    noise_over = threading.Event()

    def wait(who: int) -> None:
        for turn in range(1, turns + 1):
            asked[who].release()
            loop.wait_until(lambda turn=turn: counts[who] >= turn)  # type: ignore[misc]

    def serve(who: int) -> None:
        for turn in range(1, turns + 1):
            assert asked[who].acquire(timeout=30)
            counts[who] = turn
            loop.notify()

    def noise() -> None:
        while not noise_over.is_set():
            loop.notify()
            noise_over.wait(random.random() * 1e-4)

    threads = [threading.Thread(target=wait, args=(who,), daemon=True) for who in (0, 1)]
    threads += [threading.Thread(target=serve, args=(who,), daemon=True) for who in (0, 1)]
    with thread(noise):
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        noise_over.set()
    assert not any(each.is_alive() for each in threads)


def test_the_loop_loses_no_wake_up_either() -> None:
    # A worker hands the loop 2,000 pieces of work one at a time and waits for each. idle must never say "never", and
    # the clock must not jump to the far due time while the worker has something to say.
    loop = EventLoop(Real(), epoch=EPOCH)
    turns = 2000
    todo: list[int] = []
    done: list[int] = []

    def work() -> None:
        for turn in range(turns):
            todo.append(turn)
            loop.notify()
            loop.wait_until(lambda turn=turn: len(done) > turn)  # type: ignore[misc]

    with thread(work):
        while len(done) < turns:
            seen = loop.generation
            if todo:
                done.append(todo.pop())
                loop.notify()
            else:
                assert loop.idle(seen, num_actors=1)
    assert done == list(range(turns))
    assert loop.now() == EPOCH
