"""kill -9 of `hansa simulate` wherever it hurts: `--resume` ends with the bits of a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint_parts import Remembers
from hansa.jobs import fed_opt
from hansa.runtime.run import Run
from source_code import PACKAGE
from worker_jobs import workers_of

pytestmark = pytest.mark.slow

MODEL = {"w": np.linspace(-1, 1, 300_000, dtype=np.float32).reshape(300, 1000), "b": np.float64(0.5)}
SITES, ROUNDS = 4, 5
PATIENCE_S = 60.0


class Simulation:
    """`hansa simulate` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "HANSA_HOME": str(folder), "PYTHONPATH": str(PACKAGE.parent)}

    def start(self, *arguments: str, failpoints: str = "") -> subprocess.Popen[str]:
        """Start the command."""
        command = [sys.executable, "-m", "hansa.cli.main", "simulate", *arguments, "--json"]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, "HANSA_FAILPOINTS": failpoints},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, workers: int, *, failpoints: str = "") -> subprocess.Popen[str]:
        """Start the job, with checkpoints."""
        options = ("-n", str(SITES), "-w", str(workers), "--checkpoint-every", "1")
        return self.start(str(self.folder.parent / "job"), *options, failpoints=failpoints)

    def resume(self) -> Mapping[str, Any]:
        """Go on with the last run, to its end."""
        code, out, err = ended(self.start("--resume", "last"))
        assert code == 0, err
        summary: dict[str, Any] = json.loads(out)
        return summary

    @property
    def run(self) -> Path:
        """The folder of the only run."""
        (run,) = (self.folder / "runs").iterdir()
        return run

    def rounds(self) -> list[int]:
        """Which rounds were finished, in order, with those that came again."""
        lines = [json.loads(line) for line in (self.run / "history.jsonl").read_text().splitlines()]
        return [line["round"]["number"] for line in lines if "round" in line]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How a command ended, and what it said."""
    with process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survives")
    fed_opt(MODEL, executor=Remembers, rounds=ROUNDS, optimizer="adam", params_type="diff").save(folder / "job")
    return folder


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> str:
    (home / "undisturbed").mkdir()
    code, out, err = ended(Simulation(home / "undisturbed").begin(0))
    assert code == 0, err
    return str(json.loads(out)["model_digest"])


@pytest.fixture
def simulation(home: Path, request: pytest.FixtureRequest) -> Iterator[Simulation]:
    folder = home / "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    folder.mkdir()
    yield Simulation(folder)
    assert not workers_of(folder), "worker processes are left"


def check(summary: Mapping[str, Any], undisturbed: str, simulation: Simulation) -> None:
    assert (summary["status"], summary["rounds"]) == ("COMPLETED", ROUNDS)
    assert summary["model_digest"] == undisturbed
    assert not (simulation.run / "checkpoint").exists()


@contextmanager
def gone(folder: Path) -> Iterator[None]:
    """Afterwards the workers below a folder are gone, without anybody's help."""
    yield
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while workers_of(folder):
        assert time.monotonic() < deadline, "worker processes are left"
        pause.wait(0.01)


# Each answer, each task and each commit is reached; SITES * 2 + 2 is in the third round.
POINTS = {
    "train.mid": SITES * 2 + 2,
    "aggregate.mid": SITES * 2 + 2,
    "aggregate.after_before_commit": 3,
    "checkpoint.mid": 3,
    "commit.after_before_broadcast": 3,
}


PLACES = [(point, workers) for point in POINTS for workers in (0, 2) if (point, workers) != ("train.mid", 2)]
"""A worker that dies in a task is replaced; see below."""


@pytest.mark.parametrize(("point", "workers"), PLACES)
def test_killed_at(simulation: Simulation, undisturbed: str, *, point: str, workers: int) -> None:
    process = simulation.begin(workers, failpoints=f"{point}=kill@{POINTS[point]}")
    with gone(simulation.folder):
        assert ended(process)[0] == -signal.SIGKILL
    kept = 3 if point.startswith("commit") else 2
    assert simulation.rounds()[:kept] == list(range(kept))
    check(simulation.resume(), undisturbed, simulation)
    assert simulation.rounds()[-(ROUNDS - kept) :] == list(range(kept, ROUNDS))
    assert simulation.rounds().count(0) == 1


