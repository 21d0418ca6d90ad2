"""The boundary to code that a job brings: what it raises becomes one line that says where."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hansa.errors import ConfigError
from hansa.jobs.place import Place, one_line

_NOT_THE_USERS = (
    "<frozen",
    str(Path(__file__).parents[1]),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
)


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
    """An exception in one line: its class, its text, and the line of the user's code it comes from."""
    if isinstance(error, SyntaxError):
        text, where = error.msg, _line(error.filename or "?", error.lineno)
    else:
        text, where = str(error), _origin(error)
    return one_line(f"{type(error).__name__}{': ' if text else ''}{text}{where}")


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not frame.filename.startswith(_NOT_THE_USERS)]
    return _line(ours[-1].filename, ours[-1].lineno) if ours else ""


def _line(filename: str, number: int | None) -> str:
    return f" ({Path(filename).name}:{number})"
