"""The fork server's own loop: `python -m hansa.runtime.fork_loop DESCRIPTOR`, or forked from an agent.

It has one thread, always: a fork copies no other. Its parent's end of the socket is its sign of life; when that is
gone, however the agent ended, all job processes end and the fork server, too.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hansa.runtime.environment import MALLOC, THREAD_VARIABLES
from hansa.runtime.job_process import Leaving, close_all_but
from hansa.runtime.keeper import end_strays, keep
from hansa.runtime.script_guard import adopt
from hansa.wire.pipe import FrameReader, pack_frame

PRELOADED = ("numpy", "numpy.random", "threadpoolctl", "hansa.runtime.job_server", "hansa.runtime.job_site")
_READ_BYTES = 1 << 16
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_END_S = 10.0


def serve(descriptor: int) -> NoReturn:
    """Load what job processes need, and fork them as told; never returns.

    Args:
        descriptor: The socket to the agent; everything else that is open, standard streams apart, is closed.
    """
    with Leaving():
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        close_all_but(descriptor)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        adopt()
        _Loop(socket.socket(fileno=descriptor)).run()
    raise AssertionError


def _preload() -> None:
    gc.disable()
    _set_malloc()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # else NumPy's library starts threads as it is loaded
    for name in PRELOADED:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection of each job process writes to all of this memory, and so copies it
    gc.enable()
    num_threads = len([*Path("/proc/self/task").iterdir()]) if sys.platform == "linux" else 1
    if num_threads != 1:
        sys.stderr.write(f"hansa: the fork server has {num_threads} threads: job processes may hang\n")


def _set_malloc() -> None:
    """What `MALLOC` says, which the allocator reads from the environment of programs only, not of forked processes."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # glibc's
        for (name, value), number in zip(MALLOC.items(), (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD), strict=True):
            if name not in os.environ:
                library.mallopt(number, int(value))


@dataclass
class _Keeper:
    name: str
    pid: int
    sock: socket.socket
    reader: FrameReader
    started: float
    last_words: dict[str, Any] | None = None  # Any: JSON


class _Loop:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = FrameReader()
        self._keepers: dict[int, _Keeper] = {}
        self._is_over = False
        self._is_warm = False

    def run(self) -> None:
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGTERM, self._leave)
        while not self._is_over:
            ready = select.poll()
            for descriptor in (self._sock.fileno(), wake, *self._keepers):
                ready.register(descriptor, select.POLLIN)
            for descriptor, _ in ready.poll():
                if descriptor == self._sock.fileno():
                    self._listen()
                elif descriptor in self._keepers:
                    self._hear(self._keepers[descriptor])
        self._end_all()

    def _leave(self, *_: object) -> None:
        self._is_over = True

    # -- the agent -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        data = _received(self._sock)
        if not data:
            self._is_over = True
        for head, _ in self._reader.feed(data):
            if head["k"] in ("warm", "launch") and not self._is_warm:
                self._is_warm = True
                _preload()
            if head["k"] == "launch":
                self._launch(head["spec"])
            elif head["k"] == "warm":
                pass
            elif head["k"] == "leave":
                self._is_over = True
            else:
                for keeper in self._keepers.values():
                    if keeper.name == head["name"]:
                        _send(keeper.sock, head)

    def _launch(self, spec: dict[str, Any]) -> None:  # Any: JSON
        name = spec["name"]
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    keep(theirs.detach(), spec)
        except OSError as error:
            _send(self._sock, {"k": "failed", "name": name, "cause": error.strerror})
            return
        self._keepers[ours.fileno()] = _Keeper(name, pid, ours, FrameReader(), time.monotonic())

    # -- the keepers ---------------------------------------------------------------------------------------------------

    def _hear(self, keeper: _Keeper) -> None:
        data = _received(keeper.sock)
        for head, _ in keeper.reader.feed(data):
            if head["k"] == "started":
                _send(self._sock, head)
            else:
                keeper.last_words = head
        if not data:
            self._end(keeper)

    def _end(self, keeper: _Keeper) -> None:
        """A keeper has ended: in order, or it was killed, and its job process with it."""
        del self._keepers[keeper.sock.fileno()]
        keeper.sock.close()
        os.waitpid(keeper.pid, 0)
        if keeper.last_words is None:
            end_strays([each.pid for each in self._keepers.values()])
            report = {"code": -signal.SIGKILL, "seconds": time.monotonic() - keeper.started, "peak_rss_bytes": 0}
            keeper.last_words = {"k": "exited", "name": keeper.name, **report}
        _send(self._sock, keeper.last_words)  # not before nothing is left

    def _end_all(self) -> None:
        """Keepers end what they keep once nobody holds the other end; they say how, if there is still someone."""
        deadline = time.monotonic() + _END_S
        for keeper in self._keepers.values():
            keeper.sock.shutdown(socket.SHUT_WR)
        while self._keepers and (rest := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select(list(self._keepers), [], [], rest)
            for descriptor in ready:
                self._hear(self._keepers[descriptor])
        end_strays()


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(_READ_BYTES)
    except ConnectionError:
        return b""


def _send(sock: socket.socket, head: dict[str, Any]) -> None:  # Any: JSON
    with suppress(ConnectionError):  # the end of the connection is read next
        sock.sendall(pack_frame(head))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
