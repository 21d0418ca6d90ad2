"""Processes that are nobody's children here: known by number and time of start, so none is taken for another."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 0.05


@dataclass(frozen=True)
class OtherProcess:
    """A process.

    Attributes:
        pid: Its number.
        started: When it started, as the system says it.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> OtherProcess:
        """The process with that number now."""
        return cls(pid, _started(pid))

    @property
    def is_alive(self) -> bool:
        """Whether it runs; a number that was given to somebody else since does not count."""
        return self.started != "" and _started(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.is_alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


def wait_for_ends(processes: Sequence[OtherProcess], timeout_s: float) -> list[OtherProcess]:
    """Wait until processes have ended; returns those that have not in time."""
    deadline = time.monotonic() + timeout_s
    left = [each for each in processes if each.is_alive]
    while left and (rest := deadline - time.monotonic()) > 0:
        _wait_for_one(left, rest)
        left = [each for each in left if each.is_alive]
    return left


def _wait_for_one(processes: Sequence[OtherProcess], timeout_s: float) -> None:
    """Return when one of them has ended, or a little later."""
    handles: list[int] = []
    try:
        handles.extend(os.pidfd_open(each.pid) for each in processes)
        select.select(handles, [], [], timeout_s)
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # another system than Linux
        select.select([], [], [], min(_LOOK_S, timeout_s))
    finally:
        for handle in handles:
            os.close(handle)
    for each in processes:  # one of ours that has ended is a zombie until it is waited for
        with suppress(ChildProcessError):
            os.waitpid(each.pid, os.WNOHANG)


def _started(pid: int) -> str:
    """When a process started; empty if there is none of that number that still runs."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in ("Z", "X") else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()
