"""What a line of the log says about where it was written."""

from __future__ import annotations

import threading

import pytest

from hansa.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.log_message import generate_log_message, get_serializable_data
from hansa.apis.shareable import make_reply


def test_an_empty_context() -> None:
    assert generate_log_message(FLContext(), "hello") == "[run=?]: hello"


def test_a_context_with_everything() -> None:
    ctx, peer = FLContext(), FLContext()
    peer.set_prop(ReservedKey.IDENTITY_NAME, "site-1")
    peer.set_run_number(1)
    ctx.set_run_number(1)
    ctx.set_peer_context(peer)
    ctx.set_prop(FLContextKey.WORKFLOW, "sag")
    ctx.set_prop(FLContextKey.REPLY, make_reply(ReturnCode.ERROR))
    ctx.set_prop(FLContextKey.TASK_NAME, "train")
    ctx.set_prop(FLContextKey.TASK_ID, "7")

    assert generate_log_message(ctx, "hello") == (
        "[run=1, wf=sag, peer=site-1, peer_run=1, peer_rc=ERROR, task_name=train, task_id=7]: hello"
    )


def test_a_peer_that_says_nothing_about_itself() -> None:
    ctx = FLContext()
    ctx.set_peer_context(FLContext())

    assert generate_log_message(ctx, "hello") == "[run=?, peer=?, peer_run=?]: hello"


def test_properties_that_cannot_leave_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    ctx = FLContext()
    ctx.set_prop(ReservedKey.ENGINE, object())
    ctx.set_prop("number", 1, private=False, sticky=False)
    ctx.set_prop("lock", threading.Lock())

    portable = get_serializable_data(ctx)

    assert portable.get_all_details() == {"number": {"value": 1, "private": False, "sticky": False}}
    assert "'lock'" in caplog.text
    assert ReservedKey.ENGINE not in caplog.text
