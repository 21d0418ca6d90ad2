from __future__ import annotations

import threading

import pytest

from hansa.apis.engine import Waiter
from hansa.apis.thread_waiter import ThreadWaiter
from hansa.testing import ManualWaiter
from unit.apis.drill import in_thread, joined


class Alarm:
    """Something that is due once."""

    def __init__(self) -> None:
        self.time: float | None = None
        self.rang = threading.Event()

    def due(self) -> float | None:
        return self.time

    def act(self) -> None:
        self.time = None
        self.rang.set()


@pytest.fixture(params=[ThreadWaiter, ManualWaiter])
def waiter(request: pytest.FixtureRequest) -> Waiter:
    waiter: Waiter = request.param()
    return waiter


def test_both_are_waiters(waiter: Waiter) -> None:
    assert isinstance(waiter, Waiter)
    assert waiter.now() <= waiter.now()


def test_wait_until_ends_with_a_notify(waiter: Waiter) -> None:
    ready: list[int] = []
    thread = in_thread(lambda: waiter.wait_until(lambda: bool(ready)))
    ready.append(1)
    waiter.notify()
    assert joined(thread)


def test_no_thread_before_something_is_due_and_none_after_unwatch() -> None:
    waiter, alarm = ThreadWaiter(), Alarm()
    before = threading.active_count()
    waiter.watch(alarm.due, alarm.act)
    waiter.notify()
    assert threading.active_count() == before
    alarm.time = waiter.now() + 0.01
    waiter.notify()
    assert threading.active_count() == before + 1
    assert alarm.rang.wait(20.0)
    waiter.unwatch(alarm.act)
    assert threading.active_count() == before


def test_an_earlier_time_is_taken_up() -> None:
    waiter, alarm = ThreadWaiter(), Alarm()
    alarm.time = waiter.now() + 3600
    waiter.watch(alarm.due, alarm.act)
    alarm.time = waiter.now()
    waiter.notify()
    assert alarm.rang.wait(20.0)
    waiter.unwatch(alarm.act)


def test_unwatch_of_one_leaves_the_other() -> None:
    waiter, first, second = ThreadWaiter(), Alarm(), Alarm()
    first.time = waiter.now() + 3600
    waiter.watch(first.due, first.act)
    waiter.watch(second.due, second.act)
    waiter.unwatch(first.act)
    second.time = waiter.now()
    waiter.notify()
    assert second.rang.wait(20.0)
    waiter.unwatch(second.act)


def test_unwatch_waits_for_what_is_running() -> None:
    waiter, entered, leave = ThreadWaiter(), threading.Event(), threading.Event()
    ended: list[int] = []
    alarm = Alarm()

    def act() -> None:
        alarm.time = None
        entered.set()
        assert leave.wait(20.0)
        ended.append(1)

    alarm.time = waiter.now()
    waiter.watch(alarm.due, act)
    assert entered.wait(20.0)
    seen: list[int] = []
    thread = in_thread(lambda: (waiter.unwatch(act), seen.extend(ended)))
    leave.set()
    assert joined(thread)
    assert seen == [1]


def test_a_watch_while_another_ends() -> None:
    waiter = ThreadWaiter()
    before = threading.active_count()

    def come_and_go() -> None:
        for _ in range(50):
            alarm = Alarm()
            alarm.time = waiter.now()
            waiter.watch(alarm.due, alarm.act)
            assert alarm.rang.wait(20.0)
            waiter.unwatch(alarm.act)

    threads = [in_thread(come_and_go) for _ in range(8)]
    assert all(joined(thread) for thread in threads)
    assert threading.active_count() == before


def test_the_manual_clock_stops_at_each_due_time() -> None:
    waiter = ManualWaiter(start=0.0)
    times = [1.0, 2.5, 9.0]
    seen: list[float] = []

    def act() -> None:
        seen.append(waiter.now())
        times.pop(0)

    waiter.watch(lambda: times[0] if times else None, act)
    waiter.advance(5.0)
    assert (seen, waiter.now()) == ([1.0, 2.5], 5.0)
    waiter.unwatch(act)
    waiter.advance(50.0)
    assert seen == [1.0, 2.5]
