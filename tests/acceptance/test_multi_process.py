"""An executor on several processes of one site: what the ranks see, what comes of them, and that none is left."""

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
from typing import Any

import numpy as np
import pytest

import rank_parts
from hansa.apis.signal import Signal
from hansa.errors import RunAborted, RunError
from hansa.jobs import Component, Job, fed_avg
from hansa.runtime.run import Run, RunStatus
from script_jobs import MARK, processes_of
from source_code import PACKAGE, ROOT
from worker_jobs import MODEL, log_of, simulate

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.01)


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


def several(folder: Path, *, rounds: int = 1, fires: bool = False, parts: Any = None, **arguments: Any) -> Job:
    """FedAvg whose sites run `rank_parts.Adds` on two processes."""
    marks = str(folder / "marks")
    components = parts or [
        {"id": "adds", "path": "rank_parts.Adds", "args": {"folder": marks}},
        {"id": "analytic_sender", "path": "hansa.components.widgets.streaming.AnalyticsSender"},
        {"id": "hears", "path": "rank_parts.Hears", "args": {"folder": marks, "fires": fires}},
    ]
    options = {key: arguments.pop(key) for key in ("command", "start_timeout_s") if key in arguments}
    components[0].get("args", {}).update(arguments)
    executor = Component(rank_parts.Plain, executor_id="adds", num_of_processes=2, components=components, **options)
    made = fed_avg(MODEL, executor=executor, rounds=rounds, min_sites=1)
    made.apps["app"].client["components"].append({"path": "rank_parts.Hears", "id": "ear", "args": {"folder": marks}})
    return made


def marks(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in (folder / "marks").glob(pattern))


def heard(folder: Path, who: str) -> list[str]:
    return (folder / "marks" / f"heard-{who}").read_text().splitlines()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_rank_executes_and_the_result_of_rank_0_counts(folder: Path, workers: int) -> None:
    run = simulate(several(folder, rounds=2, fires=True), 2, workers, folder / "home")
    assert (run.status, run.problems) == (RunStatus.COMPLETED, [])
    for name, value in MODEL.items():
        np.testing.assert_allclose(run.model[name], value + 2, rtol=1e-6)
    seen = marks(folder, "site-1-train-*")
    assert [name.rpartition("-pid-")[0] for name in seen] == [
        f"site-1-train-{number}-rank-{rank}-of-2" for number in (0, 1) for rank in (0, 1)
    ]
    assert len({name.rpartition("-")[2] for name in seen}) == 2  # they live from task to task
    assert run.history.series("rank_tasks") == [(0, 1.0), (1, 2.0)]
    assert "rank 1 at work" in log_of(run, "site-1")

    of_rank = heard(folder, "site-1-1")
    assert [line.split()[0] for line in of_rank[:3]] == ["_about_to_start_run", "_start_run", "_before_pull_task"]
    assert of_rank.count("_before_task_execution train None") == 2
    assert of_rank[-1] == "_end_run None None"
    at_site = heard(folder, "site-1-site")
    assert at_site.count("from_rank_0 train 0") == 2
    assert not any(line.startswith("from_rank_1") for line in at_site)
    assert heard(folder, "site-1-0").count("from_rank_0 train None") == 2  # its own; the site's does not come back


def troubled(folder: Path, trouble: str, *, workers: int, rounds: int = 2, rank: int = 1) -> Run:
    made = several(folder, rounds=rounds, trouble=trouble, rank=rank)
    return simulate(made, 2, workers, folder / "home")


@pytest.mark.parametrize(
    ("trouble", "rank", "line"),
    [
        ("dies", 1, "rank 1 of 2 was killed by SIGKILL: rank 1 at work | the last word"),
        ("exits", 0, "rank 0 of 2 ended with exit code 7: rank 0 at work"),
        ("raises", 1, "rank 1 of 2: ValueError: too warm (rank_parts.py:"),
    ],
)
def test_a_rank_that_fails_costs_the_task_and_they_start_anew(folder: Path, trouble: str, rank: int, line: str) -> None:
    run = troubled(folder, trouble, workers=0, rank=rank)
    assert run.status is RunStatus.COMPLETED
    assert [record.counted.keys() for record in run.history.rounds] == [{"site-2"}, {"site-1", "site-2"}]
    [problem] = run.problems
    assert (problem.site, problem.where) == ("site-1", "task train")
    assert line in problem.cause
    assert "\n" not in problem.cause
    before, after = ({name.rpartition("-")[2] for name in marks(folder, f"site-1-train-{n}-*")} for n in (0, 1))
    assert len(after) == 2
    assert before == after if trouble == "raises" else before.isdisjoint(after)  # who only raises stays


