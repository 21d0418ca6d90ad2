"""Messages between two programs of one machine through files."""

from __future__ import annotations

import os
import select
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

Received = tuple[str | None, bytes | None]

_BELL = "bell"
_TEMPORARY = ".new-"
_TOPIC_BYTES = 100
"""A file's name may have 255."""


class Pipe(ABC):
    """Two ends, x and y; what one puts the other gets, in that order."""

    @abstractmethod
    def clear(self) -> None:
        """Drop everything that nobody got yet, in both directions."""

    @abstractmethod
    def x_put(self, topic: str, data_bytes: bytes) -> None:
        """Put a message in at x, for y."""

    @abstractmethod
    def x_get(self, timeout: float | None = None) -> Received:
        """Get the next message that y put; see `y_get`."""

    @abstractmethod
    def y_put(self, topic: str, data_bytes: bytes) -> None:
        """Put a message in at y, for x."""

    @abstractmethod
    def y_get(self, timeout: float | None = None) -> Received:
        """Get the next message that x put.

        Args:
            timeout: How many seconds to wait for one; None: not at all.

        Returns:
            Topic and data; `(None, None)` where nothing came.
        """


class FilePipe(Pipe):
    """A pipe through the folder `root_path/name`, which outlives the programs at its ends.

    A message is one file; it appears whole, by being renamed, so that nobody reads half of it. Whoever waits is woken
    through a named pipe beside the files, and looks at nothing meanwhile. Each end is for one program at a time.

    Args:
        root_path: The folder of all pipes; made if need be.
        name: The pipe's name, without a path.

    Raises:
        TypeError: An argument is no str.
        ValueError: The name is empty or holds a path.
    """

    def __init__(self, root_path: str, name: str) -> None:
        for key, value in (("root_path", root_path), ("name", name)):
            if not isinstance(value, str):
                raise TypeError(f"{key} must be str, but got {type(value)}")
        if name in ("", "..") or Path(name).name != name:
            raise ValueError(f"name must be a name without a path, but got {name!r}")
        self.root_path = root_path
        self.name = name
        self._to_x = _Direction(Path(root_path) / name / "to_x")
        self._to_y = _Direction(Path(root_path) / name / "to_y")

    def clear(self) -> None:
        for direction in (self._to_x, self._to_y):
            direction.clear()

    def x_put(self, topic: str, data_bytes: bytes) -> None:
        self._to_y.put(topic, data_bytes)

    def x_get(self, timeout: float | None = None) -> Received:
        return self._to_x.get(timeout)

    def y_put(self, topic: str, data_bytes: bytes) -> None:
        self._to_x.put(topic, data_bytes)

    def y_get(self, timeout: float | None = None) -> Received:
        return self._to_y.get(timeout)


class _Direction:
    """The messages one way: files that are called by their number and topic."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.mkfifo(folder / _BELL)

    def put(self, topic: str, data: bytes) -> None:
        if not isinstance(topic, str) or not 0 < len(topic.encode()) <= _TOPIC_BYTES:
            raise ValueError(f"topic must be a str of 1 to {_TOPIC_BYTES} bytes, but got {topic!r:.200}")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data_bytes must be bytes, but got {type(data)}")
        descriptor, path = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        waiting = self._waiting()
        number = int(waiting[-1].name.partition("-")[0]) + 1 if waiting else time.time_ns()
        Path(path).rename(self._folder / f"{number:020d}-{topic.encode().hex()}")
        self._ring()

    def get(self, timeout: float | None) -> Received:
        deadline = None if timeout is None else time.monotonic() + timeout
        # Both ways, so that it opens at once, and never reads as ended.
        bell = os.open(self._folder / _BELL, os.O_RDWR | os.O_NONBLOCK)
        try:
            while True:
                with suppress(BlockingIOError):
                    os.read(bell, 4096)  # before the look: who puts after it rings again
                if waiting := self._waiting():
                    return self._take(waiting[0])
                left = 0.0 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return None, None
                select.select([bell], [], [], left)
        finally:
            os.close(bell)

    def clear(self) -> None:
        for path in self._waiting():
            path.unlink(missing_ok=True)

    def _waiting(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.name[0].isdecimal())

    def _take(self, path: Path) -> Received:
        data = path.read_bytes()
        path.unlink()
        return bytes.fromhex(path.name.partition("-")[2]).decode(), data

    def _ring(self) -> None:
        with suppress(OSError):  # nobody waits, or has been rung for
            bell = os.open(self._folder / _BELL, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(bell, b"!")
            finally:
                os.close(bell)
