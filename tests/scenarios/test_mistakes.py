"""Mistakes of people and of machines around a run: each is one line, and what was under way is taken down."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, RunError
from hansa.jobs import Component, Job, fed_avg
from hansa.jobs.job import App
from hansa.runtime.later import LaterWriter
from hansa.runtime.run import Run, RunStatus
from hansa.runtime.run_folder import MODEL
from hansa.runtime.user_code import Failure
from scenarios.federations import Adds, Echo, averaging, executor, simulate


def test_a_job_may_change_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HANSA_HOME", raising=False)

    def wanders(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        os.chdir("/")
        return data

    run = hansa.simulate(averaging(executor(wanders)), 2)
    assert run.status is RunStatus.COMPLETED
    assert run.folder.parent == tmp_path / "runs"
    assert Run.load(run.folder).status is RunStatus.COMPLETED


def test_a_second_thread_is_told_that_a_run_is_under_way(tmp_path: Path) -> None:
    seen: list[str] = []

    def second() -> None:
        try:
            simulate(averaging(Adds), 2, home=tmp_path / "second")
        except ConfigError as error:
            seen.append(str(error))

    def execute(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        return data

    run = simulate(averaging(executor(execute), rounds=1), 1, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert seen == [
        "another thread of this process has a run under way; start one after the other, or each in its own process"
    ]
    assert not (tmp_path / "second").exists()
    assert simulate(averaging(Adds), 2, home=tmp_path).status is RunStatus.COMPLETED  # the next one may


def test_a_run_may_start_another(tmp_path: Path) -> None:
    def execute(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        assert simulate(averaging(Adds), 2, home=tmp_path).status is RunStatus.COMPLETED
        return data

    assert simulate(averaging(executor(execute), rounds=1), 1, home=tmp_path).problems == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConfigError("no")])
def test_what_never_began_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    class Interrupted(Echo):
        def __init__(self) -> None:
            raise error

    with pytest.raises(type(error)):
        simulate(averaging(Interrupted), 2, home=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot set up the run: File name too long"):
        hansa.simulate(averaging(Adds), ["x" * 300], home=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_long_name_of_a_job_is_cut(tmp_path: Path) -> None:
    run = simulate(fed_avg({"w": np.zeros(1)}, executor=Echo, name="x" * 500), 1, home=tmp_path)
    assert run.config["job"] == "x" * 500
    assert len(run.id) < 120


def test_sites_that_the_job_cannot_do_without(tmp_path: Path) -> None:
    made = averaging(Echo)
    job = Job(made.name, made.apps, meta={"mandatory_clients": ["site-1", "clinic"]}, classes=made.classes)
    with pytest.raises(ConfigError, match=r"mandatory_clients: the run has no site 'clinic'"):
        simulate(job, 2, home=tmp_path)
    assert hansa.simulate(job, ["site-1", "clinic"], home=tmp_path).status is RunStatus.COMPLETED


def test_a_model_that_cannot_be_written_fails_the_run(tmp_path: Path) -> None:
    def execute(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        (only_run(tmp_path) / MODEL).mkdir(exist_ok=True)  # in the way of the file
        return data

    with pytest.raises(RunError, match=r"cannot write the global model: Is a directory") as caught:
        simulate(averaging(executor(execute)), 1, home=tmp_path)
    assert caught.value.folder is not None
    assert Run.load(caught.value.folder).status is RunStatus.FAILED


def test_a_disk_that_fills_up_ends_the_run_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def execute(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # from now on no file can grow
        return data

    try:
        with pytest.raises(RunError) as caught:
            simulate(averaging(executor(execute), rounds=200), 2, home=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hansa-writer" not in {each.name for each in threading.enumerate()}
    assert "Traceback" not in capfd.readouterr().err


def only_run(home: Path) -> Path:
    (folder,) = (each for each in home.iterdir() if each.is_dir())
    return folder


def test_the_writer_goes_on_after_a_failure_that_nobody_can_keep() -> None:
    told: list[str] = []
    written: list[str] = []

    def broken() -> None:
        raise OSError(28, "No space left on device")

    def on_failure(what: str, failure: Failure) -> None:
        told.append(what)

    writer = LaterWriter(on_failure)
    writer.write_later("first", broken)
    writer.finish_writes()
    writer.write_later("second", lambda: written.append("second"))
    writer.finish_writes()
    writer.close()
    assert (told, written) == (["first"], ["second"])


@pytest.mark.parametrize("job", [None, 3, {}])
def test_what_is_no_job(job: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"job: must be a Job or the folder of one"):
        hansa.simulate(job, 2, home=tmp_path)


ADDS = """
from hansa.apis.dxo import from_shareable
from hansa.apis.executor import Executor


class Adds(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        for value in from_shareable(shareable).data.values():
            value += 1
        return shareable
"""


def two_apps(server_code: bytes, client_code: bytes) -> Job:
    """The server and the sites run apps of their own, each with code of its own."""
    made = fed_avg({"w": np.zeros(1)}, executor=Component("two_apps_part.Adds"), rounds=2).server_app
    apps = {
        "hub": App(made.server, None, {**made.files, "custom/two_apps_net.py": server_code}),
        "ward": App(
            None, made.client, {"custom/two_apps_part.py": ADDS.encode(), "custom/two_apps_net.py": client_code}
        ),
    }
    return Job("two", apps, deploy_map={"hub": ("server",), "ward": ("@ALL",)})


def test_each_app_brings_its_own_code(tmp_path: Path) -> None:
    job = two_apps(b"X = 1", b"X = 1")
    job.save(tmp_path / "job")
    for each in (job, Job.load(tmp_path / "job")):
        assert simulate(each, 2, home=tmp_path).model["w"].tolist() == [2.0]  # two rounds add 1 each


def test_two_modules_of_one_name_cannot_share_a_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"custom/two_apps_net.py: differs from that of the app 'hub'"):
        simulate(two_apps(b"X = 1", b"X = 2"), 2, home=tmp_path)
