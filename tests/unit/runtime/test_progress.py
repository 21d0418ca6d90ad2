"""The live line: shown to people, never to pipes."""

from __future__ import annotations

import io
import threading

import pytest

from hansa.runtime.history import RunHistory
from hansa.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_history() -> RunHistory:
    history = RunHistory(now=lambda: 0.0)
    history.round_opened(0, ["a", "b"])
    history.result_counted(0, "a", weight=1.0)
    history.scalar(0, "a", name="accuracy", value=0.25)
    return history


def test_where_nobody_looks_nothing_is_shown_and_no_thread_runs() -> None:
    stream = io.StringIO()
    before = threading.active_count()
    with Progress(a_history(), 5, stream=stream) as line:
        line.update("a")
        assert threading.active_count() == before
    assert stream.getvalue() == ""


def test_a_terminal_sees_round_sites_and_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with Progress(a_history(), 5, stream=stream) as line:
        line.update("a")
    text = stream.getvalue()
    assert "round 0" in text
    assert "1/2 sites" in text
    assert "accuracy 0.2500" in text
    assert "0/5" in text


def test_a_closed_round_tells_where_the_time_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    stream = Terminal()
    history = a_history()
    history.round_closed(0)
    with Progress(history, 5, stream=stream, phases={"execute": 3.0, "submit": 0.5, "encode task": 1.5}) as line:
        line.update("a")
    text = stream.getvalue()
    assert "ms a round · execute 60% · encode task 30%" in text
    assert "submit" not in text


def test_it_can_be_switched_off() -> None:
    off = Terminal()
    with Progress(a_history(), 5, show=False, stream=off) as line:
        line.update("a")
    assert off.getvalue() == ""


def test_before_the_first_round_there_is_nothing_to_say() -> None:
    stream = Terminal()
    with Progress(RunHistory(now=lambda: 0.0), None, stream=stream) as line:
        line.update("a")
    assert "round" not in stream.getvalue()


def test_a_metric_with_brackets_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    history, stream = RunHistory(now=lambda: 0.0), Terminal()
    history.round_opened(0, ["a"])
    history.scalar(0, "a", name="[/x] loss[0]", value=0.25)
    with Progress(history, 5, stream=stream) as line:
        line.update("a")
    assert "[/x] loss[0] 0.2500" in stream.getvalue()
