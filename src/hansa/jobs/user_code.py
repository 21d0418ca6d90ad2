"""The boundary to code that a job brings: what it raises becomes one line that says where, here and in the runtime."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hansa.errors import ConfigError
from hansa.jobs.place import Place, one_line

_OUR_FOLDER = str(Path(__file__).resolve().parents[1]) + os.sep
_LIBRARIES = ("<frozen", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


@contextmanager
def user_code(what: str, place: Place) -> Iterator[None]:
    """Run code of a job's class; anything it raises is a ConfigError at that place.

    Args:
        what: The start of the message, such as `cannot import net`.
        place: The component in the config.

    Raises:
        ConfigError: The code raised, whatever it raised (KeyboardInterrupt apart).
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except ConfigError as error:
        if error.file is not None:
            raise
        at = place.at("args", error.key) if error.key else place
        raise at.error(f"{what}: {error.message}") from error
    except BaseException as error:  # user code may raise anything, SystemExit too; that is a mistake in the job
        raise place.error(f"{what}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An exception in one line: its class, its text, and the user's line it comes from, such as `(train.py:12)`."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        text, where = error.msg, _line(error.filename or "?", error.lineno)
    else:
        text, where = _text(error), _origin(error)
    return f"{one_line(f'{type(error).__name__}: {text}' if text else type(error).__name__)}{where}"


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """Where an exception came through, without Hansa's own code."""
    return [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OUR_FOLDER)]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its __str__ is user code, too
        return ""


def _origin(error: BaseException) -> str:
    frames = frames_of(error)
    own = [f for f in frames if not f.filename.startswith(_LIBRARIES)]  # the user's line, not the library's below it
    nearest = own or frames
    return _line(nearest[-1].filename, nearest[-1].lineno) if nearest else ""


def _line(filename: str, number: int | None) -> str:
    return f" ({Path(filename).name}:{number})"
