"""Where an agent's job processes come from: a small process that has loaded what they need, and forks.

The agent starts it first of all, while it is small and has one thread, and so nothing large is imported here. The fork
server loads NumPy and Hansa's runtime once, and never gRPC, whose threads no fork would survive. Each job process has a
keeper between itself and the fork server (`hansa.runtime.keeper`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hansa.errors import RunError
from hansa.wire.pipe import AsyncPipe, Head

_LEAVE_S = 15.0
_TOO_LARGE_TO_FORK = ("numpy", "grpc", "torch")

_logger = logging.getLogger("hansa.launcher")


@dataclass(frozen=True)
class ProcessSpec:
    """A job process to start.

    Attributes:
        name: What it is called; no two of a name run at once.
        entry: The module whose `main(spec)` it runs.
        address: Where it connects back, see `hansa.wire.pipe.connect_pipe`.
        token: What it shows there.
        folder: Where it works.
        log: Where its standard output and error go, at the end of what is there.
        environment: Its environment, and nothing else.
        args: What its `main` wants to know; JSON.
    """

    name: str
    entry: str
    address: str
    token: str
    folder: Path
    log: Path
    environment: Mapping[str, str]
    args: dict[str, Any]  # Any: JSON

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """As JSON."""
        return {
            **asdict(self),
            "folder": str(self.folder),
            "log": str(self.log),
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ProcessSpec:  # Any: JSON
        """What `to_json` gave."""
        return cls(**{**fields, "folder": Path(fields["folder"]), "log": Path(fields["log"])})


@dataclass(frozen=True)
class ExitReport:
    """How a job process ended.

    Attributes:
        code: Its exit code; below 0 a signal.
        seconds: How long it lived.
        peak_rss_bytes: The most memory that it had, or one of the processes that it waited for; 0: not known.
    """

    code: int
    seconds: float
    peak_rss_bytes: int

    @property
    def how(self) -> str:
        """In words."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:  # a real-time signal
            return f"was killed by signal {-self.code}"


OnExit = Callable[[str, ExitReport], None]


class JobLauncher(Protocol):
    """Where job processes come from: this machine, or whatever else starts programs."""

    async def attach(self, on_exit: OnExit) -> None:
        """Begin; `on_exit` is called on the loop with the name of each process that has ended, after its launch."""
        ...

    async def launch(self, spec: ProcessSpec) -> int:
        """Start a process.

        Returns:
            Its number, for log lines.

        Raises:
            RunError: It cannot be started.
        """
        ...

    def terminate(self, name: str, grace_s: float) -> None:
        """Ask a process to end, with all that it started, and make it after so many seconds."""
        ...

    def kill(self, name: str) -> None:
        """End a process with all that it started."""
        ...

    async def close(self) -> None:
        """End all processes; returns when nothing of them is left."""
        ...


