"""What people who follow a job get to see: its state, its progress, and the lines of its record as they are written.

The lines lie in files; a follower has an offset in each, so that nothing is kept in memory for it, and one that was cut
off goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from hansa.runtime.run_folder import HISTORY, PROBLEMS

FILES = (HISTORY, PROBLEMS)
_CHUNK_BYTES = 1 << 18

Look = Callable[[], tuple[dict[str, Any], bool]]  # Any: JSON
"""The job's state as plain data, and whether it will change no more."""


class JobFeeds:
    """Wakes those who follow a job when there is something new."""

    def __init__(self) -> None:
        self._changes: dict[str, asyncio.Event] = {}

    def wake(self, job_id: str) -> None:
        """Something of the job is new."""
        event = self._changes.pop(job_id, None)
        if event is not None:
            event.set()

    async def follow(
        self, job_id: str, folder: Path, *, look: Look, offsets: Mapping[str, int]
    ) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        """All that happens to a job from now on, and what is in its record beyond the offsets; ends with the job.

        Yields:
            `{"k": "state", ...}` and `{"k": "lines", "file", "lines", "offset"}`; the offset is where to go on.
        """
        at = {name: int(offsets.get(name, 0)) for name in FILES}
        shown: dict[str, Any] | None = None
        while True:
            change = self._changes.setdefault(job_id, asyncio.Event())
            state, is_over = look()
            for name in FILES:
                while True:
                    lines, at[name] = await asyncio.to_thread(_new_lines, folder / name, at[name])
                    if not lines:
                        break
                    yield {"k": "lines", "file": name, "lines": lines, "offset": at[name]}
            if state != shown:
                shown = state
                yield {"k": "state", **state}
            if is_over:
                return
            await change.wait()


def _new_lines(file: Path, offset: int) -> tuple[list[Any], int]:  # Any: JSON
    """The whole lines after an offset, a few at a time, and the offset after them."""
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(_CHUNK_BYTES)
            if data and b"\n" not in data:
                data += stream.readline()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return [json.loads(line) for line in data[:end].split(b"\n") if line], offset + end
