"""Lets a plan's faults loose on a federation while a job runs there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from hansa.faults.arena import Arena, marker, pause
from hansa.faults.plan import Fault, FaultKind, Plan
from hansa.faults.tcp_proxy import NO_FAULTS
from hansa.runtime.other_process import OtherProcess, wait_for_ends

_LOOK_S = 0.005
_SLOW_BYTES_PER_S = 200_000
_CORRUPT_WITHIN = 4_000
_ACTIONS = {FaultKind.DISK_FULL: "enospc", FaultKind.IO_ERROR: "eio"}


@dataclass(frozen=True)
class Happened:
    """A fault, and whether it came about.

    Attributes:
        fault: As planned.
        where: Whom it has hit: `server`, `server's job`, `site-2`, ...; empty if it has not come about.
        note: What there is to say of it.
        mended_at: From when on nothing was in the way of going on; seconds since 1970.
    """

    fault: Fault
    where: tuple[str, ...] = ()
    note: str = ""
    mended_at: float = 0.0

    @property
    def came_about(self) -> bool:
        """Whether anything has happened."""
        return bool(self.where)


@dataclass
class Nemesis:
    """Waits for the moment of each fault, lets it happen, and makes good what somebody would make good.

    Who is killed is started again, a link is made whole, a disk gets room: what is checked is what becomes of the job.

    Args:
        arena: The federation.
        plan: What is to happen.
        job_is_over: Whether there is nothing left to disturb.
        begin: Submits the job; called once the first fault is armed.
    """

    arena: Arena
    plan: Plan
    job_is_over: Callable[[], bool]
    begin: Callable[[], None]
    happened: list[Happened] = field(default_factory=list)
    num_kills: int = 0
    """How many processes were killed or ended that may have had a task."""

    def __post_init__(self) -> None:
        self._chance = random.Random(f"nemesis {self.plan.seed}")
        self._has_begun = False

    def play(self) -> None:
        """Let all faults happen, one after the other, until the job is over."""
        for fault in self.plan.faults:
            with marker(self.arena.folder) as path:
                self.happened.append(self._play(fault, path))
            self.arena.disarm()
        if not self._has_begun:
            self.begin()
        self.arena.wake_all()

    def _arm(self, fault: Fault, path: Path) -> None:
        self.arena.arm(self._arming(fault, path))
        if not self._has_begun:
            self._has_begun = True
            self.begin()

    def _arming(self, fault: Fault, path: Path) -> str:
        if fault.kind in _ACTIONS:
            if fault.seconds:
                return f"{fault.point}={_ACTIONS[fault.kind]}"
            return f"{fault.point}={_ACTIONS[fault.kind]}@{fault.nth}!{path}"
        return f"{fault.point}=stop@{fault.nth}!{path}"

    def _play(self, fault: Fault, path: Path) -> Happened:
        if fault.kind in _ACTIONS and fault.seconds:
            return self._without_disk(fault)
        self._arm(fault, path)
        while not (path.exists() and path.read_text(encoding="utf-8").endswith("\n")):
            if self.job_is_over():
                return Happened(fault, note="nobody came there")
            pause(_LOOK_S)
        stopped = int(path.read_text(encoding="utf-8"))
        where = self._whose(stopped)
        if fault.kind in _ACTIONS:
            return Happened(fault, (where,), note=f"once, at {where}")
        self.arena.disarm()
        with ExitStack() as cleanup:
            cleanup.callback(_go_on, stopped)
            return self._strike(fault, stopped)

    def _without_disk(self, fault: Fault) -> Happened:
        self._arm(fault, Path())
        until = time.monotonic() + fault.seconds
        while time.monotonic() < until and not self.job_is_over():
            pause(_LOOK_S)
        self.arena.disarm()
        return Happened(fault, ("who gets there",))

    def _strike(self, fault: Fault, stopped: int) -> Happened:
        """Let it happen while a process stands where it was to happen."""
        match fault.kind:
            case FaultKind.KILL | FaultKind.TERM:
                return self._kill(fault, stopped)
            case FaultKind.STOP:
                return self._stop(fault, stopped)
            case FaultKind.POWER_CUT:
                return self._power_cut(fault, stopped)
            case FaultKind.BIT_FLIP:
                return self._flip(fault, stopped)
            case FaultKind.CLOCK:
                _go_on(stopped)
                self.arena.arm(f"clock={fault.step_s}")
                pause(max(fault.seconds, 0.2))
                return Happened(fault, ("all",))
            case _:
                return self._disturb(fault, stopped)

    # -- processes ---------------------------------------------------------------------------------------------

    def _whose(self, pid: int) -> str:
        for name, process in self.arena.processes.items():
            if process.pid == pid:
                return name
            if pid in self.arena.job_processes(name):
                return f"{name}'s job"
        return "somebody"

    def _pid_of(self, target: str, stopped: int) -> int | None:
        """The process that is meant: the one that has stopped, if it is of that kind."""
        if not target.endswith("'s job"):
            process = self.arena.processes.get(target)
            return None if process is None else process.pid
        found = self.arena.job_processes(target.removesuffix("'s job"))
        return stopped if stopped in found else min(found, default=None)

    def _kill(self, fault: Fault, stopped: int) -> Happened:
        pid = self._pid_of(fault.target, stopped)
        if pid is None:
            return Happened(fault, note="there was none")
        self.num_kills += 1
        if fault.target.endswith("'s job"):
            victim = OtherProcess.of(pid)
            os.kill(pid, signal.SIGKILL)
            _go_on(stopped)
            at = time.time()
            wait_for_ends([victim], 10.0)
            return Happened(fault, (fault.target,), mended_at=at)
        if fault.kind is FaultKind.TERM:
            _go_on(stopped)
        self.arena.end(fault.target, signal.SIGKILL if fault.kind is FaultKind.KILL else signal.SIGTERM)
        _go_on(stopped)
        pause(fault.seconds)
        at = time.time()
        self.arena.start(fault.target)
        return Happened(fault, (fault.target,), mended_at=at)

    def _stop(self, fault: Fault, stopped: int) -> Happened:
        pid = self._pid_of(fault.target, stopped)
        if pid is None:
            return Happened(fault, note="there was none")
        os.kill(pid, signal.SIGSTOP)
        if pid != stopped:
            _go_on(stopped)
        pause(fault.seconds)
        _go_on(pid)
        return Happened(fault, (fault.target,))

    def _power_cut(self, fault: Fault, stopped: int) -> Happened:
        names = list(self.arena.processes)
        self.num_kills += len(names)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # all in one moment: nobody sees another's end
            for name in names:
                self.arena.processes[name].send(number)
        _go_on(stopped)
        for name in names:
            self.arena.end(name, signal.SIGKILL)
        pause(fault.seconds)
        self._chance.shuffle(names)
        at = time.time()
        # Sites wait for a server that is not there yet: none is awaited before all are started.
        self.arena.start(*names)
        return Happened(fault, tuple(names), note=f"back in the order {', '.join(names)}", mended_at=at)

    # -- files -------------------------------------------------------------------------------------------------

    def _flip(self, fault: Fault, stopped: int) -> Happened:
        """Kill a program, flip a bit in the newest file that it keeps of the job, and start it again."""
        self.num_kills += 1
        self.arena.end(fault.target, signal.SIGKILL)
        _go_on(stopped)
        kept = self.arena.kit(fault.target).glob("run_*/kept/*")
        files = sorted((path for path in kept if path.suffix != ".sent" and path.stat().st_size), key=_age)
        note = "nothing was kept"
        if files:
            note = self._flip_in(files[-1])
        self.arena.start(fault.target)
        return Happened(fault, (fault.target,), note=note)

    def _flip_in(self, path: Path) -> str:
        content = bytearray(path.read_bytes())
        at = self._chance.randrange(len(content))
        content[at] ^= 1 << self._chance.randrange(8)
        path.unlink()  # other names of it stay as they were, as with a disk's block
        path.write_bytes(content)
        return f"byte {at} of {path.relative_to(self.arena.folder)}"

    # -- links -------------------------------------------------------------------------------------------------

    def _disturb(self, fault: Fault, stopped: int) -> Happened:
        names = tuple(self.arena.sites) if fault.target == "all" else (fault.target,)
        proxies = [self.arena.proxies[name] for name in names]
        _go_on(stopped)
        with ExitStack() as cleanup:
            for proxy in proxies:
                match fault.kind:
                    case FaultKind.CUT:
                        proxy.cut(reset=self._chance.random() < 1 / 2)
                    case FaultKind.BLACKHOLE:
                        cleanup.enter_context(proxy.blackholed())
                    case FaultKind.REFUSE:
                        cleanup.enter_context(proxy.refused())
                        proxy.cut(reset=True)
                    case FaultKind.SLOW:
                        proxy.faults = replace(NO_FAULTS, bytes_per_s=_SLOW_BYTES_PER_S, latency_s=0.05)
                        cleanup.callback(setattr, proxy, "faults", NO_FAULTS)
                    case FaultKind.CORRUPT:
                        at = self._chance.randrange(_CORRUPT_WITHIN)
                        proxy.faults = replace(NO_FAULTS, corrupt_at=at)
                        cleanup.callback(setattr, proxy, "faults", NO_FAULTS)
                        proxy.cut(reset=False)  # the next connection has it
            pause(max(fault.seconds, 0.05))
        return Happened(fault, names)


def _go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _age(path: Path) -> float:
    return path.stat().st_mtime_ns
