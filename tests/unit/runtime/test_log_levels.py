"""The levels in an app's own log.config; nothing else of it counts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hansa.errors import ConfigError
from hansa.runtime.log_levels import levels_of, set_levels

FLARE = """
[loggers]
keys=root,modelLogger

[handlers]
keys=consoleHandler

[formatters]
keys=fullFormatter

[logger_root]
level=INFO
handlers=consoleHandler

[logger_modelLogger]
level=DEBUG
handlers=consoleHandler
qualname=modelLogger
propagate=0

[handler_consoleHandler]
class=__import__("os").abort()
args=(__import__("os").abort(),)

[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""


def test_levels_are_taken_and_nothing_is_evaluated() -> None:
    assert levels_of(FLARE, "log.config") == {"": logging.INFO, "modelLogger": logging.DEBUG}


def test_they_are_set_where_an_app_has_the_file(tmp_path: Path) -> None:
    logger = logging.getLogger("hansa.test_log_levels")
    set_levels(tmp_path)
    assert logger.level == logging.NOTSET
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "log.config").write_text(f"[logger_a]\nqualname={logger.name}\nlevel=warning\n")
    try:
        set_levels(tmp_path)
        assert logger.level == logging.WARNING
    finally:
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[logger_a]\nlevel=LOUD\n", r"log.config: logger_a.level: 'LOUD' is no level; there are "),
        ("level=INFO\n", "log.config: is no log.config: File contains no section headers"),
    ],
)
def test_a_mistake_is_one_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        levels_of(text, "log.config")
