"""What a script prints: into its site's log, as far as that has room, and the last lines for a report."""

from __future__ import annotations

import codecs
import re
import sysconfig
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hansa.jobs.place import one_line

_MOST_BYTES = 10 << 20
"""How long a site's log may get by this."""
_MOST_LINES = 20
_MOST_CHARACTERS = 1000
"""How much of a line is kept for a report."""
_SHOWN_LINES = 3
_SHOWN_CHARACTERS = 280
_ERROR = re.compile(r"[A-Za-z_][\w.]*(?::.*)?")
_FRAME = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_OTHERS = (
    "<",
    str(Path(__file__).resolve().parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)
"""Where the script's own lines do not stand."""
_TOO_MUCH = b"\n(the log is full; the rest of what the script prints is not kept)\n"


class ScriptOutput:
    """Takes bytes as they come; holds a few lines, whatever comes.

    Args:
        log: The site's log.
    """

    def __init__(self, log: Path) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._room = 0
        self._log: BinaryIO | None = None
        with suppress(OSError):  # a full disk costs the log, not the script
            self._log = log.open("ab", buffering=0)
            self._room = max(0, _MOST_BYTES - self._log.tell())

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self._write(data)
        *whole, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in whole[-_MOST_LINES:]:
            self._keep(line)
        self._rest = self._rest[-_MOST_CHARACTERS:]

    def close(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self._keep(self._rest)
            self._rest = ""
            self._write(b"\n")
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def last_lines(self) -> list[str]:
        """The last lines that hold anything, without what a progress bar has overwritten."""
        return [*self._lines, *([self._rest] if self._rest.strip() else [])]

    def summary(self) -> str:
        """How it ended, in one line: the exception of a traceback with its place, else the last lines."""
        lines = self.last_lines
        frames = [(index, found) for index, line in enumerate(lines) if (found := _FRAME.match(line))]
        if frames:
            below = range(frames[-1][0] + 1, len(lines))
            error = next((index for index in below if _ERROR.fullmatch(lines[index])), None)
            if error is not None:
                kind, colon, text = " ".join(lines[error:]).partition(":")
                shown = f"{kind.rpartition('.')[2]}{colon}{text}"
                return one_line(shown, _SHOWN_CHARACTERS) + _place([found for _, found in frames])
        return one_line(" | ".join(lines[-_SHOWN_LINES:]), _SHOWN_CHARACTERS)

    def _keep(self, line: str) -> None:
        shown = line.rstrip("\r").rpartition("\r")[2][:_MOST_CHARACTERS]
        if shown.strip():
            self._lines.append(shown)

    def _write(self, data: bytes) -> None:
        if self._log is None or not self._room:
            return
        kept = data[: self._room]
        self._room -= len(kept)
        with suppress(OSError):
            self._log.write(kept if self._room else kept + _TOO_MUCH)


def _place(frames: list[re.Match[str]]) -> str:
    """The script's own line: the innermost that is no library's."""
    own = [frame for frame in frames if not frame["file"].startswith(_OTHERS)]
    nearest = (own or frames)[-1]
    return f" ({Path(nearest['file']).name}:{nearest['line']})"