def test_killed_while_workers_work(simulation: Simulation, undisturbed: str, tmp_path: Path) -> None:
    marker = tmp_path / "stopped"
    process = simulation.begin(2, failpoints=f"train.mid=stop@5!{marker}")  # each worker's third round
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (marker.exists() and marker.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        pause.wait(0.01)
    with gone(simulation.folder):
        process.kill()
        assert ended(process)[0] == -signal.SIGKILL
        with suppress(ProcessLookupError):
            os.kill(int(marker.read_text()), signal.SIGCONT)
    check(simulation.resume(), undisturbed, simulation)


def test_killed_again_and_again(simulation: Simulation, undisturbed: str) -> None:
    assert ended(simulation.begin(0, failpoints="aggregate.after_before_commit=kill@2"))[0] == -signal.SIGKILL
    for point in ("train.mid=kill@2", "checkpoint.mid=kill@2", "commit.after_before_broadcast=kill@2"):
        assert ended(simulation.start("--resume", "last", failpoints=point))[0] == -signal.SIGKILL
    check(simulation.resume(), undisturbed, simulation)


def wait_for_checkpoint(simulation: Simulation, process: subprocess.Popen[str], *, after: int) -> int:
    """Wait for a checkpoint that is newer; returns when it was written."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while process.poll() is None:
        with suppress(OSError, ValueError):  # there is no run yet, or it is over
            if (written := (simulation.run / "checkpoint" / "state").stat().st_mtime_ns) > after:
                return written
        assert time.monotonic() < deadline
        pause.wait(0.001)
    return after


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_any_moment_again_and_again(simulation: Simulation, home: Path, workers: int) -> None:
    rounds, written = 60, 0
    job = home / "long"
    if not job.exists():
        fed_opt(MODEL, executor=Remembers, rounds=rounds, optimizer="adam", params_type="diff").save(job)
    options = ("-n", str(SITES), "-w", str(workers))
    process = simulation.start(str(job), *options, "--checkpoint-every", "3")
    for delay_s in (0.0, 0.011, 0.05, 0.023):
        with gone(simulation.folder):
            written = wait_for_checkpoint(simulation, process, after=written)
            with suppress(subprocess.TimeoutExpired):
                process.wait(delay_s)
            process.kill()
            assert ended(process)[0] == -signal.SIGKILL
        process = simulation.start("--resume", "last")
    code, out, err = ended(process)
    assert code == 0, err
    whole = simulation.run
    assert sorted(set(simulation.rounds())) == list(range(rounds))
    code, undisturbed, err = ended(simulation.start(str(job), *options))
    assert code == 0, err
    assert json.loads(out)["model_digest"] == json.loads(undisturbed)["model_digest"]
    assert json.loads(out)["rounds"] == rounds
    assert Path(json.loads(out)["folder"]) == whole


def test_a_full_disk_ends_the_run_and_costs_nothing(simulation: Simulation, undisturbed: str) -> None:
    code, _, err = ended(simulation.begin(0, failpoints="checkpoint.mid=enospc@3"))
    assert code == 1
    assert "cannot keep a checkpoint: No space left on device" in err
    assert len(err.splitlines()) == 1
    check(simulation.resume(), undisturbed, simulation)


def test_one_line_for_each_mistake(simulation: Simulation) -> None:
    assert ended(simulation.begin(0, failpoints="train.mid=kill@9"))[0] == -signal.SIGKILL
    name = simulation.run.name
    for arguments, line in {
        (
            "--resume",
            "last",
            "--seed",
            "3",
        ): f"seed: {name} goes on with what it was started with; leave this out (it was 0)",
        (
            "--resume",
            "last",
            "-w",
            "2",
        ): f"workers: {name} goes on with what it was started with; leave this out (it was 0)",
        ("--resume", "last", "-n", "3"): f"sites: {name} goes on with what it was started with; leave this out",
        ("--resume", "last", "--checkpoint-every", "2"): (
            f"checkpoint_every: {name} goes on with what it was started with; leave this out (it was 1)"
        ),
        ("--resume", "nix"): f"run: no run 'nix' in {simulation.folder / 'runs'}",
        ("--resume", "last", "..", "-n", "4"): "..: is no job: it has neither meta.json nor a folder 'config'",
        (): "folder: give a job folder, or a run to go on with (--resume)",
    }.items():
        code, _, err = ended(simulation.start(*arguments))
        assert (code, err) == (2, f"hansa: {line}\n")
    same = ("../job", "-n", str(SITES), "-w", "0", "--seed", "0", "--checkpoint-every", "1")
    code, out, err = ended(simulation.start("--resume", name[:14], *same))
    assert code == 0, err
    assert json.loads(out)["id"] == name


PROGRAM = """
import sys
from pathlib import Path

import hansa
from hansa.jobs import fed_avg
from neighbour import MODEL, Remembers


class Here(Remembers):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        from late import FACTOR  # known to nobody but the import path

        result = super().execute(task_name, shareable, fl_ctx, abort_signal)
        result["DXO"]["data"]["w"] *= FACTOR * float(Path("factor.txt").read_text())
        return result


if __name__ == "__main__":
    job = fed_avg(MODEL, executor=Here, rounds=4, params_type="diff")
    hansa.simulate(job, 3, workers=int(sys.argv[1]), home="runs", checkpoint_every=1, progress=False)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_of_ones_own_is_not_needed_any_more(simulation: Simulation, tmp_path: Path, workers: int) -> None:
    here, elsewhere = simulation.folder, tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "late.py").write_text("FACTOR = 0.5\n")
    (here / "neighbour.py").write_text(
        "import numpy as np\nfrom checkpoint_parts import Remembers\nMODEL = {'w': np.zeros(9)}\n"
    )
    (here / "program.py").write_text(PROGRAM)
    (here / "factor.txt").write_text("0.25")
    path = os.pathsep.join([str(PACKAGE.parent), str(elsewhere), str(Path(__file__).parents[1])])

    def play(failpoints: str) -> int:
        environment = {**simulation.environment, "PYTHONPATH": path, "HANSA_FAILPOINTS": failpoints}
        command = [sys.executable, "program.py", str(workers)]
        return subprocess.run(command, cwd=here, env=environment, timeout=PATIENCE_S, check=False).returncode

    assert play("") == 0
    first = simulation.run
    with gone(here):
        assert play("aggregate.mid=kill@8") == -signal.SIGKILL
    (here / "program.py").unlink()
    (second,) = [run for run in (here / "runs").iterdir() if run != first]
    other = Simulation(elsewhere)
    code, out, err = ended(other.start("--resume", str(second)))
    assert code == 0, err
    digests = {Run.load(run).model_digest for run in (first, second)}
    assert digests == {json.loads(out)["model_digest"]}
