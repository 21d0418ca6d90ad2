"""The fence around other people's code: whatever it raises costs one call, never the process."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from hansa.jobs.user_code import describe as describe
from hansa.jobs.user_code import frames_of

P = ParamSpec("P")
T = TypeVar("T")


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
        KeyboardInterrupt: The person at the keyboard is not user code's to swallow; the main thread hears of it.
    """
    try:
        return Success(function(*args, **kwargs))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        # SystemExit and its like end a call here, not the federation
        return failure_of(error)


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception of user code."""
    return Failure(error, describe(error), _user_traceback(error))


def _user_traceback(error: BaseException) -> str:
    kept = frames_of(error) or traceback.extract_tb(error.__traceback__)
    lines = ["Traceback (user code):\n", *traceback.format_list(kept), *traceback.format_exception_only(error)]
    return "".join(lines).rstrip()
