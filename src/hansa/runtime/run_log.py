"""The log of one run, as a file in its folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from hansa.runtime.run_folder import LOG

WriteLater = Callable[[str, Callable[[], None]], None]
"""See `hansa.apis.engine.OffersWriter`."""


class LogFile:
    """Everything that anybody logs while it is open, at level INFO and above.

    Components log under names of their own, so the handler sits at the root of the loggers; it goes away with
    the run, and the level is put back.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._handler = _Handler(folder / LOG)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._handler.setLevel(logging.INFO)
        self._level = logging.WARNING

    def flush_later(self, write_later: WriteLater | None) -> None:
        """From now on lines below WARNING reach the file with the next write; None: at once, as in the beginning."""
        self._handler.write_later = write_later

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self._handler)
        if root.level > logging.INFO or root.level == logging.NOTSET:
            root.setLevel(logging.INFO)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level)
        with suppress(OSError):  # a full disk; who writes the record says so
            self._handler.close()


def keep_lines(lines: Iterable[tuple[int, str, str, float]]) -> None:
    """Log what was logged in another process: level, logger, text, and seconds since 1970."""
    for level, name, text, created in lines:
        record = logging.LogRecord(name, level, "", 0, text, None, None)
        record.created = created
        logging.getLogger(name).handle(record)


class _Handler(logging.FileHandler):
    """A file that is not flushed for each line: that costs more than the line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.write_later: WriteLater | None = None
        self._is_urgent = True

    def emit(self, record: logging.LogRecord) -> None:
        self._is_urgent = record.levelno >= logging.WARNING
        super().emit(record)
        self._is_urgent = True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in logging
        if not isinstance(sys.exc_info()[1], OSError):  # a full disk is reported once, by who writes the record
            super().handleError(record)

    def flush(self) -> None:
        if self._is_urgent or self.write_later is None:
            super().flush()
        else:
            self.write_later("the log", super().flush)