def test_an_abort_reaches_the_ranks(folder: Path) -> None:
    abort = Signal()

    def stop() -> None:
        until(lambda: marks(folder, "made-trouble"), 30, "the first site did not begin")
        abort.trigger("enough")

    thread = threading.Thread(target=stop)
    thread.start()
    made = several(folder, trouble="obeys")
    with pytest.raises(RunAborted):
        simulate(made, 2, 1, folder / "home", abort_signal=abort)
    thread.join()
    assert marks(folder, "obeyed")
    assert not processes_of(folder)


def test_a_rank_that_has_lost_its_guard_is_ended(folder: Path) -> None:
    with pytest.raises(RunError, match="rank 1 of 2 is gone"):
        simulate(several(folder, trouble="loses_its_guard"), 1, 0, folder / "home")
    assert not processes_of(folder)


def test_ranks_find_what_lies_beside_the_program(folder: Path) -> None:
    (folder / "beside.py").write_text("from rank_parts import Adds\n\nclass Own(Adds):\n    pass\n")
    made = several(folder)
    made.apps["app"].client["executors"][0]["executor"]["args"]["components"][0]["path"] = "beside.Own"
    made.save(folder / "job")
    path = os.pathsep.join([str(PACKAGE.parent), str(ROOT / "tests")])
    program = "import hansa; print(hansa.simulate('job', 1, workers=0, home='home', progress=False).status.name)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "COMPLETED\n", done.stderr


PROGRAM = "from hansa.cli.main import main; main()"


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_left_when_the_program_is_killed(folder: Path, workers: int) -> None:
    several(folder, trouble="has_started_others").save(folder / "job")
    path = os.pathsep.join([str(PACKAGE.parent), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", "job", "-n", "2", "--workers", str(workers), "--home", "home"],
        cwd=folder, env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: marks(folder, "made-trouble") or process.poll() is not None, 30, "the first site did not begin")
    assert process.poll() is None, process.communicate()
    until(lambda: any("sleep" in each for each in processes_of(folder).values()), 5, "nothing was started")
    process.kill()
    process.communicate(timeout=5)
    until(lambda: not processes_of(folder), 5, f"left: {processes_of(folder)}")


def test_when_a_worker_is_killed_its_ranks_start_anew_with_their_state(folder: Path) -> None:
    made = several(folder, rounds=2, trouble="kills_the_worker", rank=0, at_round=1)
    run = simulate(made, 1, 1, folder / "home")
    assert run.status is RunStatus.COMPLETED
    assert [len(record.counted) for record in run.history.rounds] == [1, 1]
    assert run.history.series("rank_tasks") == [(0, 1.0), (1, 2.0)]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("rank_parts.Fails", "rank 0 of 2 cannot start: components[0]: cannot build Fails: RuntimeError: no licence"),
        ("rank_parts.NoExecutor", "rank 0 of 2 cannot start: the component 'adds' is a NoExecutor, not an Executor"),
        ("rank_parts.Missing", "rank 0 of 2 cannot start: components[0]"),
    ],
)
def test_components_that_cannot_be_built_are_one_line(folder: Path, path: str, line: str) -> None:
    with pytest.raises(RunError) as failed:
        simulate(several(folder, parts=[{"id": "adds", "path": path}]), 1, 0, folder / "home")
    assert line in str(failed.value)
    assert "\n" not in str(failed.value)


def test_ranks_that_do_not_come_are_one_line(folder: Path) -> None:
    made = several(folder, command="sleep", start_timeout_s=0.3)
    with pytest.raises(
        RunError, match=r"rank 0, 1 of 2 did not start within 0.3 s \(start_timeout_s\) and has printed"
    ):
        simulate(made, 1, 0, folder / "home")
    with pytest.raises(RunError, match=r"ended with exit code 3: no such thing"):
        simulate(several(folder, command="fail"), 1, 0, folder / "home")


def test_a_run_in_this_process_leaves_no_thread_and_no_open_file(folder: Path) -> None:
    def surroundings() -> tuple[set[str], set[threading.Thread]]:
        targets = set()
        for entry in Path("/proc/self/fd").iterdir():
            try:
                targets.add(os.readlink(entry))
            except OSError:
                continue
        words = ("memfd", "socket", "pipe")
        return {each for each in targets if any(word in each for word in words)}, set(threading.enumerate())

    files, threads = surroundings()
    troubled(folder, "dies", workers=0)
    left, running = surroundings()
    assert left <= files
    assert running <= threads
