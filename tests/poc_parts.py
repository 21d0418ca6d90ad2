"""Federations of real processes on this machine: started as users do, with deadlines, and nothing left of them."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import hansa
import poc_jobs
from hansa.admin.remote_run import RemoteRun
from hansa.admin.session import Session
from hansa.faults.sample_job import MODEL as SAMPLE_MODEL
from hansa.jobs import Component, Job, fed_avg, scaffold
from hansa.jobs.store import JobRecord
from hansa.provision.provisioner import make_kits
from hansa.runtime.other_process import OtherProcess, wait_for_ends
from hansa.runtime.poc import Poc, end_all, free_port
from source_code import PACKAGE

PATIENCE_S = 120.0
"""Far beyond what anything here takes."""
MODEL = {"w": np.linspace(-1, 1, 33, dtype=np.float32).reshape(3, 11), "b": np.zeros(3)}
BIG = {"w": np.zeros((1500, 1000), np.float32), "v": np.ones(100_000)}
"""Too big for a frame: it travels as blobs, in files."""
HANSA = (sys.executable, "-m", "hansa.cli.main")
HANSA_AT_A_TERMINAL = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from hansa.cli.main import main; main()",
)
"""The same where Ctrl-C is heard, though whoever started the tests may have it ignored."""


def environment(**more: str) -> dict[str, str]:
    known = {key: value for key, value in os.environ.items() if key != "HANSA_KIT"}
    return {**known, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error", **more}


def command(
    *arguments: object, timeout: float = PATIENCE_S, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """What `hansa ...` gives."""
    return subprocess.run(
        [*HANSA, *map(str, arguments)],
        env=environment(**more),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def done(*arguments: object, timeout: float = PATIENCE_S, cwd: Path | None = None, **more: str) -> str:
    """What `hansa ...` prints, when all is well."""
    ended = command(*arguments, timeout=timeout, cwd=cwd, **more)
    assert ended.returncode == 0, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


# -- jobs ------------------------------------------------------------------------------------------------------------


def trains(
    *,
    rounds: int = 1,
    model: Mapping[str, Any] = MODEL,
    min_sites: int | None = None,
    flow: Mapping[str, Any] | None = None,
    **meta: Any,
) -> Job:
    """FedAvg over `poc_jobs.Trains`; `flow` are arguments of the workflow, `meta` keys of `meta.json`."""
    job = fed_avg(
        model,
        executor=Component(poc_jobs.Trains),
        rounds=rounds,
        min_sites=min_sites,
        params_type="diff",
        server_components=[Component(poc_jobs.SaysWhereItIs)],
        name="trains",
    )
    job.apps["app"].server["workflows"][0]["args"].update(flow or {})
    return replace(job, meta={**job.meta, **meta})


def scaffolds(*, rounds: int) -> Job:
    """SCAFFOLD over `poc_jobs.CountsScaffold`, with a tensor that travels in a file."""
    site = Component(poc_jobs.CountsScaffold, task_s=0.0)
    return scaffold(SAMPLE_MODEL, executor=site, rounds=rounds, params_type="diff", name="scaffolds")


# -- processes -------------------------------------------------------------------------------------------------------


def processes_below(folder: Path, *, working: bool = False) -> dict[int, str]:
    """All processes that work in a folder or below, or were started with something that lies there.

    Args:
        folder: The folder.
        working: Only those that work there. With a federation's folder these are job processes, and what they have
            started: the programs that were started by `Federation.start` work where the test does.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # gone meanwhile
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            is_there = Path(os.readlink(entry / "cwd")).is_relative_to(folder)
            if words and (is_there or (not working and f"{folder}/" in words)):
                found[int(entry.name)] = words
    return found


def wait_until_gone(pids: Sequence[int], seconds: float) -> float:
    """Wait until processes have ended; returns how long that took."""
    began = time.monotonic()
    left = wait_for_ends([OtherProcess.of(pid) for pid in pids], seconds)
    assert not left, f"{[each.pid for each in left]} still run after {seconds} s"
    return time.monotonic() - began


class Fifo:
    """A FIFO in a participant's working directory; this end never blocks."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self._fd = os.open(path, os.O_RDWR)  # so that nobody waits for another end, or sees one close
        self._read = b""

    def line(self, seconds: float = PATIENCE_S) -> str:
        """The next line that somebody writes."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nobody has written to {self._path} within {seconds} s"
            self._read += os.read(self._fd, 4096)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def let_pass(self, count: int = 1) -> None:
        """Let so many go on who wait for a byte."""
        os.write(self._fd, b"x" * count)

    def close(self) -> None:
        """Take it away; who waits for a byte goes on."""
        self._path.unlink()
        os.close(self._fd)


@contextmanager
def fifo(folder: Path, name: str) -> Iterator[Fifo]:
    made = Fifo(folder / name)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def file(folder: Path, name: str) -> Iterator[Path]:
    path = folder / name
    path.touch()
    try:
        yield path
    finally:
        path.unlink()


