"""Signal: the flag that asks a run or a task to stop."""

from __future__ import annotations

import threading

from hansa.apis.signal import Signal


def test_a_new_signal_is_not_triggered_and_yet_true() -> None:
    signal = Signal()

    assert signal.triggered is False
    assert signal.value is None
    assert bool(signal)  # applications write `if not abort_signal` for "there is none"


def test_trigger_and_reset() -> None:
    signal = Signal()

    signal.trigger("the user said so")
    assert (signal.triggered, signal.value) == (True, "the user said so")

    signal.reset()
    assert (signal.triggered, signal.value) == (False, None)

    signal.reset(7)
    assert (signal.triggered, signal.value) == (False, 7)


def test_triggered_can_be_assigned() -> None:
    signal = Signal()

    signal.triggered = True
    assert signal.triggered is True

    signal.triggered = False
    assert signal.triggered is False


def test_subscribers_run_on_trigger_and_on_assignment_but_not_on_reset() -> None:
    signal = Signal()
    calls: list[object] = []
    signal.subscribe(lambda: calls.append(signal.value))

    signal.trigger("first")
    signal.reset("back")
    signal.triggered = False
    signal.triggered = True

    # One call per rise: "first" by trigger, then "back" (the value that stood at the assignment).
    assert calls == ["first", "back"]


def test_who_subscribes_late_is_called_at_once() -> None:
    signal = Signal()
    signal.trigger(None)
    calls: list[int] = []

    signal.subscribe(lambda: calls.append(1))

    assert calls == [1]


def test_unsubscribe_undoes_one_subscribe() -> None:
    signal = Signal()
    calls: list[int] = []

    def callback() -> None:
        calls.append(1)

    signal.subscribe(callback)
    signal.subscribe(callback)
    signal.unsubscribe(callback)
    signal.unsubscribe(print)  # was never subscribed
    signal.trigger(None)

    assert calls == [1]


def test_a_callback_may_unsubscribe_itself() -> None:
    signal = Signal()
    calls: list[int] = []

    def once() -> None:
        calls.append(1)
        signal.unsubscribe(once)

    signal.subscribe(once)
    signal.trigger(None)
    signal.trigger(None)

    assert calls == [1]


def test_a_waiting_thread_wakes() -> None:
    signal = Signal()
    woken = threading.Event()
    signal.subscribe(woken.set)
    waiter = threading.Thread(target=woken.wait)
    waiter.start()

    signal.trigger(None)
    waiter.join(timeout=30)

    assert not waiter.is_alive()
