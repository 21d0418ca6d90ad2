"""The logs of a worker: a file per site, and everything on to the server's log."""

from __future__ import annotations

import io
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

_MOST_OPEN = 16
_MOST_BYTES = 10 << 20
"""How much one site may write into its log."""


class SiteLogs:
    """While it is entered, what is logged and printed goes into the log of the site at work.

    A site's log is `log.txt` in its workspace, at most 10 MB. What is logged also goes to `forward`; what is printed
    while no site is at work goes where it always goes.

    Args:
        workspaces: Where the sites have their workspaces.
        forward: Told of each record from level INFO on.
    """

    def __init__(self, workspaces: Path, forward: Callable[[logging.LogRecord], None]) -> None:
        self._workspaces = workspaces
        self._forward = forward
        self._site: str | None = None
        self._open: OrderedDict[str, TextIO] = OrderedDict()
        self._written: dict[str, int] = {}
        self._handler = _Handler(self)
        self._printed: tuple[TextIO, TextIO] | None = None

    def enter(self, site: str | None) -> None:
        """From now on this site is at work; None: nobody is."""
        self._site = site

    def __enter__(self) -> Self:
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(logging.INFO)
        self._printed = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _Printed(self, sys.stdout), _Printed(self, sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        logging.getLogger().removeHandler(self._handler)
        if self._printed is not None:
            sys.stdout, sys.stderr = self._printed
        for stream in self._open.values():
            with suppress(OSError):
                stream.close()
        self._open.clear()

    def keep(self, record: logging.LogRecord, line: str) -> None:
        """A record was logged."""
        self.write(line + "\n")
        self._forward(record)

    def write(self, text: str) -> bool:
        """Write to the log of the site at work; False if nobody is."""
        site = self._site
        if site is None:
            return False
        written = self._written.get(site, 0)
        if written > _MOST_BYTES:
            return True
        self._written[site] = written + len(text)
        with suppress(OSError):  # a full disk costs the log, not the task
            stream = self._stream(site)
            stream.write(text)
            if written + len(text) > _MOST_BYTES:
                stream.write("\n(more than 10 MB; the rest is not kept)\n")
            stream.flush()
        return True

    def _stream(self, site: str) -> TextIO:
        stream = self._open.pop(site, None)
        if stream is None:
            stream = (self._workspaces / site / "log.txt").open("a", encoding="utf-8")
            if len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open[site] = stream
        return stream


class _Handler(logging.Handler):
    def __init__(self, logs: SiteLogs) -> None:
        super().__init__(logging.INFO)
        self._logs = logs
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError, KeyError):  # arguments that do not fit the message
            self.handleError(record)
        else:
            self._logs.keep(record, line)


class _Printed(io.TextIOBase):
    """What a site prints, in its log."""

    def __init__(self, logs: SiteLogs, otherwise: TextIO) -> None:
        super().__init__()
        self._logs = logs
        self._otherwise = otherwise

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self._logs.write(text):
            self._otherwise.write(text)
        return len(text)

    def flush(self) -> None:
        self._otherwise.flush()

    def fileno(self) -> int:
        return self._otherwise.fileno()

    def isatty(self) -> bool:
        return False