# -- federations -----------------------------------------------------------------------------------------------------


class Federation:
    """A server and sites that run.

    Args:
        folder: Where their kits are.
        sites: Their names.
        server: The server's kit.
        admin: The admin's.
    """

    def __init__(self, folder: Path, sites: Sequence[str], *, server: str = "server", admin: str = "admin") -> None:
        self.folder = folder
        self.server = server
        self.sites = list(sites)
        self.processes: dict[str, OtherProcess] = {}
        self.environment: dict[str, str] = {}
        """What participants are started with, besides."""
        (folder / "logs").mkdir(exist_ok=True)
        self.session: Session = hansa.connect(folder / admin, home=folder / "home")

    def kit(self, name: str) -> Path:
        return self.folder / name

    def start(self, *names: str) -> None:
        """Start participants by their own command, and wait until they are there."""
        waiting = {name: self._launch(name) for name in names}
        deadline = time.monotonic() + PATIENCE_S
        for name, ready in waiting.items():
            with os.fdopen(ready) as stream:
                is_there, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
                assert is_there, f"{name} is not up: {self.log(name)}"
                assert stream.readline() == "ready\n", self.log(name)

    def _launch(self, name: str) -> int:
        ready, theirs = os.pipe()
        verb = "server" if name == self.server else "site"
        with (self.folder / "logs" / f"{name}.txt").open("ab") as log:
            process = subprocess.Popen(
                [*HANSA, verb, "start", str(self.kit(name)), "--ready-fd", str(theirs)],
                env=environment(**self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        os.close(theirs)
        process.returncode = 0  # `wait_for_ends` waits for it
        self.processes[name] = OtherProcess.of(process.pid)
        return ready

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a participant with a signal, and wait until it is gone with all that it started."""
        process = self.processes.pop(name)
        process.send(number)
        assert not wait_for_ends([process], PATIENCE_S), f"{name} does not end: {self.log(name)}"
        wait_until_gone(list(processes_below(self.kit(name))), PATIENCE_S)

    def log(self, name: str) -> str:
        """What a participant's program says."""
        return (self.folder / "logs" / f"{name}.txt").read_text(errors="replace")

    def until(self, run: RemoteRun, fits: Callable[[JobRecord], bool], seconds: float = PATIENCE_S) -> JobRecord:
        """Follow a job until it stands so."""
        found: queue.Queue[JobRecord | BaseException] = queue.Queue()

        def look() -> None:
            try:
                for record in run.follow():
                    if fits(record):
                        found.put(record)
                        return
                found.put(AssertionError(f"it has ended: {run.record}"))
            except Exception as error:
                found.put(error)

        threading.Thread(target=look, daemon=True).start()
        try:
            answer = found.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"not within {seconds} s: {run.record}\n{self.log(self.server)}") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def until_site(self, fits: Callable[[dict[str, bool]], bool], seconds: float = PATIENCE_S) -> None:
        """Ask which sites are connected until the answer fits."""
        deadline = time.monotonic() + seconds
        while not fits(found := {each.name: each.connected for each in self.session.sites()}):
            assert time.monotonic() < deadline, found
            select.select([], [], [], 0.05)

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        self.session.close()
        end_all(self.processes.values())
        assert_nothing_left(self.folder)


def assert_nothing_left(folder: Path) -> None:
    """No process, no socket's file, no FIFO."""
    left = processes_below(folder)
    wait_for_ends([OtherProcess.of(pid) for pid in left], 5.0)
    left = processes_below(folder)
    for pid in left:  # not on the next tests' account
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert left == {}
    assert [path for path in folder.rglob("*") if path.is_socket() or path.is_fifo()] == []


@contextmanager
def federation(
    folder: Path,
    sites: Sequence[str],
    *,
    server: Mapping[str, Any] | None = None,
    client: Mapping[str, Any] | None = None,
    **more: str,
) -> Iterator[Federation]:
    """A federation of provisioned kits with settings of its own; `more` is for the environment of its programs."""
    folder.mkdir(exist_ok=True)
    make_kits(
        folder,
        server_port=free_port(),
        sites=sites,
        settings={
            "server": {"poc": True, "allow_custom_code": True, "listen": "127.0.0.1", **(server or {})},
            "client": {"poc": True, "allow_custom_code": True, **(client or {})},
        },
    )
    with ExitStack() as cleanup:
        made = Federation(folder, sites)
        made.environment = more
        cleanup.callback(made.close)
        made.start("server")
        made.start(*sites)
        yield made


@contextmanager
def poc_up(folder: Path, *options: object, **more: str) -> Iterator[Federation]:
    """`hansa poc up`, and `hansa poc down` at the end."""
    done("poc", "up", "--dir", folder, *options, **more)
    with ExitStack() as cleanup:
        cleanup.callback(assert_nothing_left, folder)
        cleanup.callback(done, "poc", "down", "--dir", folder)
        poc = Poc(folder)
        made = Federation(folder, poc.sites)
        cleanup.callback(made.session.close)
        yield made
