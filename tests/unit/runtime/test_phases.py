"""Where the time goes: on a clock that the test moves, so that the numbers are exact."""

from __future__ import annotations

import time

import pytest

from hansa.runtime.phases import Phases


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_phases_add_up(clock: Clock) -> None:
    phases = Phases()
    for seconds in (1.0, 2.5):
        with phases.of("execute"):
            clock.seconds += seconds
        clock.seconds += 50  # nobody's
    assert phases.seconds == {"execute": 3.5}
    assert phases.calls == {"execute": 2}


def test_nested_phases_count_their_own_time_only(clock: Clock) -> None:
    # sites: 1 + 2 = 3 of its own; execute: 4 + 1 = 5; encode: 8
    phases = Phases()
    with phases.of("sites"):
        clock.seconds += 1
        with phases.of("execute"):
            clock.seconds += 4
            with phases.of("encode"):
                clock.seconds += 8
            clock.seconds += 1
        clock.seconds += 2
    assert phases.seconds == {"sites": 3.0, "execute": 5.0, "encode": 8.0}


def test_a_phase_inside_itself(clock: Clock) -> None:
    phases = Phases()
    with phases.of("a"):
        clock.seconds += 1
        with phases.of("a"):
            clock.seconds += 2
    assert phases.seconds == {"a": 3.0}
    assert phases.calls == {"a": 2}


def test_an_error_ends_the_phase(clock: Clock) -> None:
    phases = Phases()
    with pytest.raises(ValueError, match="x"), phases.of("outer"):
        clock.seconds += 1
        with phases.of("inner"):
            clock.seconds += 2
            raise ValueError("x")
    with phases.of("next"):
        clock.seconds += 4
    assert phases.seconds == {"outer": 1.0, "inner": 2.0, "next": 4.0}
