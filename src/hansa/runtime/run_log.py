"""The log of one run, as a file in its folder."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Self

from hansa.runtime.run_folder import LOG


class LogFile:
    """Everything that anybody logs while it is open, at level INFO and above.

    Components log under names of their own, so the handler sits at the root of the loggers; it goes away with
    the run, and the level is put back.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._handler = logging.FileHandler(folder / LOG, encoding="utf-8", delay=True)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._handler.setLevel(logging.INFO)
        self._level = logging.WARNING

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
        self._handler.close()
