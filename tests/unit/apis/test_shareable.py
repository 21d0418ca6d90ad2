"""Shareable: a dict with headers, cookies and a return code."""

from __future__ import annotations

import copy
import pickle

import pytest

from hansa.apis.dxo import DXO, DataKind
from hansa.apis.fl_constant import ReservedKey, ReturnCode
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.errors import DecodeError


def test_a_new_one_holds_only_an_empty_dict_of_headers() -> None:
    message = Shareable()

    assert dict(message) == {"__headers__": {}}
    assert type(message["__headers__"]) is dict


def test_headers() -> None:
    message = Shareable()
    message.set_header("a", 1)

    assert message.get_header("a") == 1
    assert message.get_header("b") is None
    assert message.get_header("b", 2) == 2
    assert message["__headers__"] == {"a": 1}


def test_headers_of_a_message_that_was_emptied() -> None:
    message = Shareable()
    message.clear()

    assert message.get_header("a", 3) == 3
    message.set_header("a", 1)
    assert message.get_header("a") == 1


def test_return_code_is_ok_unless_somebody_says_otherwise() -> None:
    message = Shareable()

    assert message.get_return_code() == ReturnCode.OK
    assert message.get_return_code("nothing said") == "nothing said"
    message.set_return_code(ReturnCode.EMPTY_RESULT)
    assert message.get_return_code("nothing said") == "EMPTY_RESULT"
    assert message["__headers__"] == {"__rc__": "EMPTY_RESULT"}


def test_make_reply() -> None:
    reply = make_reply(ReturnCode.TASK_ABORTED)

    assert type(reply) is Shareable
    assert dict(reply) == {"__headers__": {"__rc__": "TASK_ABORTED"}}


def test_cookies() -> None:
    task = Shareable()
    assert task.get_cookie_jar() is None
    assert task.get_cookie("round", -1) == -1

    task.add_cookie("round", 3)
    task.add_cookie("colour", "blue")
    assert task.get_cookie("round") == 3
    assert task.get_cookie("size") is None

    result = Shareable()
    result.set_cookie_jar(task.get_cookie_jar())
    assert result.get_cookie("colour") == "blue"
    assert result.get_header(ReservedHeaderKey.COOKIE_JAR) == {"round": 3, "colour": "blue"}


def test_peer_props() -> None:
    message = Shareable()
    assert message.get_peer_props() is None
    assert message.get_peer_prop(ReservedKey.IDENTITY_NAME, "?") == "?"

    message.set_peer_props({ReservedKey.IDENTITY_NAME: "site-1"})
    assert message.get_peer_prop(ReservedKey.IDENTITY_NAME, "?") == "site-1"
    assert message.get_peer_prop(key="other", default=5) == 5


def test_equality_is_the_dicts() -> None:
    one, other = Shareable(), Shareable()
    one["x"] = other["x"] = 1

    assert one == other
    assert one == {"__headers__": {}, "x": 1}
    other.set_header("a", 1)
    assert one != other


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_deepcopy_and_pickle(clone) -> None:  # type: ignore[no-untyped-def]  # a parametrised callable
    message = make_reply(ReturnCode.ERROR)
    message["nested"] = {"list": [1, 2], "inner": make_reply(ReturnCode.OK)}

    again = clone(message)

    assert type(again) is Shareable
    assert again == message
    assert type(again["nested"]["inner"]) is Shareable
    again.set_header("a", 1)
    assert message.get_header("a") is None  # the headers were copied, too


def test_bytes_and_back() -> None:
    message = make_reply(ReturnCode.OK)
    message.add_cookie("round", 3)
    message["text"] = "hello"
    message["numbers"] = {1: 2.5, "flag": True, "none": None}

    data = message.to_bytes()

    assert type(data) is bytes
    assert Shareable.from_bytes(data) == message
    assert type(Shareable().from_bytes(data)) is Shareable  # applications also call it on an instance


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(DecodeError, match="not a Shareable"):
        Shareable.from_bytes(DXO(DataKind.METRICS, {"a": 1.0}).to_bytes())
