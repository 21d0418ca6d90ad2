"""However a run ends, no script of it is left behind, nor anything that a script has started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hansa.apis.signal import Signal
from hansa.errors import RunAborted
from hansa.runtime.run import Run, RunStatus
from script_jobs import HEAD, MARK, processes_of, script, scripted
from source_code import PACKAGE
from worker_jobs import digest, log_of, simulate

pytestmark = pytest.mark.slow

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from hansa.cli.main import main
main()
"""

TROUBLES = {
    "waits": "wait()",
    "computes": "while True: sum(range(1000))",
    "has_started_others": (
        "import subprocess; subprocess.Popen(['sleep', '600'])\n"
        "    pid = os.fork()\n"
        "    wait()"
    ),
    "ignores_signals": (
        "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]\n"
        "    wait()"
    ),
}  # fmt: skip


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.01)


def troubled(folder: Path, trouble: str) -> str:
    """At the first site, whose mark says that it is at work; the others just work."""
    body = f"""if site == "site-1":
    mark({str(folder / "marks")!r}, "at_work")
    {TROUBLES[trouble]}
flare.send(flare.FLModel(plus(params)))"""
    return script(body)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder, by which its processes are known."""
    monkeypatch.setenv(MARK, str(tmp_path))
    (tmp_path / "marks").mkdir()
    yield tmp_path
    left = processes_of(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def at_work(folder: Path) -> bool:
    return (folder / "marks" / "at_work").exists()


def started(folder: Path, trouble: str, *, workers: int = 2) -> subprocess.Popen[str]:
    """`hansa simulate` in a program of its own, of which the first site makes trouble."""
    scripted(folder, troubled(folder, trouble)).save(folder / "job")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", "job", "-n", "4", "--workers", str(workers), "--home", "home"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: at_work(folder) or process.poll() is not None, 30, "the first site did not begin")
    assert process.poll() is None, process.communicate()
    num_scripts = sum("train.py" in each for each in processes_of(folder).values())
    assert num_scripts >= 2  # the script and its guard
    return process


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("trouble", list(TROUBLES))
def test_when_the_program_is_killed(folder: Path, trouble: str, workers: int) -> None:
    process = started(folder, trouble, workers=workers)
    process.kill()
    process.communicate(timeout=5)
    until(lambda: not processes_of(folder), 5, f"left: {processes_of(folder)}")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("trouble", ["computes", "has_started_others"])
def test_when_it_is_interrupted_from_the_keyboard(folder: Path, trouble: str, workers: int) -> None:
    process = started(folder, trouble, workers=workers)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "")
    assert errors == "hansa: interrupted from the keyboard; the record of a run that had begun is kept\n"
    assert time.monotonic() - began < 4  # a site that does not look at its signal would be given 5 s
    until(lambda: not processes_of(folder), 1, f"left: {processes_of(folder)}")
    [kept] = (folder / "home").iterdir()
    assert Run.load(kept).status is RunStatus.ABORTED


@pytest.mark.parametrize("workers", [0, 2])
def test_when_a_signal_aborts_it(folder: Path, workers: int) -> None:
    abort = Signal()

    def stop() -> None:
        until(lambda: at_work(folder), 30, "the first site did not begin")
        abort.trigger("enough")

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(RunAborted):
        simulate(scripted(folder, troubled(folder, "computes")), 4, workers, folder / "home", abort_signal=abort)
    thread.join()
    assert not processes_of(folder)


def test_when_a_worker_is_killed_its_scripts_start_anew_and_draw_the_same(folder: Path) -> None:
    once = folder / "marks" / "once"
    body = f"""
    if site == "site-1" and incoming.current_round == 1 and not os.path.exists({str(once)!r}):
        mark({str(folder / "marks")!r}, "once")
        os.kill(worker, signal.SIGKILL)
        wait()
    flare.send(flare.FLModel(plus(params, random.random() + np.random.rand())))
    """
    worker = """
def parent_of(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

worker = parent_of(os.getppid())  # above the guard
print("here")
"""
    made = scripted(folder, HEAD + worker + script(body, head=""), rounds=3)
    killed = simulate(made, 4, 2, folder / "home")
    assert once.exists()
    assert [len(record.counted) for record in killed.history.rounds] == [4, 4, 4]
    here = {site: log_of(killed, site).count("here") for site in ("site-1", "site-2", "site-3", "site-4")}
    assert here == {"site-1": 2, "site-2": 2, "site-3": 1, "site-4": 1}
    undisturbed = simulate(made, 4, 2, folder / "home")
    assert log_of(undisturbed, "site-1").count("here") == 1
    assert digest(killed) == digest(undisturbed)


@pytest.mark.parametrize("workers", [0, 2])
def test_when_it_ends_well_what_a_script_has_started_is_gone_too(folder: Path, workers: int) -> None:
    body = """
    import subprocess
    subprocess.Popen(["sleep", "600"])
    flare.send(flare.FLModel(plus(params)))
    """
    run = simulate(scripted(folder, script(body), rounds=2), 3, workers, folder / "home")
    assert run.status is RunStatus.COMPLETED
    assert not processes_of(folder)


def test_a_run_in_this_process_leaves_no_thread_and_no_open_file(folder: Path) -> None:
    def surroundings() -> tuple[set[str], set[threading.Thread]]:
        open_here = set()
        for entry in Path("/proc/self/fd").iterdir():
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if any(word in target for word in ("memfd", "socket", "pipe")):
                open_here.add(target)
        return open_here, set(threading.enumerate())

    files, threads = surroundings()
    crash = "flare.send(flare.FLModel(plus(params)))\nif site == 'site-1': os._exit(1)"
    for body in ("flare.send(flare.FLModel(plus(params)))", crash):
        assert simulate(scripted(folder, script(body), rounds=2), 2, 0, folder / "home").status is RunStatus.COMPLETED
    left, running = surroundings()
    assert left <= files
    assert running <= threads
