"""Which runs keep checkpoints, which can go on, and one line for those that cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoint_parts
import hansa
from checkpoint_parts import Remembers, StopsOnce
from hansa.apis.controller import Controller, Task
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.jobs import Job, fed_avg
from hansa.runtime.checkpoint import Checkpoints
from hansa.runtime.options import SimulatorOptions
from hansa.runtime.packing import PackingLimits
from hansa.runtime.run import Run, RunStatus
from hansa.runtime.run_folder import RunFolder, read_record
from hansa.runtime.site_times import SiteTimes
from source_code import PACKAGE

MODEL = {"w": np.zeros(4, np.float32)}


def job(rounds: int = 4, **stop: Any) -> Job:
    made = fed_avg(MODEL, executor=Remembers, rounds=rounds, params_type="diff")
    if stop:
        path = f"{checkpoint_parts.__name__}.StopsOnce"
        made.apps["app"].server["components"].append({"id": "stop", "path": path, "args": stop})
        assert StopsOnce.__name__ in path
    return made


def simulate(made: Job, home: Path, **options: Any) -> Run:
    return hansa.simulate(made, 3, workers=0, home=home, progress=False, **options)


def cut_off(home: Path, **options: Any) -> Path:
    """The folder of a run that has failed in round 2, with checkpoints."""
    with pytest.raises(RunError, match="cut off") as caught:
        simulate(job(file=str(home / "stopped")), home, **{"checkpoint_every": 1, **options})
    assert caught.value.folder is not None
    return Path(caught.value.folder)


def resume(folder: Path | str, **options: Any) -> Run:
    return hansa.resume(folder, progress=False, **options)


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_nothing_is_kept_unless_somebody_asks(tmp_path: Path) -> None:
    run = simulate(job(), tmp_path)
    assert not (run.folder / "checkpoint").exists()
    assert "checkpoint_every" not in run.config


def test_nothing_is_left_of_a_run_that_is_over(tmp_path: Path) -> None:
    run = simulate(job(), tmp_path, checkpoint_every=1)
    assert not (run.folder / "checkpoint").exists()
    assert run.config["checkpoint_every"] == 1
    with pytest.raises(ConfigError, match=r"this run is over \(COMPLETED\); there is nothing to go on with"):
        resume(run.folder)


def test_one_checkpoint_is_there_at_a_time(tmp_path: Path) -> None:
    folder = cut_off(tmp_path) / "checkpoint"
    assert sorted(path.name for path in folder.iterdir()) == ["job", "lock", "state"]
    assert Job.load(folder / "job").name == "fed_avg"


@pytest.mark.parametrize("every", [0, -1, True, 1.5, "1"])
def test_how_often_must_be_a_number(tmp_path: Path, every: Any) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint_every: must be an integer >= 1, not "):
        simulate(job(), tmp_path / "home", checkpoint_every=every)
    assert not (tmp_path / "home").exists()


def test_simulated_times_do_not_go_with_it(tmp_path: Path) -> None:
    options = SimulatorOptions(times=SiteTimes.from_config({"default": {"compute_s": 1.0}}))
    with pytest.raises(ConfigError, match=r"checkpoint_every: does not go with simulated times"):
        simulate(job(), tmp_path, checkpoint_every=1, options=options)


def test_a_job_that_cannot_be_saved_is_refused_before_it_begins(tmp_path: Path) -> None:
    class Here(Remembers):
        pass

    made = fed_avg(MODEL, executor=Here, params_type="diff")
    with pytest.raises(ConfigError) as caught:
        simulate(made, tmp_path / "home", checkpoint_every=1)
    assert str(caught.value) == (
        "checkpoint_every: no checkpoint could be kept of this job: Here is defined inside a function and cannot "
        "travel; move it to the top of a .py file"
    )
    assert not (tmp_path / "home").exists()


def test_a_job_that_could_not_be_read_again_is_refused_before_it_begins(tmp_path: Path) -> None:
    made = job()
    made.apps["app"].server["extra"] = {"of": "a program"}
    with pytest.raises(ConfigError, match="no checkpoint could be kept of this job: extra: unknown key"):
        simulate(made, tmp_path / "home", checkpoint_every=1)
    assert not (tmp_path / "home").exists()


class CommitsEarly(Controller):
    """Commits while its task stands."""

    def start_controller(self, fl_ctx: FLContext) -> None:
        pass

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        for number in range(2):
            self.broadcast(Task("train", Shareable()), fl_ctx, None, 3)
            self.commit(fl_ctx, {"number": number})
            self._wait(fl_ctx)

    def _wait(self, fl_ctx: FLContext) -> None:
        fl_ctx.get_engine().waiter.wait_until(lambda: self.get_num_standing_tasks() == 0)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        pass

    def process_result_of_unknown_task(self, *args: Any, **kwargs: Any) -> None:
        pass


class CommitsNothing(CommitsEarly):
    """Ends at once."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        pass


