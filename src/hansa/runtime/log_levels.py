"""An app's own `config/log.config`: how much each logger says, in the file format of Python's `logging.config`.

Of the file only levels are taken (`[logger_NAME]`, `qualname`, `level`). Its handlers and formatters are not: what a
job logs goes where the site keeps it, and `fileConfig` would evaluate what they say.
"""

from __future__ import annotations

import configparser
import logging
from pathlib import Path

from hansa.errors import ConfigError

FILE = "config/log.config"
_MOST_BYTES = 1 << 16


def set_levels(app: Path) -> None:
    """Set the levels that an app wants, if it wants any.

    Args:
        app: The app's folder.

    Raises:
        ConfigError: The file is none of that kind; names section and key.
    """
    file = app / FILE
    if not file.is_file():
        return
    text = file.read_bytes()[:_MOST_BYTES].decode("utf-8", errors="replace")
    for name, level in levels_of(text, str(file)).items():
        logging.getLogger(name or None).setLevel(level)


def levels_of(text: str, file: str) -> dict[str, int]:
    """The levels by the logger's name, empty for the root.

    Args:
        text: The content.
        file: Where it stands, for errors.

    Raises:
        ConfigError: It is no such file.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ConfigError(f"is no log.config: {str(error).splitlines()[0]}", file=file) from None
    known = logging.getLevelNamesMapping()
    levels = {}
    for section in parser.sections():
        if not section.startswith("logger_"):
            continue
        said = parser[section].get("level", "NOTSET").strip().upper()
        if said not in known:
            raise ConfigError(f"{said!r} is no level; there are {', '.join(known)}", file=file, key=f"{section}.level")
        name = "" if section == "logger_root" else parser[section].get("qualname", section.removeprefix("logger_"))
        levels[name.strip()] = known[said]
    return levels
