"""What the server's program and a site's have in common: one per kit, a ready line, and an orderly end on SIGTERM.

This module is imported before the fork server is started, and so loads nothing heavy.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hansa.errors import ConfigError

GRACE_S = 5.0
"""How long jobs may take to end when the program is told to stop."""

_M_ARENA_MAX = -8
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Ready:
    """Tells whoever started the program that it is up, or why not; once.

    Args:
        descriptor: An open pipe; None: nobody asks.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def tell(self, line: str = "ready") -> None:
        """Write a line and close the pipe."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # who asked may be gone
                os.write(descriptor, f"{line}\n".encode())
                os.close(descriptor)


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold a kit for this process; a second program on the same kit is refused.

    Raises:
        ConfigError: Another one runs, or the folder cannot be written.
    """
    try:
        lock: IO[str] = (folder / f"{what}.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(folder)) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            raise ConfigError(f"the {what} of this kit runs already (process {pid})", file=str(folder)) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
        lock.truncate(0)


def log_to_stderr() -> None:
    """Log at INFO and above to standard error, as a service's supervisor expects it."""
    logging.basicConfig(level=logging.INFO, format=_FORMAT, stream=sys.stderr)


def write_state(file: Path, **state: object) -> None:
    """Write a small JSON file, whole or not at all."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(json.dumps({"pid": os.getpid(), **state}) + "\n", encoding="utf-8")
    temporary.replace(file)


async def until_told(run: Awaitable[object], stop: Callable[[float], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order; a second signal stops at once.

    Args:
        run: What serves; returns after `stop`, or raises.
        stop: Ends it, within so many seconds.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, told.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the terminal has closed: go on
    serving = asyncio.ensure_future(run)
    waiting = asyncio.ensure_future(told.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        waiting.cancel()
        await serving
        return
    loop.add_signal_handler(signal.SIGTERM, lambda: os._exit(1))
    loop.add_signal_handler(signal.SIGINT, lambda: os._exit(130))
    await stop(GRACE_S)
    with suppress(asyncio.CancelledError):
        serving.cancel()
        await serving


def run_service(main: Callable[[], Awaitable[None]]) -> None:
    """Run a program's coroutine."""
    _keep_little()
    asyncio.run(_awaited(main))


def _keep_little() -> None:
    """Have glibc keep few heaps, where it would keep one for each of gRPC's threads."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


async def _awaited(main: Callable[[], Awaitable[None]]) -> None:
    await main()
