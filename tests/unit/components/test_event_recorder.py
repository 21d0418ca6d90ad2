"""Event recorders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.shareable import Shareable
from hansa.components.handlers.event_recorder import (
    ClientEventRecorder,
    CtxPropReq,
    EventRecorder,
    ServerEventRecorder,
)
from sides import Side


class Quiet(EventRecorder):
    """Expects nothing by itself."""

    always: ClassVar[Mapping[str, CtxPropReq]] = {}


def test_each_event_is_a_line_of_the_file_in_the_runs_folder(tmp_path: Path) -> None:
    side = Side("site-1", [Quiet("events.txt")])
    app_root = tmp_path / "app_site-1"
    for event in (EventType.START_RUN, "mine"):
        side.fire(event, **{FLContextKey.APP_ROOT: str(app_root)})
    lines = (tmp_path / "events.txt").read_text().splitlines()
    assert lines == [
        "site-1 event=_start_run origin=None scope=None",
        "site-1 event=mine origin=None scope=None",
    ]


def test_what_a_context_lacks_is_written_down(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    side = Side("site-1", [ClientEventRecorder()])
    side.fire(EventType.AFTER_TASK_EXECUTION, **{FLContextKey.TASK_NAME: 7, FLContextKey.TASK_DATA: Shareable()})
    assert "ERROR __task_name__ is a int, not a str" in caplog.text
    assert "ERROR __task_result__ is missing" in caplog.text
    assert "ERROR there is no peer context" in caplog.text
    assert "__task_data__" not in caplog.text


def test_what_should_not_be_there_is_written_down(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Side("project", [ServerEventRecorder()]).fire(EventType.START_RUN, **{FLContextKey.TASK_NAME: "train"})
    assert "ERROR __task_name__ should not be there" in caplog.text


def test_the_nature_of_a_property_is_checked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recorder = Quiet()
    fl_ctx = Side("site-1", []).new_context()
    fl_ctx.set_prop("a", 1, private=False, sticky=True)
    recorder.validate_prop("a", CtxPropReq(int, is_private=True, is_sticky=False), fl_ctx)
    recorder.validate_prop("a", CtxPropReq(int, is_private=False, is_sticky=True), fl_ctx)
    assert caplog.text.count("ERROR") == 2
    assert "a should be private" in caplog.text
    assert "a should not be sticky" in caplog.text


def test_log_events_are_written_but_not_checked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    side = Side("site-1", [ClientEventRecorder()])
    side.fire(EventType.WARNING_LOG_AVAILABLE)
    assert "event=_warning_log_available" in caplog.text
    assert "ERROR " not in caplog.text