class Echoes(Executor):
    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        return shareable


def test_a_commit_while_a_task_stands_is_not_kept_and_somebody_hears_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = fed_avg(MODEL, executor=Echoes)
    made.apps["app"].server["workflows"] = [{"id": "early", "path": f"{__name__}.CommitsEarly"}]
    run = simulate(made, tmp_path, checkpoint_every=1)
    assert run.status is RunStatus.COMPLETED
    assert caplog.text.count("the workflow commits while a task stands, so no checkpoint is kept then") == 1


def test_a_workflow_that_never_commits_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = fed_avg(MODEL, executor=Echoes)
    made.apps["app"].server["workflows"] = [{"id": "silent", "path": f"{__name__}.CommitsNothing"}]
    assert simulate(made, tmp_path, checkpoint_every=1).status is RunStatus.COMPLETED
    assert caplog.text.count("no workflow of this job commits, so no checkpoint was kept") == 1


# -- going on ---------------------------------------------------------------------------------------------------------


def test_a_run_may_be_named_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = simulate(job(), tmp_path / "undisturbed").model_digest
    for way in ("run", "path", "text", "name", "beginning", "last", "relative"):
        home = tmp_path / way
        home.mkdir()
        folder = cut_off(home)
        monkeypatch.chdir(home)
        names: Mapping[str, Any] = {
            "run": Run.load(folder),
            "path": folder,
            "text": str(folder),
            "name": folder.name,
            "beginning": folder.name[:12],
            "last": "last",
            "relative": folder.name + "/.",
        }
        run = resume(names[way], home=home)
        assert (run.folder, run.id, run.status) == (folder, folder.name, RunStatus.COMPLETED)
        assert run.model_digest == expected
        monkeypatch.undo()


def test_an_aborted_run_goes_on_too(tmp_path: Path) -> None:
    stop = Signal()
    stop.trigger("not now")
    folder = cut_off(tmp_path)
    with pytest.raises(RunAborted):
        resume(folder, abort_signal=stop)
    assert Run.load(folder).status is RunStatus.ABORTED
    assert resume(folder).model_digest == simulate(job(), tmp_path / "undisturbed").model_digest


def test_the_record_stays_that_of_the_run(tmp_path: Path) -> None:
    folder = cut_off(tmp_path, seed=5)
    before = read_record(folder)["config"]
    run = resume(folder)
    assert run.config == before == read_record(folder)["config"]
    assert (before["seed"], before["sites"]) == (5, ["site-1", "site-2", "site-3"])


def test_options_come_back(tmp_path: Path) -> None:
    options = SimulatorOptions(
        tags={"site-1": ["icu"]},
        threads_per_site=2,
        memory_bytes=1 << 28,
        results_ahead=3,
        gpus=False,
        packing=PackingLimits(need_bytes=7),
    )
    folder = cut_off(tmp_path, options=options)
    kept = Checkpoints.reopen(folder)
    assert kept.options() == options
    kept.close()
    assert resume(folder).config["threads_per_site"] == 2


