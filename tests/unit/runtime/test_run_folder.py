"""The folder that a run leaves behind, and finding it again."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hansa import tensors
from hansa.errors import ConfigError
from hansa.runtime.run import Run, RunStatus
from hansa.runtime.run_folder import (
    HISTORY,
    MODEL,
    PROBLEMS,
    RECORD,
    RunFolder,
    find_run,
    list_runs,
    read_lines,
    read_record,
    remove_run,
    runs_home,
)

WHEN = datetime(2026, 11, 22, 15, 30, 45, tzinfo=UTC)


def a_run(home: Path, name: str = "digits", *, hour: int = 15) -> Path:
    folder = RunFolder.create(home, name, now=WHEN.replace(hour=hour))
    folder.write_record({"status": "COMPLETED"})
    folder.close()
    return folder.path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", "20261122-153045-digits"),
        ("my job / ü", "20261122-153045-my-job"),
        ("../../etc", "20261122-153045-etc"),
        ("", "20261122-153045-job"),
        ("..", "20261122-153045-job"),
    ],
)
def test_a_folder_is_named_by_time_and_job(tmp_path: Path, name: str, expected: str) -> None:
    assert RunFolder.create(tmp_path, name, now=WHEN).path == tmp_path / expected


def test_runs_of_the_same_second_get_numbers(tmp_path: Path) -> None:
    names = [RunFolder.create(tmp_path / "deep" / "down", "x", now=WHEN).path.name for _ in range(3)]
    assert names == ["20261122-153045-x", "20261122-153045-x-2", "20261122-153045-x-3"]


def test_a_home_that_is_a_file_is_the_users_mistake(tmp_path: Path) -> None:
    home = tmp_path / "runs"
    home.write_text("")
    with pytest.raises(ConfigError, match="HANSA_HOME"):
        RunFolder.create(home, "x")


def test_home_is_what_is_given_else_the_environment_else_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_HOME", str(tmp_path))
    assert runs_home() == tmp_path / "runs"
    assert runs_home("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("HANSA_HOME")
    assert runs_home() == Path("runs")


def test_lines_are_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "x")
    folder.append(HISTORY, {"name": "Übung", "value": 1.5})
    folder.append(HISTORY, {"name": "zwei"})
    assert read_lines(folder.path / HISTORY) == [{"name": "Übung", "value": 1.5}, {"name": "zwei"}]
    folder.close()


@pytest.mark.parametrize("num_bytes_lost", [1, 2, 3, 4, 5, 6, 10])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, num_bytes_lost: int) -> None:
    # "ü" is two bytes: some cuts go through the middle of it
    path = tmp_path / "lines.jsonl"
    whole = b'{"a": 1}\n' + '{"b": "ü€"}'.encode()
    path.write_bytes(whole[:-num_bytes_lost])
    assert read_lines(path) == [{"a": 1}]


def test_line_separators_in_a_text_do_not_end_the_line(tmp_path: Path) -> None:
    # U+2028 and its like are line ends for str.splitlines, but not for JSON lines
    folder = RunFolder.create(tmp_path, "x")
    lines = [{"cause": "one\u2028two\x85three\x0bfour\nfive"}, {"cause": "six"}]
    for line in lines:
        folder.append(PROBLEMS, line)
    folder.close()
    assert read_lines(folder.path / PROBLEMS) == lines


def test_no_file_means_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


def test_the_record_appears_whole(tmp_path: Path) -> None:
    path = a_run(tmp_path)
    assert read_record(path) == {"format_version": 1, "status": "COMPLETED"}
    assert os.listdir(path) == [RECORD]


def test_discard_takes_away_what_create_made(tmp_path: Path) -> None:
    existing = tmp_path / "existing"
    existing.mkdir()
    for home in (existing, tmp_path / "new"):
        folder = RunFolder.create(home, "x")
        folder.append(HISTORY, {"a": 1})
        folder.discard()
    assert list(existing.iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_a_run_is_found_by_name_beginning_path_or_last(tmp_path: Path) -> None:
    digits = a_run(tmp_path, "digits", hour=14)
    moons = a_run(tmp_path, "moons", hour=13)
    os.utime(digits / RECORD, (1, 1))
    os.utime(moons / RECORD, (2, 2))
    assert list_runs(tmp_path) == [moons, digits]
    assert find_run("20261122-143045-digits", tmp_path) == digits
    assert find_run("20261122-14", tmp_path) == digits
    assert find_run("143045-dig", tmp_path) == digits
    assert find_run(str(digits), Path("nowhere")) == digits
    assert find_run("last", tmp_path) == moons  # the one that was written last


def test_a_whole_name_beats_longer_ones_that_begin_with_it(tmp_path: Path) -> None:
    first, _ = a_run(tmp_path), a_run(tmp_path)
    assert find_run(first.name, tmp_path) == first


def test_no_run_and_several_runs_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run 'last'"):
        find_run("last", tmp_path / "none")
    a_run(tmp_path), a_run(tmp_path)
    with pytest.raises(ConfigError, match=r"'2026' fits 2 runs: 20261122-153045-digits, 20261122-153045-digits-2"):
        find_run("2026", tmp_path)
    with pytest.raises(ConfigError, match="no run 'x'"):
        find_run("x", tmp_path)


def test_an_empty_name_is_no_run_though_there_is_only_one(tmp_path: Path) -> None:
    a_run(tmp_path)
    with pytest.raises(ConfigError, match="give a run's name"):
        find_run("", tmp_path)


def test_a_folder_that_is_no_run_is_not_removed(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.tex").write_text("x")
    with pytest.raises(ConfigError, match="no such run"):
        remove_run(precious)
    assert (precious / "chapter.tex").exists()
    assert list_runs(tmp_path) == []


def test_a_run_is_removed_with_everything(tmp_path: Path) -> None:
    path = a_run(tmp_path)
    (path / "workspace").mkdir()
    remove_run(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "another version"), ('{"format_version": 99}', "another version")],
)
def test_a_record_that_cannot_be_understood_names_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = a_run(tmp_path)
    (path / RECORD).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        Run.load(path)
    assert caught.value.file == str(path / RECORD)


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "digits", now=WHEN)
    timings = {"start": 1.0, "run": 2.0, "end": 3.0, "phases": {"sites": 1.5}, "rounds": [0.5],
               "virtual": 9.0, "virtual_rounds": [8.5]}  # fmt: skip
    folder.write_record({"status": "FAILED", "cause": "no", "timings": timings, "config": {"job": "digits", "seed": 7}})
    folder.append(PROBLEMS, {"site": "site-1", "where": "task train", "cause": "ValueError: x"})
    folder.append(HISTORY, {"round": {"number": 0, "targets": ["site-1"], "counted": {"site-1": 2.0}, "refused": {},
                                      "metrics": {"site-1": {"acc": 0.5}}, "seconds": 0.5}})  # fmt: skip
    folder.close()
    tensors.write(folder.path / MODEL, {"w": np.array([1.0, 2.0])})
    run = Run.load(folder.path)
    assert run.status is RunStatus.FAILED
    assert run.cause == "no"
    assert run.timings.total == 6.0
    assert run.timings.as_dict() == timings
    assert [str(problem) for problem in run.problems] == ["site-1, task train: ValueError: x"]
    assert run.model["w"].tolist() == [1.0, 2.0]
    facts = run.summary()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["metrics"] == {"acc": 0.5}
    assert facts["counted_last_round"] == 1


def test_a_run_without_a_model_has_an_empty_one(tmp_path: Path) -> None:
    assert Run.load(a_run(tmp_path)).model == {}
