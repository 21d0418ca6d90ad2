"""A federation of real processes on this machine, each site behind a proxy of its own, that faults are let loose on.

::

    arena/
      server/ site-1/ ... admin/    the startup kits, and what their owners write there
      logs/                         what the programs say
      armed                         the failpoints that are armed at the moment
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hansa.errors import RunError
from hansa.failpoints import VARIABLE
from hansa.faults.proxy_thread import ProxyThread
from hansa.provision.provisioner import make_kits
from hansa.runtime.other_process import OtherProcess, wait_for_ends
from hansa.runtime.poc import end_all, free_port, launch

if TYPE_CHECKING:
    from hansa.admin.session import Session

SERVER = "server"
PATIENCE_S = 60.0
"""Far beyond what a program takes to come up or to end."""
_LOOK_S = 0.02
_LOOKS = 5


class Arena:
    """Starts a federation, and takes it down again; what happens in between is the nemesis' affair.

    Args:
        folder: Where; made if need be, and empty.
        sites: The sites' names.
        journal: A URL of PostgreSQL for the server's journal; None: SQLite in its kit.
        seed: What the proxies' random choices come from.

    Attributes:
        proxies: By site, what stands between it and the server.
        processes: By name, the programs that run.
    """

    def __init__(self, folder: Path, sites: Sequence[str], *, journal: str | None = None, seed: int = 0) -> None:
        self.folder = folder.absolute()
        self.sites = list(sites)
        self.proxies: dict[str, ProxyThread] = {}
        self.processes: dict[str, OtherProcess] = {}
        self.armed = self.folder / "armed"
        self.journal = journal
        self._seed = seed
        self._environment = {
            **os.environ,
            VARIABLE: f"@{self.armed}",
            "HANSA_JOURNAL_KEEPS": "all",
            "HANSA_JOURNAL": journal or "",
        }
        self._cleanup = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as cleanup:
            self.port = free_port()
            for site in self.sites:
                proxy = ProxyThread(("127.0.0.1", self.port), seed=self._seed)
                self.proxies[site] = cleanup.enter_context(proxy)
            self._make_kits()
            cleanup.callback(self._end)
            self.start(SERVER)
            self.start(*self.sites)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._cleanup.close()

    def _make_kits(self) -> None:
        (self.folder / "logs").mkdir()
        on_one_machine = {"poc": True, "allow_custom_code": True}
        behind = {site: {"server": {"host": "localhost", "port": self.proxies[site].port}} for site in self.sites}
        make_kits(
            self.folder,
            project="faults",
            server_port=self.port,
            sites=self.sites,
            settings={"server": {**on_one_machine, "listen": "127.0.0.1"}, "client": on_one_machine, **behind},
        )

    def _end(self) -> None:
        if self._session is not None:
            self._session.close()
        self.disarm()
        for process in self.processes.values():
            process.send(signal.SIGCONT)
        end_all(self.processes.values())

    # -- what runs ---------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """An admin's session."""
        if self._session is None:
            from hansa.admin.session import connect

            self._session = connect(self.folder / "admin", home=self.folder / "runs")
        return self._session

    def kit(self, name: str) -> Path:
        """A participant's kit."""
        return self.folder / name

    def log_of(self, name: str) -> Path:
        """What a participant's program says."""
        return self.folder / "logs" / f"{name}.txt"

    def start(self, *names: str) -> None:
        """Start programs, and wait until they are up.

        Raises:
            RunError: One does not come up.
        """
        waiting = {}
        for name in names:
            verb = "server" if name == SERVER else "site"
            self.processes[name], waiting[name] = launch(
                verb, self.kit(name), log=self.log_of(name), environment=self._environment, folder=self.folder
            )
        deadline = time.monotonic() + PATIENCE_S
        for name, ready in waiting.items():
            with os.fdopen(ready) as stream:
                is_there, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
                said = stream.readline().strip() if is_there else f"is not up within {PATIENCE_S:g} s"
            if said != "ready":
                raise RunError(f"{name} does not start: {said or 'it has ended'}; see {self.log_of(name)}")

    def end(self, name: str, number: int) -> None:
        """End a program with a signal, and wait until it is gone.

        Raises:
            RunError: It does not end.
        """
        process = self.processes.pop(name)
        process.send(number)
        process.send(signal.SIGCONT)
        if wait_for_ends([process], PATIENCE_S):
            raise RunError(f"{name} does not end; see {self.log_of(name)}")

    def job_processes(self, name: str) -> list[int]:
        """The processes of jobs at a participant: they work in its kit, unlike its own program."""
        return working_below(self.kit(name))

    def wake_all(self) -> None:
        """Let those go on who came to a failpoint just when it was disarmed, and were stopped there."""
        for _ in range(_LOOKS):
            pause(_LOOK_S)
            programs = [process.pid for process in self.processes.values()]
            for pid in [*programs, *working_below(self.folder)]:
                if _is_stopped(pid):
                    os.kill(pid, signal.SIGCONT)

    def until_connected(self, seconds: float = PATIENCE_S) -> list[str]:
        """Wait until all sites are connected; returns those that are not in time."""
        deadline = time.monotonic() + seconds
        while True:
            there = {view.name for view in self.session.sites() if view.connected}
            missing = [site for site in self.sites if site not in there]
            if not missing or time.monotonic() > deadline:
                return missing
            pause(_LOOK_S)

    # -- failpoints --------------------------------------------------------------------------------------------

    def arm(self, text: str) -> None:
        """Arm failpoints, in the place of those that were."""
        temporary = self.armed.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.armed)

    def disarm(self) -> None:
        """Arm none any more."""
        self.armed.unlink(missing_ok=True)


def working_below(folder: Path) -> list[int]:
    """Processes that work in a folder or below."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # gone meanwhile; no process
            if int(entry.name) != os.getpid() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return sorted(found)


def _is_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def pause(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)


@contextmanager
def marker(folder: Path) -> Iterator[Path]:
    """The path of a file that is not there, and is deleted in the end."""
    path = folder / f"marker-{time.monotonic_ns()}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def facts_of(pid: int) -> Mapping[str, int]:
    """What a process uses: memory in bytes, open files, threads."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "memory_bytes": int(lines["VmRSS"].split()[0]) << 10,
        "open_files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(lines["Threads"]),
    }
