"""However a run ends, nothing of its processes is left: no process, no socket, no file, no shared memory."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hansa.apis.signal import Signal
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.runtime.run import Run, RunStatus
from source_code import PACKAGE
from worker_jobs import adding, rescued, simulate, workers_of

pytestmark = pytest.mark.slow

# A program that was started in the background inherits that interrupts are ignored; a person's shell does not.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from hansa.cli.main import main
main()
"""
TROUBLES = ["waits", "computes", "forks_and_waits"]


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.01)


@dataclass
class Started:
    """A run in a program of its own, and what there is of it outside its folder."""

    folder: Path
    process: subprocess.Popen[str]
    seen: set[int] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)

    @property
    def marks(self) -> Path:
        """Where an executor says that it is at work."""
        return self.folder / "marks"

    def look(self) -> dict[int, str]:
        found = workers_of(self.folder)
        self.seen.update(found)
        self.addresses.update(found.values())
        return found

    def until_at_work(self, num_processes: int = 2) -> None:
        until(lambda: any(self.marks.iterdir()), 20, "no site began")
        until(lambda: len(self.look()) >= num_processes, 20, f"no {num_processes} processes: {self.look()}")

    def nothing_is_left(self, seconds: float) -> None:
        until(lambda: not workers_of(self.folder), seconds, f"processes are left after {seconds} s")
        assert self.seen
        sockets = Path("/proc/net/unix").read_text()
        assert [line for line in sockets.splitlines() if any(address in line for address in self.addresses)] == []
        assert sorted(path.name for path in (self.folder / "temporary").iterdir()) == []
        pids = {str(pid) for pid in (*self.seen, self.process.pid)}
        shared = [path.name for path in Path("/dev/shm").iterdir()]
        assert [name for name in shared if "hansa" in name or pids & set(name.replace("-", "_").split("_"))] == []

    def record(self) -> Run:
        [folder] = (self.folder / "home").iterdir()
        return Run.load(folder)


Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `hansa simulate` with 2 workers and an executor of which the first site makes trouble."""
    begun: list[Started] = []

    def begin(trouble: str) -> Started:
        for name in ("temporary", "marks", "home"):
            (tmp_path / name).mkdir()
        adding(trouble, folder=str(tmp_path / "marks")).save(tmp_path / "job")
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "TMPDIR": str(tmp_path / "temporary")}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "simulate", "job", "-n", "4", "--workers", "2", "--home", "home"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        begun.append(Started(tmp_path, process))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.communicate()
        for pid in workers_of(each.folder):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "trouble"), [*((signal.SIGKILL, trouble) for trouble in TROUBLES), (signal.SIGTERM, "forks_and_waits")]
)
def test_when_the_server_is_killed(start: Start, how: signal.Signals, trouble: str) -> None:
    run = start(trouble)
    run.until_at_work(3 if trouble.startswith("forks") else 2)
    run.process.send_signal(how)
    run.process.communicate(timeout=5)
    run.nothing_is_left(5)


def test_when_the_server_is_killed_while_its_workers_come_up(start: Start) -> None:
    run = start("waits")
    until(run.look, 20, "no worker was started")
    run.process.kill()
    run.process.communicate(timeout=5)
    run.nothing_is_left(5)


@pytest.mark.parametrize("trouble", ["waits_for_abort", "forks_and_waits"])
def test_when_it_is_interrupted_from_the_keyboard(start: Start, trouble: str) -> None:
    run = start(trouble)
    run.until_at_work(3 if trouble.startswith("forks") else 2)
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    output, errors = run.process.communicate(timeout=20)
    run.nothing_is_left(0.5)
    assert (run.process.returncode, output) == (130, "")
    assert errors == "hansa: interrupted from the keyboard; the record of a run that had begun is kept\n"
    assert run.record().status is RunStatus.ABORTED
    # a site that looks at its signal ends at once; others are given 5 s
    assert time.monotonic() - began < (3 if trouble == "waits_for_abort" else 8)


def test_when_it_is_interrupted_twice(start: Start) -> None:
    run = start("computes")
    run.until_at_work()
    run.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(0.5)
    run.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = run.process.communicate(timeout=20)
    assert time.monotonic() - began < 3  # nobody waits for the rest of the 5 s
    assert run.process.returncode == 130
    assert errors == "hansa: interrupted from the keyboard; the record of a run that had begun is kept\n"
    run.nothing_is_left(0.5)


def test_when_it_is_interrupted_while_its_workers_come_up(start: Start) -> None:
    run = start("waits")
    until(run.look, 20, "no worker was started")
    run.process.send_signal(signal.SIGINT)
    _, errors = run.process.communicate(timeout=20)
    assert run.process.returncode == 130
    assert errors == "hansa: interrupted from the keyboard; the record of a run that had begun is kept\n"
    run.nothing_is_left(0.5)


def test_when_it_ends_well(start: Start) -> None:
    run = start("prints")
    until(run.look, 20, "no worker was started")
    output, errors = run.process.communicate(timeout=20)
    run.nothing_is_left(0.5)
    assert (run.process.returncode, errors) == (0, "")
    assert "COMPLETED" in output
    assert run.record().status is RunStatus.COMPLETED


# -- in this process, which must be as it was -------------------------------------------------------------------------


def open_files() -> set[str]:
    """What this process has open and a run may have opened."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if "memfd" in target or "socket" in target or "hansa" in target:
            found.add(target)
    return found


