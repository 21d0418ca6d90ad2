"""The end of a log."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from hansa.errors import ConfigError

_MOST_LINES = 10_000
_MOST_BYTES = 150_000  # as JSON, even of binary junk, a head that may travel


def last_lines(file: Path, num_lines: int) -> str:
    """The end of a log: so many lines, at most 150 kB.

    Raises:
        ConfigError: There is no such log.
    """
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _MOST_BYTES))
            text = stream.read(_MOST_BYTES).decode(errors="replace")
    except FileNotFoundError:
        raise ConfigError("there is no log of this job here") from None
    kept = deque(text.splitlines(keepends=True), maxlen=min(max(num_lines, 1), _MOST_LINES))
    return "".join(kept)


def last_word(file: Path) -> str:
    """What a process said last, to be added to the cause of its end; empty if it said nothing."""
    with suppress(ConfigError):
        if said := last_lines(file, 5).strip().rpartition("\n")[2]:
            return f"; the last line of its log: {said[:300]}"
    return ""
