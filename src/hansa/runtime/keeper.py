"""The parent of one job process: sees its end at once, ends whatever it has started, and keeps its log small.

It is the parent of the job process's orphans, too (on Linux), and so nothing that a job has started can hide from it:
not in a group or session of its own, and not behind a parent that has ended. The job process is killed with it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from hansa.runtime.capped_log import CappedLog
from hansa.runtime.job_process import Leaving, become, close_all_but
from hansa.runtime.script_guard import adopt
from hansa.wire.pipe import FrameReader, pack_frame

_LOOK_S = 0.001
_STRAYS_S = 5.0
_READ_BYTES = 1 << 16


def keep(descriptor: int, spec: dict[str, Any]) -> NoReturn:  # Any: JSON
    """Start a job process and stay until nothing of it is left; never returns.

    Args:
        descriptor: The socket to the fork server. Its end ends the job process.
        spec: As `ProcessSpec.to_json` gives it.
    """
    with Leaving():
        sock = socket.socket(fileno=descriptor)
        try:
            close_all_but(descriptor)
            adopt()
            log = CappedLog(Path(spec["log"]))
            if not Path(spec["folder"]).is_dir():
                raise NotADirectoryError(0, f"there is no folder {spec['folder']}")
            keeper = _Keeper(sock, spec, log)
        except OSError as error:
            cause = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            sock.sendall(pack_frame({"k": "failed", "name": spec["name"], "cause": cause}))
        else:
            keeper.run()
    raise AssertionError


class _Keeper:
    def __init__(self, sock: socket.socket, spec: dict[str, Any], log: CappedLog) -> None:  # Any: JSON
        self._sock = sock
        self._name = spec["name"]
        self._log = log
        self._reader = FrameReader()
        self._kill_at: float | None = None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the fork server decides
        self._wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(woken)
        self._started = time.monotonic()
        # A SIGTERM that comes before the job process is itself waits until it is.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            become(spec, log=log.descriptor, parent=parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def run(self) -> None:
        self._say("started", pid=self._pid)
        look_at = 0.0
        while True:
            now = time.monotonic()
            if now >= look_at:
                look_at = now + self._log.check()
            if self._kill_at is not None and now >= self._kill_at:
                self._kill_at = None
                self._signal(signal.SIGKILL)
            until = look_at if self._kill_at is None else min(look_at, self._kill_at)
            ready, _, _ = select.select([self._sock.fileno(), self._wake], [], [], max(0.0, until - now))
            if self._wake in ready:
                os.read(self._wake, _READ_BYTES)
                if self._has_ended():
                    return
            if self._sock.fileno() in ready:
                self._listen()

    def _listen(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            self._signal(signal.SIGKILL)
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            return
        for head, _ in self._reader.feed(data):
            if head["k"] == "kill":
                self._signal(signal.SIGKILL)
            else:
                self._signal(signal.SIGTERM)
                self._kill_at = time.monotonic() + head["grace_s"]

    def _has_ended(self) -> bool:
        """Bury who has ended; if that was the job process, end what is left and say how it ended."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return False
            if pid == self._pid:
                break
        if sys.platform != "linux":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        if not end_strays():
            sys.stderr.write(f"hansa: some of what {self._name} has started cannot be ended\n")
        self._log.check()
        peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        seconds = time.monotonic() - self._started
        self._say("exited", code=os.waitstatus_to_exitcode(status), seconds=seconds, peak_rss_bytes=peak)
        return True

    def _signal(self, number: int) -> None:
        for send in (os.killpg, os.kill):  # at first it is not the leader of a group yet
            try:
                send(self._pid, number)
            except ProcessLookupError:
                continue
            return

    def _say(self, kind: str, **fields: Any) -> None:  # Any: JSON
        with suppress(ConnectionError):
            self._sock.sendall(pack_frame({"k": kind, "name": self._name, **fields}))


def end_strays(spared: Collection[int] = ()) -> bool:
    """End all processes below this one, but those spared and what is below them.

    Returns:
        Whether they are gone; not so after a few seconds, if one waits for a disk or is made anew all the time.
    """
    deadline = time.monotonic() + _STRAYS_S
    while sys.platform == "linux" and time.monotonic() < deadline:
        if not spared and not _bury_all():
            return True
        parents = {}
        strays = set()
        for pid, parent in _newest_first():
            parents[pid] = parent
            if parent == os.getpid() and pid not in spared:
                strays.add(pid)
                _kill(pid)  # at once: it may be about to hand over to a child and end
        if not strays:
            return True
        below = set(strays)
        while more := {pid for pid, parent in parents.items() if parent in below} - below:
            below |= more
        for pid in below - strays:
            _kill(pid)
        for pid in strays:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        select.select([], [], [], _LOOK_S)
    return sys.platform != "linux"


def _bury_all() -> bool:
    """Whether there are children left that have not ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _newest_first() -> Iterator[tuple[int, int]]:
    """The number of each process and its parent's, read as they are asked for."""
    with os.scandir("/proc") as entries:
        pids = sorted((int(entry.name) for entry in entries if entry.name.isdecimal()), reverse=True)
    for pid in pids:
        with suppress(OSError):  # gone meanwhile
            yield pid, int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def _kill(pid: int) -> None:
    """Kill its whole group, which no fork outruns, if that is not this process's own."""
    with suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(pid)
        if group == os.getpgid(0):
            os.kill(pid, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)


def _nothing(*_: object) -> None:
    pass