def shared_memory() -> set[str]:
    return {line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:hansa" in line}


@pytest.fixture
def as_before(tmp_path: Path) -> Iterator[None]:
    gc.collect()
    files, threads, mapped = open_files(), set(threading.enumerate()), shared_memory()
    yield
    gc.collect()
    assert workers_of(tmp_path) == {}
    assert open_files() <= files
    assert set(threading.enumerate()) <= threads
    assert shared_memory() <= mapped


@pytest.mark.usefixtures("as_before")
def test_when_a_signal_aborts_it(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    abort = Signal()

    def stop() -> None:
        until(lambda: any((tmp_path / "marks").iterdir()), 20, "no site began")
        abort.trigger(None)

    thread = threading.Thread(target=stop)
    thread.start()
    made = adding("waits_for_abort", site="", folder=str(tmp_path / "marks"))
    with pytest.raises(RunAborted) as caught:
        simulate(made, 4, workers=2, home=tmp_path / "home", abort_signal=abort)
    thread.join()
    assert json.loads(Path(str(caught.value.folder), "run.json").read_text())["status"] == "ABORTED"


@pytest.mark.usefixtures("as_before")
def test_when_a_signal_aborts_it_and_a_site_does_not_look(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    abort = Signal()

    def stop() -> None:
        until(lambda: any((tmp_path / "marks").iterdir()), 20, "no site began")
        abort.trigger(None)

    thread = threading.Thread(target=stop)
    thread.start()
    made = adding("computes", folder=str(tmp_path / "marks"))
    with rescued(tmp_path, 9), pytest.raises(RunAborted):
        simulate(made, 4, workers=2, home=tmp_path / "home", abort_signal=abort)
    thread.join()


@pytest.mark.usefixtures("as_before")
def test_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="SystemExit: 3"):
        simulate(adding("exits"), 4, workers=2, home=tmp_path / "home")


@pytest.mark.usefixtures("as_before")
def test_when_a_site_cannot_be_built(tmp_path: Path) -> None:
    made = adding("")
    made.apps["app"].client["executors"][0]["executor"]["args"]["trouble_"] = 1
    with pytest.raises(ConfigError, match="trouble_"):
        simulate(made, 4, workers=2, home=tmp_path / "home")
    assert list(tmp_path.glob("home/*")) == []


@pytest.mark.usefixtures("as_before")
def test_when_it_completes(tmp_path: Path) -> None:
    for _ in range(3):
        assert simulate(adding("", rounds=2), 5, workers=2, home=tmp_path / "home").status is RunStatus.COMPLETED
