"""A training script that travels with a job: the script and the modules beside it that it imports."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from hansa.errors import ConfigError
from hansa.jobs.job import Content
from hansa.jobs.source_files import neighbours_of

CUSTOM = "custom"
"""The folder of an app that holds its code."""


def script_files(script: object) -> tuple[str, dict[str, Content]]:
    """What an app must hold so that a script runs at its sites.

    Args:
        script: The path of a Python file.

    Returns:
        The script's name in `custom/`, and all files by their paths in the app.

    Raises:
        ConfigError: There is no such file, or it is no Python.
    """
    if not isinstance(script, str | os.PathLike) or not str(script):
        raise ConfigError(f"must be the path of a Python file, not {script!r}", key="script")
    path = Path(script).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"there is no file {str(script)!r}", key="script")
    if path.suffix != ".py":
        raise ConfigError(f"must be a Python file, and {path.name!r} is none", key="script")
    try:
        files = neighbours_of(path)
    except SyntaxError as error:
        where = Path(error.filename or path).name
        raise ConfigError(f"{where}, line {error.lineno}: {error.msg}", key="script") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", key="script") from None
    return path.name, {f"{CUSTOM}/{name}": file for name, file in files.items()}


def command_line(arguments: object) -> str:
    """The arguments of a script as one text.

    Raises:
        ConfigError: They are no texts or numbers.
    """
    if isinstance(arguments, str):
        return arguments
    if isinstance(arguments, Sequence) and all(isinstance(each, str | int | float | Path) for each in arguments):
        return shlex.join(str(each) for each in arguments)
    raise ConfigError(f"must be a list of texts and numbers, not {arguments!r}", key="script_args")
