"""The verbs that steer a federation: what they print, where, and which exit code they bring about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin_parts import MemoryFederation, MemoryLink, digits, round_line
from hansa.admin.async_run import Patience
from hansa.admin.session import Session
from hansa.cli import federation as verbs
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.jobs.life import JobState
from hansa.runtime.run_folder import HISTORY, PROBLEMS


class Place:
    def __init__(self, folder: Path) -> None:
        def opened() -> MemoryLink:
            self.federation = MemoryFederation(folder)
            self.link = MemoryLink(self.federation)
            return self.link

        self.session = Session(opened, home=folder / "home", patience=Patience(0.001, 0.01, 10.0))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.session.close()
    made.federation.store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    digits().save(tmp_path / "job")
    return tmp_path / "job"


Capture = pytest.CaptureFixture[str]


def test_submit_prints_how_the_job_stands(place: Place, folder: Path, capsys: Capture) -> None:
    verbs.submit_to(place.session, folder, follow=False, as_json=False)
    assert capsys.readouterr() == ("job 0001-digits is SUBMITTED\n", "")
    verbs.submit_to(place.session, folder, follow=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["id"] == "0002-digits"


def test_lists_are_tables_for_people_and_json_for_programs(place: Place, folder: Path, capsys: Capture) -> None:
    verbs.list_jobs(place.session, as_json=False)
    assert capsys.readouterr().out == "no jobs\n"
    run = place.session.submit(folder)
    place.link.act(place.federation.now, run.id, JobState.SUBMITTED, "waits for [bold]2[/] more sites")
    verbs.list_jobs(place.session, as_json=False)
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["job", "state", "sites", "round", "submitted", "took", "by", "reason"]
    assert row.split()[:2] == ["0001-digits", "SUBMITTED"]
    assert row.rstrip().endswith("ada@x.org  waits for [bold]2[/] more sites")  # no markup of ours
    verbs.list_jobs(place.session, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["submitter"] == "ada@x.org"
    verbs.list_sites(place.session, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["site-1", "org", "connected"]
    assert "away" in lines[2]
    assert lines[2].rstrip().endswith("gone")
    verbs.list_sites(place.session, as_json=True)
    assert json.loads(capsys.readouterr().out)[1]["connected"] is False


def test_a_federation_without_sites_says_so(place: Place, capsys: Capture) -> None:
    place.federation.views = []
    verbs.list_sites(place.session, as_json=False)
    assert capsys.readouterr().out == "no site has come yet\n"


def test_follow_shows_each_state_with_its_reason_and_how_it_ended(place: Place, folder: Path, capsys: Capture) -> None:
    run = place.session.submit(folder)
    place.link.cut_after = 3

    def job() -> None:
        watcher = place.session.run(run.id)
        states = watcher.follow()
        next(states)
        place.link.act(place.federation.now, run.id, JobState.SUBMITTED, "waits for 1 more site (needs 2; 1 free)")
        next(states)
        place.link.act(place.federation.start, run.id)
        place.link.act(place.federation.write, run.id, HISTORY, round_line(0, accuracy=0.5))
        while len(watcher.history.rounds) < 1:
            next(states)
        place.link.act(place.federation.now, run.id, JobState.WAITING, "waits for site-2 until 12:00")
        next(states)
        place.link.act(place.federation.now, run.id, JobState.RUNNING)
        lines = [{"site": "site-1", "where": "train", "cause": f"oh {number}"} for number in range(7)]
        place.link.act(place.federation.write, run.id, PROBLEMS, *lines)
        place.link.act(place.federation.now, run.id, JobState.COMPLETED)

    other = threading.Thread(target=job)
    other.start()
    verbs.follow_to_end(run, as_json=False)
    other.join()
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("0001-digits is ")]
    # States that follow each other at once may be seen as one; what is seen is in order, and the end always is.
    assert said[-1] == "0001-digits is COMPLETED"
    assert len(said) == len(set(said)) or said.count("0001-digits is RUNNING") == 2
    assert out.splitlines()[0] == "0001-digits  COMPLETED"
    assert "job digits, 2 sites, 1 rounds in" in out
    assert "accuracy 0.5000" in out
    assert "problem: site-1, train: oh 0" in out
    assert "... and 2 more" in out
    assert "hansa download 0001-digits" in out


def test_a_connection_that_breaks_is_told_in_one_line(place: Place, folder: Path, capsys: Capture) -> None:
    run = place.session.submit(folder)
    place.link.cut_after = 1
    place.link.act(place.federation.play, run.id)
    verbs.follow_to_end(run, as_json=False)
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "the connection is gone: the connection to the server is gone; trying again"
    assert err[1] == "connected again"


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.ABORTED])
def test_a_followed_job_that_does_not_complete_is_an_error(
    place: Place, folder: Path, capsys: Capture, state: JobState
) -> None:
    run = place.session.submit(folder)
    place.link.act(place.federation.now, run.id, state, "the data are wrong")
    with pytest.raises(RunError, match=f"job 0001-digits is {state.value}: the data are wrong") as error:
        verbs.follow_to_end(run, as_json=True)
    assert (error.value.exit_code, isinstance(error.value, RunAborted)) == (1, state is JobState.ABORTED)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["state"], facts["cause"]) == (state.value, "the data are wrong")


def test_submit_and_follow_in_one(place: Place, folder: Path, capsys: Capture) -> None:
    take = place.federation.store.new_job

    def played(*args: object, **named: object) -> object:
        record = take(*args, **named)  # type: ignore[arg-type]
        place.federation.store.new_job = take  # type: ignore[method-assign]
        place.federation.play(record.id)
        return record

    place.federation.store.new_job = played  # type: ignore[method-assign, assignment]
    verbs.submit_to(place.session, folder, follow=True, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out)["metrics"] == {"accuracy": 0.75}
    assert err.splitlines()[0] == "job 0001-digits is submitted"


def test_logs_are_printed_and_followed_to_the_end_of_the_job(place: Place, folder: Path, capsys: Capture) -> None:
    run = place.session.submit(folder)
    verbs.print_logs(run, "site-1", lines=2, follow=False)
    assert capsys.readouterr().out == "site-1: two\nsite-1: three\n"
    place.link.act(place.federation.play, run.id)
    place.federation.log_lines = [*place.federation.log_lines, "four"]
    verbs.print_logs(run, "server", lines=2, follow=True)
    assert capsys.readouterr().out == "server: three\nserver: four\n"
    with pytest.raises(ConfigError, match="there is no site 'site-9'"):
        verbs.print_logs(run, "site-9", lines=2, follow=False)


def test_abort_waits_for_the_end(place: Place, folder: Path, capsys: Capture) -> None:
    run = place.session.submit(folder)
    verbs.abort_and_wait(run, "wrong data")
    assert capsys.readouterr().out == "job 0001-digits is ABORTED: aborted by ada@x.org: wrong data\n"
    with pytest.raises(ConfigError, match="is over"):
        verbs.abort_and_wait(run, "")


def test_download_shows_the_run_and_says_where_it_is(
    place: Place, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = place.session.submit(folder)
    place.link.act(place.federation.play, run.id)
    verbs.download_of(run, None, as_json=False)
    assert f"kept in {tmp_path / 'home' / run.id}" in capsys.readouterr().out
    verbs.download_of(run, tmp_path / "mine", as_json=True)
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path / "mine")


# -- which federation -------------------------------------------------------------------------------------------------


def test_the_kit_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_KIT", "from-environment")
    (tmp_path / "poc.json").write_text("{}", encoding="utf-8")
    assert verbs.kit_of(Path("mine"), None) == Path("mine")
    assert verbs.kit_of(None, None) == Path("from-environment")
    assert verbs.kit_of(None, tmp_path) == tmp_path / "admin"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("jobs --poc", "jobs --poc poc"),
        ("submit --poc digits --follow", "submit --poc poc digits --follow"),
        ("submit digits --poc --follow", "submit digits --poc poc --follow"),
        ("submit --poc there digits", "submit --poc there digits"),
        ("jobs --poc typo", "jobs --poc typo"),
        ("submit digits --poc typo", "submit digits --poc typo"),
        ("jobs --poc=there", "jobs --poc=there"),
        ("jobs", "jobs"),
    ],
)
def test_poc_without_a_folder_means_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "poc.json").write_text("{}", encoding="utf-8")
    (tmp_path / "poc.json").write_text("{}", encoding="utf-8")  # where people stand may be a POC itself
    assert verbs.with_poc_folder(typed.split()) == meant.split()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "hansa: kit: say which federation: --kit KIT, --poc, or set HANSA_KIT"),
        (["--poc"], "hansa: poc: there is no POC in poc; start one with: hansa poc up"),
        (["--poc=nowhere"], "hansa: poc: there is no POC in nowhere; start one with: hansa poc up"),
        (["--kit", "x", "--poc"], "hansa: kit: give either --kit or --poc, not both"),
    ],
)
@pytest.mark.parametrize("verb", ["jobs", "sites", "submit x", "follow x", "logs x", "abort x", "download x"])
def test_a_federation_that_is_not_named_is_one_line_and_code_2(
    tmp_path: Path, verb: str, options: list[str], line: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "HANSA_KIT"}
    done = subprocess.run(
        [sys.executable, "-m", "hansa.cli.main", *verb.split(), *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line + "\n")