class ForkServer:
    """The agent's end of its fork server; made by `start`."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._sock = sock
        self._pipe: AsyncPipe | None = None
        self._gone: asyncio.Future[None] | None = None
        self._on_exit: OnExit = _ignore
        self._starting: dict[str, asyncio.Future[int]] = {}
        self._running: set[str] = set()
        self._is_closing = False
        self._reviving = asyncio.Lock()

    @classmethod
    def start(cls) -> ForkServer:
        """Fork it from this process, which has one thread and loaded nothing large; else start it as a program."""
        return cls(*_start())

    async def attach(self, on_exit: OnExit) -> None:
        """See `JobLauncher.attach`."""
        self._on_exit = on_exit
        loop = asyncio.get_running_loop()
        pipe = AsyncPipe("the fork server")
        pipe.on_frame = self._heard
        pipe.on_close = self._lost
        self._pipe = pipe
        self._gone = loop.create_future()
        self._sock.setblocking(False)
        await loop.create_unix_connection(lambda: pipe, sock=self._sock)

    def warm_up(self) -> None:
        """Have it load what job processes need, which the first launch would have to wait for."""
        self._tell({"k": "warm"})

    async def launch(self, spec: ProcessSpec) -> int:
        """See `JobLauncher.launch`; a fork server that was killed is started again."""
        if self._pipe is None or self._gone is None or self._is_closing:
            raise RunError(f"{spec.name} cannot be started: its launcher is closed")
        if spec.name in self._running or spec.name in self._starting:
            raise RunError(f"{spec.name} cannot be started: it runs already")
        await self._revive()
        started = asyncio.get_running_loop().create_future()
        self._starting[spec.name] = started
        try:
            self._pipe.send({"k": "launch", "spec": spec.to_json()})
            return int(await started)
        except asyncio.CancelledError:
            self.kill(spec.name)
            raise
        finally:
            self._starting.pop(spec.name, None)

    def terminate(self, name: str, grace_s: float) -> None:
        """See `JobLauncher.terminate`; a process that is not there is none to end."""
        self._tell({"k": "terminate", "name": name, "grace_s": grace_s})

    def kill(self, name: str) -> None:
        """See `JobLauncher.kill`."""
        self._tell({"k": "kill", "name": name})

    async def close(self) -> None:
        """See `JobLauncher.close`."""
        self._is_closing = True
        if self._pipe is None or self._gone is None:
            self._sock.close()
            _reap(self.pid)
        elif not self._gone.done():
            self._tell({"k": "leave"})
            await asyncio.wait((self._gone,), timeout=_LEAVE_S)
            if not self._gone.done():
                _logger.error("the fork server does not end: killed")
                _reap(self.pid)
                self._pipe.close()
                await self._gone

    async def _revive(self) -> None:
        async with self._reviving:
            if self._gone is not None and self._gone.done():
                try:
                    self.pid, self._sock = _start()
                except OSError as error:
                    raise RunError(f"the fork server cannot be started again: {error.strerror}") from error
                await self.attach(self._on_exit)

    def _tell(self, head: Head) -> None:
        if self._pipe is not None:
            self._pipe.send(head)

    def _heard(self, head: Head, parts: list[bytes]) -> None:
        name = head["name"]
        started = self._starting.get(name)
        if head["k"] == "started":
            self._running.add(name)
            if started is not None and not started.done():
                started.set_result(head["pid"])
        elif name in self._running:
            self._exited(name, ExitReport(head["code"], head["seconds"], head["peak_rss_bytes"]))
        elif started is not None and not started.done():
            cause = head.get("cause", "its keeper was killed")
            started.set_exception(RunError(f"{name} cannot be started: {cause}"))

    def _exited(self, name: str, report: ExitReport) -> None:
        self._running.discard(name)
        # Not at once: who launched it is told that it runs first, and may be about to be.
        asyncio.get_running_loop().call_soon(self._on_exit, name, report)

    def _lost(self) -> None:
        assert self._gone is not None
        _reap(self.pid)
        for name, started in self._starting.items():
            if not started.done():
                started.set_exception(RunError(f"{name} cannot be started: the fork server has ended"))
        if not self._is_closing:
            _logger.error("the fork server has ended; %d job processes end with it", len(self._running))
        for name in sorted(self._running):
            self._exited(name, ExitReport(-signal.SIGKILL, 0.0, 0))
        self._gone.set_result(None)


def _start() -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        if threading.active_count() == 1 and not any(name in sys.modules for name in _TOO_LARGE_TO_FORK):
            sys.stdout.flush()  # else both processes have what was not written yet
            pid = os.fork()
            if not pid:
                from hansa.runtime.fork_loop import serve

                serve(theirs.detach())
        else:
            theirs.set_inheritable(True)
            command = [sys.executable, "-P", "-m", "hansa.runtime.fork_loop", str(theirs.fileno())]
            pid = os.posix_spawn(sys.executable, command, os.environ)
    return pid, ours


def _reap(pid: int) -> None:
    """A fork server whose end of the socket is closed is about to end; it is waited for, so as to leave no zombie."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _ignore(name: str, report: ExitReport) -> None:
    pass
