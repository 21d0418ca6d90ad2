"""The fence around other people's code: whatever it raises costs one call, never the process."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_OUR_FOLDER = str(Path(__file__).resolve().parents[1]) + os.sep
_LIBRARIES = ("<frozen", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


@dataclass(frozen=True)
class Failure:
    """What user code raised.

    Attributes:
        error: The exception itself.
        cause: One line: class, message, and the user's file and line.
        detail: The traceback without Hansa's own frames, for the log.
    """

    error: BaseException
    cause: str
    detail: str


@dataclass(frozen=True)
class Mishap:
    """Where user code failed.

    Attributes:
        site: At which site (`server` for the server).
        where: What was under way.
    """

    site: str
    where: str


OnFailure = Callable[[Mishap, Failure], None]
"""Told of failures of user code, so that they are kept with the run."""


@dataclass(slots=True)  # not frozen: one is made per call, and a frozen one costs three times as much
class Success(Generic[T]):
    """What user code returned."""

    value: T


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Success[T] | Failure:
    """Call user code.

    Raises:
        KeyboardInterrupt: The person at the keyboard is not user code's to swallow.
    """
    try:
        return Success(function(*args, **kwargs))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and its like end a call here, not the federation
        return failure_of(error)


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception of user code."""
    return Failure(error, describe(error), _user_traceback(error))


def describe(error: BaseException) -> str:
    """An exception in one line: `ValueError: bad label (train.py:12)`."""
    message = next((line.strip() for line in _text(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frame = _user_frame(error)
    return f"{text} ({Path(frame.filename).name}:{frame.lineno})" if frame else text


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its __str__ is user code, too
        return ""


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OUR_FOLDER)]
    own = [f for f in frames if not f.filename.startswith(_LIBRARIES)]  # the user's line, not the library's below it
    nearest = own or frames
    return nearest[-1] if nearest else None


def _user_traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    kept = [f for f in frames if not f.filename.startswith(_OUR_FOLDER)] or frames
    lines = ["Traceback (user code):\n", *traceback.format_list(kept), *traceback.format_exception_only(error)]
    return "".join(lines).rstrip()
