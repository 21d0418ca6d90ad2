"""The fence around user code: nothing gets through, and every failure is one line that says where."""

from __future__ import annotations

import json
import linecache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.apis.dxo import from_shareable
from hansa.apis.shareable import Shareable
from hansa.runtime import user_code
from hansa.runtime.user_code import Failure, Success


def test_what_is_returned_comes_back() -> None:
    assert user_code.call(lambda a, b: a + b, 1, b=2) == Success(3)


def bad() -> None:
    raise ValueError("bad label")  # the line that a cause must name


LINE = bad.__code__.co_firstlineno + 1


def test_a_cause_is_class_message_file_and_line() -> None:
    outcome = user_code.call(bad)
    assert isinstance(outcome, Failure)
    assert outcome.cause == f"ValueError: bad label (test_user_code.py:{LINE})"


def test_a_cause_is_one_line_whatever_the_message() -> None:
    def many_lines() -> None:
        raise RuntimeError("\n\n  first\nsecond")

    outcome = user_code.call(many_lines)
    assert isinstance(outcome, Failure)
    assert outcome.cause.startswith("RuntimeError: first second (")  # the cause often stands in the second line
    assert "\n" not in outcome.cause


def test_without_a_message_the_class_says_it() -> None:
    def silent() -> None:
        raise KeyError

    outcome = user_code.call(silent)
    assert isinstance(outcome, Failure)
    assert outcome.cause.startswith("KeyError (test_user_code.py:")


class Broken(Exception):
    def __str__(self) -> str:
        raise TypeError("not even this")


def test_an_exception_that_cannot_be_printed_does_no_harm() -> None:
    def raises() -> None:
        raise Broken

    outcome = user_code.call(raises)
    assert isinstance(outcome, Failure)
    assert outcome.cause.startswith("Broken")


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, BaseException, StopIteration, MemoryError])
def test_whatever_it_raises_is_kept(kind: type[BaseException]) -> None:
    error = kind()

    def raises() -> None:
        raise error

    outcome = user_code.call(raises)
    assert isinstance(outcome, Failure)
    assert outcome.error is error


def test_the_keyboard_gets_through() -> None:
    def raises() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        user_code.call(raises)


def test_the_line_is_the_users_own_though_a_library_raised() -> None:
    def parse() -> None:
        json.loads("{")

    def shapes() -> None:
        np.ones(3) + np.ones(4)

    def ours() -> None:
        from_shareable(Shareable())

    for function in (parse, shapes, ours):
        outcome = user_code.call(function)
        assert isinstance(outcome, Failure)
        assert outcome.cause.endswith(f"(test_user_code.py:{function.__code__.co_firstlineno + 1})")


def test_the_traceback_has_the_users_frames_and_none_of_ours() -> None:
    outcome = user_code.call(lambda: from_shareable(Shareable()))
    assert isinstance(outcome, Failure)
    assert "test_user_code.py" in outcome.detail
    assert "ValueError: the Shareable holds no DXO" in outcome.detail
    assert str(Path(hansa.__file__).parent) not in outcome.detail
    assert outcome.detail.splitlines()[0] == "Traceback (user code):"


def test_an_error_without_a_frame_of_the_users_has_no_place() -> None:
    outcome = user_code.call(from_shareable, Shareable())
    assert isinstance(outcome, Failure)
    assert not outcome.cause.endswith(")")
    assert "dxo.py" in outcome.detail  # better our frames than none


def compiled(text: str, file: Path) -> CodeType:
    linecache.cache[str(file)] = (len(text), None, text.splitlines(keepends=True), str(file))
    return compile(text, str(file), "exec")


def test_a_folder_that_begins_like_ours_is_the_users() -> None:
    file = Path(hansa.__file__).parent.with_name("hansa_study") / "train.py"
    space: dict[str, Any] = {}
    exec(compiled("def train():\n    raise ValueError('x')\n", file), space)
    outcome = user_code.call(space["train"])
    assert isinstance(outcome, Failure)
    assert outcome.cause == "ValueError: x (train.py:2)"
