"""The fence around other people's code: whatever it raises costs one call, never the process."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_OUR_FOLDER = str(Path(__file__).resolve().parents[1])


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
        return Failure(error, describe(error), _user_traceback(error))


def describe(error: BaseException) -> str:
    """An exception in one line: `ValueError: bad label (train.py:12)`."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frame = _user_frame(error)
    return f"{text} ({Path(frame.filename).name}:{frame.lineno})" if frame else text


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OUR_FOLDER)]
    return frames[-1] if frames else None


def _user_traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    kept = [f for f in frames if not f.filename.startswith(_OUR_FOLDER)] or frames
    lines = ["Traceback (user code):\n", *traceback.format_list(kept), *traceback.format_exception_only(error)]
    return "".join(lines).rstrip()
