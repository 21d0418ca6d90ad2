"""`hansa poc` and the verbs that steer a federation, as a user types them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hansa.runtime.poc import Poc
from poc_jobs import BEGAN, GATE, HOLD
from poc_parts import (
    HANSA,
    HANSA_AT_A_TERMINAL,
    PATIENCE_S,
    Federation,
    assert_nothing_left,
    command,
    done,
    environment,
    fifo,
    file,
    poc_up,
    processes_below,
    trains,
    wait_until_gone,
)

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2")


@pytest.fixture(scope="module")
def poc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with poc_up(tmp_path_factory.mktemp("verbs") / "poc", "-n", 2) as made:
        yield made


@pytest.fixture
def job(tmp_path: Path) -> Path:
    trains(rounds=2).save(tmp_path / "job")
    return tmp_path / "job"


def refused(*arguments: object, code: int = 2, **more: str) -> str:
    """The one line that a mistake is answered with."""
    ended = command(*arguments, **more)
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.removeprefix("hansa: ").rstrip("\n")


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_from_the_first_line_to_the_last(poc: Federation, job: Path, tmp_path: Path) -> None:
    at = ("--poc", poc.folder)
    followed = command("submit", job, *at, "--follow")
    assert followed.returncode == 0
    found = re.search(r"^job (\d{4}-trains) is submitted$", followed.stderr, re.MULTILINE)
    assert found is not None
    assert followed.stderr.splitlines()[-1] == f"{found[1]} is COMPLETED"
    assert followed.stdout.splitlines()[0] == f"{found[1]}  COMPLETED"
    listed = {record["id"]: record for record in json.loads(done("jobs", *at, "--json"))}
    assert listed[found[1]]["state"] == "COMPLETED"
    assert listed[found[1]]["sites"] == list(SITES)
    assert listed[found[1]]["submitter"] == "admin@poc.local"
    assert re.search(rf"^{found[1]} +COMPLETED +2 +2/2 ", done("jobs", *at), re.MULTILINE)
    assert json.loads(done("follow", found[1], *at, "--json"))["rounds"] == 2  # it is over: its end again
    assert "round 1 finished: 2 results counted" in done("logs", found[1], *at)
    assert done("logs", found[1], *at, "--site", "site-2", "-n", 1).count("\n") <= 1
    told = json.loads(done("download", found[1], *at, "-o", tmp_path / "there", "--json"))
    assert told["model_digest"].startswith("sha256:")
    assert {path.name for path in (tmp_path / "there").iterdir()} >= {"run.json", "history.jsonl", "model.safetensors"}
    shown = json.loads(done("runs", "show", tmp_path / "there", "--json"))
    assert shown["model_digest"] == told["model_digest"]


def test_sites(poc: Federation) -> None:
    found = json.loads(done("sites", "--poc", poc.folder, "--json"))
    assert [(site["name"], site["connected"], site["jobs"]) for site in found] == [(name, True, []) for name in SITES]
    assert [line.split()[:3] for line in done("sites", "--kit", poc.kit("admin")).splitlines()[1:]] == [
        [name, "poc", "connected"] for name in SITES
    ]


def test_submitting_prints_the_job(poc: Federation, job: Path) -> None:
    said = json.loads(done("submit", job, "--poc", poc.folder, "--json"))
    assert said["state"] in ("SUBMITTED", "SCHEDULED", "DEPLOYING")
    again = done("submit", job, HANSA_KIT=str(poc.kit("admin")))
    assert re.fullmatch(r"job \d{4}-trains is [A-Z]+\n", again)
    for run in (said["id"], "last"):
        poc.session.run(run).wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("app/config/config_fed_server.json", "{", r"config_fed_server\.json: .*line 1"),
        ("meta.json", '{"hansa_job": 1, "name": "x", "colour": 1}', r"meta\.json: colour: "),
        ("app/custom/poc_jobs.py", "class Trains(:", r"poc_jobs\.py"),
        ("meta.json", '{"hansa_job": 1, "name": "x", "deploy_map": {"other": ["@ALL"]}}', r"deploy_map"),
    ],
    ids=["no-json", "unknown-key", "no-python", "no-app"],
)
def test_a_broken_folder_is_one_line_and_nothing_is_kept(
    poc: Federation, job: Path, name: str, text: str, line: str
) -> None:
    before = poc.session.jobs()
    (job / name).write_text(text)
    assert re.search(line, refused("submit", job, "--poc", poc.folder))
    assert poc.session.jobs() == before
    assert sorted(path.name for path in (poc.kit("server") / "jobs").iterdir() if path.is_dir()) == [
        record.id for record in before
    ]
    assert list((poc.kit("server") / "uploads").iterdir()) == []


def test_what_does_not_exist_is_one_line(poc: Federation, tmp_path: Path) -> None:
    at = ("--poc", poc.folder)
    assert refused("follow", "nosuch", *at).endswith("there is no job 'nosuch'")
    assert refused("abort", "nosuch", *at).endswith("there is no job 'nosuch'")
    assert refused("logs", "nosuch", *at).endswith("there is no job 'nosuch'")
    assert str(tmp_path / "nosuch") in refused("submit", tmp_path / "nosuch", *at)
    line = "say which federation: --kit KIT, --poc, or set HANSA_KIT"
    assert line in refused("jobs")
    assert "either --kit or --poc" in refused("jobs", *at, "--kit", poc.kit("admin"))
    assert str(tmp_path) in refused("jobs", "--kit", tmp_path)
    assert "admin" in refused("jobs", "--kit", poc.kit("site-1"))  # it is a site's kit
    no_poc = f"poc: there is no POC in {tmp_path}; start one with: hansa poc up"
    for typed in (["jobs"], ["sites"], ["submit", tmp_path], ["follow", "last"], ["demo"]):
        assert refused(*typed, "--poc", tmp_path).startswith(no_poc)
    for verb in ("status", "logs", "down", "clean"):
        assert "holds no proof of concept" in refused("poc", verb, "--dir", tmp_path)


def test_logs_of_somebody_who_takes_no_part_is_one_line(poc: Federation, job: Path) -> None:
    run = poc.session.submit(job).wait(PATIENCE_S)
    assert "site-9" in refused("logs", run.id, "--poc", poc.folder, "--site", "site-9")


def test_ctrl_c_on_follow_leaves_the_job_running_and_says_so(poc: Federation, job: Path) -> None:
    with ExitStack() as cleanup:
        for name in SITES:
            cleanup.enter_context(fifo(poc.kit(name), GATE))
        began = cleanup.enter_context(fifo(poc.kit("site-1"), BEGAN))
        run = poc.session.submit(job)
        began.line()
        process = subprocess.Popen(
            [*HANSA_AT_A_TERMINAL, "follow", run.id, "--poc", str(poc.folder)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert process.stderr.readline() == f"{run.id} is RUNNING\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        assert f"job {run.id} goes on; follow it again with: hansa follow {run.id}" in errors
        assert run.state.value == "RUNNING"
    run.wait(PATIENCE_S)


def test_a_job_that_failed_gives_exit_code_1_and_its_cause(poc: Federation, job: Path) -> None:
    source = job / "app" / "custom" / "poc_jobs.py"
    source.write_text(source.read_text().replace("say_in(BEGAN)", "raise OSError('no data here')"))
    followed = command("submit", job, "--poc", poc.folder, "--follow", "--json")
    assert followed.returncode == 1
    assert "no data here" in followed.stderr.splitlines()[-1]
    told = json.loads(followed.stdout)
    assert (told["state"], told["status"]) == ("FAILED", "FAILED")
    assert "no data here" in told["cause"]


def test_abort(poc: Federation, job: Path) -> None:
    with ExitStack() as cleanup:
        for name in SITES:
            cleanup.enter_context(file(poc.kit(name), HOLD))
        began = cleanup.enter_context(fifo(poc.kit("site-1"), BEGAN))
        run = poc.session.submit(job)
        began.line()
        said = done("abort", run.id, "--reason", "wrong data", "--poc", poc.folder)
    assert said == f"job {run.id} is ABORTED: aborted by admin@poc.local: wrong data\n"
    assert refused("abort", run.id, "--poc", poc.folder).endswith(f"job {run.id} is over: it is ABORTED")
    assert command("follow", run.id, "--poc", poc.folder).returncode == 1


# -- the proof of concept itself -------------------------------------------------------------------------------------


def test_up_says_what_to_type_next_and_twice_is_refused(tmp_path: Path, job: Path) -> None:
    with ExitStack() as cleanup:
        cleanup.callback(assert_nothing_left, tmp_path)
        cleanup.callback(command, "poc", "down", cwd=tmp_path)
        said = done("poc", "up", "-n", 1, cwd=tmp_path)
        typed = [line.strip() for line in said.partition("Try next:\n")[2].splitlines()]
        assert typed == [
            "hansa submit JOB_FOLDER --poc --follow",
            "hansa sites --poc",
            "hansa poc logs",
            "hansa poc down",
        ]
        assert done("submit", job, "--poc", "--follow", cwd=tmp_path)
        assert done("sites", "--poc", cwd=tmp_path)
        assert "is connected" in done("poc", "logs", cwd=tmp_path)
        assert "there is no 'site-7'; there are server, site-1" in refused_in(tmp_path, "poc", "logs", "site-7")
        assert "runs already; `hansa poc down` ends it" in refused_in(tmp_path, "poc", "up", "-n", 1)
        assert done("poc", "down", cwd=tmp_path) == "ended: server, site-1\n"
        assert done("poc", "down", cwd=tmp_path) == "nothing ran\n"
        assert_nothing_left(tmp_path)
        lines = done("poc", "status", cwd=tmp_path).splitlines()
        assert [line.split()[0::2] for line in lines[1:]] == [["server", "ended"], ["site-1", "ended"]]
        down = refused_in(tmp_path, "jobs", "--poc", code=1)
        assert "nobody listens there: is the server running, and is the port right?" in down
        done("poc", "clean", cwd=tmp_path)
        assert not (tmp_path / "poc").exists()


def refused_in(folder: Path, *arguments: object, code: int = 2) -> str:
    ended = command(*arguments, cwd=folder)
    assert ended.returncode == code, ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_two_stand_side_by_side_and_a_killed_program_shows(poc: Federation, tmp_path: Path, job: Path) -> None:
    with poc_up(tmp_path / "other", "--site", "berlin", "--site", "paris") as other:
        assert Poc(other.folder).port != Poc(poc.folder).port
        told = json.loads(done("poc", "status", "--dir", other.folder, "--json"))
        assert {each["name"]: each["state"] for each in told["processes"]} == {
            "server": "running",
            "berlin": "connected",
            "paris": "connected",
        }
        paris = next(each for each in told["processes"] if each["name"] == "paris")
        os.kill(paris["pid"], signal.SIGKILL)
        wait_until_gone([paris["pid"]], PATIENCE_S)
        status = done("poc", "status", "--dir", other.folder)
        assert [line.split()[2] for line in status.splitlines()[1:]] == ["running", "connected", "ended"]
        server = next(each for each in told["processes"] if each["name"] == "server")
        os.kill(server["pid"], signal.SIGKILL)
        wait_until_gone([server["pid"]], PATIENCE_S)
        status = done("poc", "status", "--dir", other.folder)
        assert [line.split(maxsplit=2)[2].strip() for line in status.splitlines()[1:]] == [
            "ended",
            "not connected",
            "ended",
        ]
        assert [view.name for view in poc.session.sites()] == list(SITES)  # the other one took no notice
        poc.session.submit(job).wait(PATIENCE_S)


def test_it_survives_the_terminal_that_started_it(tmp_path: Path, job: Path) -> None:
    folder = tmp_path / "poc"
    with ExitStack() as cleanup:
        cleanup.callback(assert_nothing_left, folder)
        cleanup.callback(command, "poc", "down", "--dir", folder)
        pid, terminal = pty.fork()
        if pid == 0:
            line = [*HANSA, "poc", "up", "-n", "1", "--dir", str(folder)]
            os.execve(sys.executable, line, environment(TERM="dumb"))
        read_until(terminal, b"hansa poc down")
        os.close(terminal)  # whoever still has it as its terminal gets SIGHUP
        os.waitpid(pid, 0)
        assert len(processes_below(folder)) >= 4
        assert done("submit", job, "--poc", folder, "--follow")


def read_until(terminal: int, wanted: bytes) -> None:
    seen, deadline = b"", time.monotonic() + PATIENCE_S
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096)


def test_an_interrupted_up_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "poc"
    process = subprocess.Popen(
        [*HANSA_AT_A_TERMINAL, "poc", "up", "-n", "2", "--dir", str(folder)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "logs" / "site-2.txt").exists():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert_nothing_left(folder)
