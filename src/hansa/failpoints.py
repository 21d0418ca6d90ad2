"""Places where tests let a program die, stall, or lose its disk; nothing at all in normal runs.

::

    HANSA_FAILPOINTS="result.after_ack=kill@2; send.mid_stream=enospc; train.mid=kill!/tmp/once"

The second time that this process reaches `result.after_ack` it is killed; each time at `send.mid_stream` there is no
room on the disk; `train.mid` kills the first process that reaches it, whose number goes into the file, and no other.
With `@FILE` it is what the file says at the moment. `clock=-3600` sets the wall clock of programs back by an hour.

=================================== ===============================================================================
`submit.after_write`                a job was submitted and is on the shelf; nobody has been told
`job.before_launch`                 a job's process on the server is about to be started
`round.after_open`                  the sites of a round are decided
`task.after_send_first_site`        the first site of several has been sent a task
`result.mid_stream`                 a part of a large result has come to the server
`result.after_write_before_ack`     a result is durable on the server; the site has not been told
`result.after_ack`                  the site has been told
`aggregate.mid`                     some results of a round are in the sum, others are not
`aggregate.after_before_commit`     the next model is there, and not kept
`commit.after_before_broadcast`     it is kept, and nobody has it
`job.before_terminal`               a job is over, and its last state not kept
`job.after_terminal`                it is kept
`task.after_recv`                   a task has come to a site's process
`train.mid`                         it is being worked on
`train.after_before_persist`        the result is there, and not kept
`result.after_persist_before_send`  it is kept, and not sent
`send.mid_stream`                   a part of a large result has left the site
`send.after_ack`                    the server has said that it has the result
`checkpoint.mid`                    a part of a simulation's checkpoint is written
=================================== ===============================================================================

Disks fail at `disk.journal` (the server's journal is written), `disk.blob` (a large tensor comes in), `disk.tensors`
(one is laid out to be sent, or to be kept) and `disk.kept` (a site keeps a result and its state).
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.errors import ConfigError

VARIABLE = "HANSA_FAILPOINTS"
NAMES = tuple(re.findall(r"^`([a-z_.]+)`", __doc__, re.MULTILINE))
DISKS = ("disk.journal", "disk.blob", "disk.tensors", "disk.kept")

_CLOCK = re.compile(r"clock=(?P<seconds>[+-]?\d+)")
_ENTRY = re.compile(r"(?P<name>[a-z_.]+)=(?P<action>[a-z]+)(@(?P<time>\d+))?(!(?P<once>.+))?")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _fails(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


ACTIONS: Mapping[str, Callable[[], None]] = {
    "kill": _kill,
    "stop": _stop,
    "exit": lambda: os._exit(0),
    "enospc": _fails(errno.ENOSPC),
    "eio": _fails(errno.EIO),
}
"""What may happen: SIGKILL, SIGSTOP, an end without a word, a full disk, a broken one."""


@dataclass
class _Armed:
    act: Callable[[], None]
    time: int  # 0: each
    once: Path | None
    reached: int = 0

    def reach(self) -> None:
        self.reached += 1
        if self.time and self.reached != self.time:
            return
        if self.once is not None:
            try:
                handle = os.open(self.once, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return
            with os.fdopen(handle, "w") as stream:
                stream.write(f"{os.getpid()}\n")
        self.act()


def read(text: str) -> dict[str, _Armed]:
    """The failpoints that a text arms, by name.

    Raises:
        ConfigError: It names none, or nothing that may happen.
    """
    return _read(text)[0]


def _read(text: str) -> tuple[dict[str, _Armed], int]:
    """The failpoints that a text arms, and by how much it sets the clock."""
    armed, clock_s = {}, 0
    for entry in filter(None, (each.strip() for each in text.split(";"))):
        if (step := _CLOCK.fullmatch(entry)) is not None:
            clock_s = int(step["seconds"])
            continue
        found = _ENTRY.fullmatch(entry)
        if found is None or found["name"] not in (*NAMES, *DISKS) or found["action"] not in ACTIONS:
            raise ConfigError(
                f"{entry!r} is no failpoint: give NAME=ACTION, with @N for the N-th time and !FILE for once in all, "
                f"and for ACTION one of {', '.join(ACTIONS)}",
                key=VARIABLE,
            )
        once = None if found["once"] is None else Path(found["once"])
        armed[found["name"]] = _Armed(ACTIONS[found["action"]], int(found["time"] or 0), once)
    return armed, clock_s


class Failpoints:
    """What is armed in this process.

    Args:
        text: What arms it; `@FILE`: whatever that file says at the moment.
    """

    def __init__(self, text: str) -> None:
        self._file = Path(text[1:]) if text.startswith("@") else None
        self._text = "" if self._file is not None else text
        self._armed, self._clock_s = _read(self._text)
        self.is_armed = bool(self._armed or self._clock_s) or self._file is not None

    def reach(self, name: str) -> None:
        """Do what is to happen here."""
        self._look()
        if name in self._armed:
            self._armed[name].reach()

    @property
    def clock_s(self) -> int:
        """By how many seconds the wall clock is off."""
        self._look()
        return self._clock_s

    def _look(self) -> None:
        if self._file is not None:
            try:
                text = self._file.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                text = ""
            if text != self._text:
                self._text = text
                self._armed, self._clock_s = _read(text)


_here = Failpoints(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Here something may happen, if somebody has armed it."""
    if _here.is_armed:
        _here.reach(name)


def wall_time() -> float:
    """Seconds since 1970, for records and for dates that people gave; what must not jump goes by a monotonic clock."""
    return time.time() + _here.clock_s if _here.is_armed else time.time()