def test_the_working_directory_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(there)
    with pytest.raises(RunError, match="cut off"):
        simulate(job(file="stopped"), tmp_path / "home", checkpoint_every=1)
    monkeypatch.chdir(here)
    resume("last", home=tmp_path / "home")
    assert Path.cwd() == here
    assert [path.name for path in there.iterdir()] == ["stopped"]
    assert list(here.iterdir()) == []


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(there)
    folder = cut_off(tmp_path)
    monkeypatch.chdir(tmp_path)
    there.rmdir()
    with pytest.raises(ConfigError, match=r"resume: the run's working directory is gone: No such file .*there"):
        resume(folder)


def test_other_software_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = cut_off(tmp_path)
    record = read_record(folder)
    record["config"]["versions"]["numpy"] = "1.0"
    RunFolder(folder).write_record({key: value for key, value in record.items() if key != "format_version"})
    resume(folder)
    said = f"the run was begun with other software, so its bits may differ: numpy 1.0, now {np.__version__}"
    assert caplog.text.count(said) == 1


# -- what cannot go on ------------------------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder: Path, line: str) -> None:
    """Going on is refused with this line, and nothing has changed."""
    before = content(folder)
    with pytest.raises(ConfigError, match=line) as caught:
        resume(folder)
    assert "\n" not in str(caught.value)
    after = content(folder)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name] and not name.endswith("/lock")] == []


def test_a_run_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        simulate(job(file=str(tmp_path / "stopped")), tmp_path)
    refused(Path(str(caught.value.folder)), r"this run keeps no checkpoints \(--checkpoint-every\), so it cannot go on")


def test_a_run_that_has_not_come_to_its_first(tmp_path: Path) -> None:
    refused(cut_off(tmp_path, checkpoint_every=3), r"this run was cut off before its first checkpoint")


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run 'nix' in "):
        resume("nix", home=tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_a_damaged_checkpoint(tmp_path: Path, share: float) -> None:
    folder = cut_off(tmp_path)
    state = folder / "checkpoint" / "state"
    whole = state.read_bytes()
    damaged = bytearray(whole)
    damaged[int(share * (len(damaged) - 1))] ^= 1
    state.write_bytes(damaged)
    refused(folder, r"state: the checkpoint is damaged, and the run cannot go on from it: its digest is another one")
    state.write_bytes(whole)
    assert resume(folder).status is RunStatus.COMPLETED


@pytest.mark.parametrize("name", ["app/config/config_fed_server.json", "app/custom/checkpoint_parts.py", "meta.json"])
def test_a_job_that_has_changed(tmp_path: Path, name: str) -> None:
    folder = cut_off(tmp_path)
    with (folder / "checkpoint" / "job" / name).open("a") as stream:
        stream.write("\n")
    refused(folder, r"checkpoint/job: the checkpoint is damaged, and the run cannot go on from it: its digest")


def test_a_file_of_the_job_that_is_gone(tmp_path: Path) -> None:
    folder = cut_off(tmp_path)
    (folder / "checkpoint" / "job" / "app" / "config" / "config_fed_client.json").unlink()
    refused(folder, r"checkpoint/job: the checkpoint is damaged")


def test_a_run_that_is_still_running(tmp_path: Path) -> None:
    folder = cut_off(tmp_path)
    hold = (
        "import sys\nfrom pathlib import Path\nfrom hansa.runtime.checkpoint import Checkpoints\n"
        "kept = Checkpoints.reopen(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", hold, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused(folder, rf"this run is still running \(process {process.pid}\)")
        process.kill()
    assert resume(folder).status is RunStatus.COMPLETED


def test_what_is_no_run(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "odd").write_record({"status": "RUNNING"})
    with pytest.raises(ConfigError, match="this run keeps no checkpoints"):
        resume("last", home=tmp_path)
