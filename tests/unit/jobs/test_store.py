"""The shelf of jobs: what is kept, what a crash leaves, who owns it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hansa.errors import ConfigError, RunError
from hansa.jobs.job import App, Job
from hansa.jobs.life import JobState
from hansa.jobs.store import STATE, JobRecord, JobStore, find_job


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    made = JobStore(tmp_path / "jobs", now=Clock())
    made.open()
    yield made
    made.close()


def job(name: str = "digits", **meta: object) -> Job:
    return Job(name, {"app": App(server={}, client={})}, meta=meta)


def submit(store: JobStore, name: str = "digits", **meta: object) -> JobRecord:
    staged = store.home.parent / "staged"
    staged.mkdir()
    (staged / "meta.json").write_text("{}", encoding="utf-8")
    return store.new_job(staged, job(name, **meta), submitter="ada@x.org")


def reopened(store: JobStore) -> JobStore:
    store.close()
    again = JobStore(store.home)
    again.open()
    return again


def test_a_new_job_is_numbered_named_and_moved_onto_the_shelf(store: JobStore) -> None:
    first = submit(store, priority=3)
    second = submit(store, "../Zähler & Co")
    assert (first.id, first.number, first.name, first.submitter, first.priority) == (
        "0001-digits",
        1,
        "digits",
        "ada@x.org",
        3,
    )
    assert first.state is JobState.SUBMITTED
    assert second.id == "0002-Z-hler-Co"
    assert {path.name for path in store.folder(first.id).iterdir()} == {"job", "run", "deploy", STATE}
    assert (store.folder(first.id) / "job" / "meta.json").exists()
    assert not (store.home.parent / "staged").exists()


def test_states_and_sites_are_durable(store: JobStore) -> None:
    record = submit(store)
    store.update(record.id, JobState.SCHEDULED, sites=["a", "b"])
    store.update(record.id, JobState.DEPLOYING)
    store.update(record.id, JobState.RUNNING)
    done = store.update(record.id, JobState.FAILED, reason="a.train: no more")
    shelf = reopened(store)
    shelf.close()
    (again,) = shelf.list()
    assert again == done
    assert again.sites == ("a", "b")
    assert [change.state.value for change in again.changes] == [
        "SUBMITTED",
        "SCHEDULED",
        "DEPLOYING",
        "RUNNING",
        "FAILED",
    ]
    assert (again.submitted_at, again.started_at, again.ended_at) == (1001.0, 1004.0, 1005.0)
    assert again.reason == "a.train: no more"


def test_a_new_reason_takes_the_place_of_the_old_one(store: JobStore) -> None:
    record = submit(store)
    for number in range(5):
        record = store.update(record.id, JobState.SUBMITTED, reason=f"waits for {number} sites")
    assert (len(record.changes), record.reason) == (1, "waits for 4 sites")
    assert store.get(record.id) is record


def test_what_may_not_follow_is_refused_and_changes_nothing(store: JobStore) -> None:
    record = submit(store)
    store.update(record.id, JobState.ABORTED, reason="aborted by ada@x.org")
    with pytest.raises(RunError, match="is over"):
        store.update(record.id, JobState.ABORTED, reason="aborted by bob@x.org")
    assert store.get(record.id).reason == "aborted by ada@x.org"
    again = reopened(store)
    assert again.get(record.id).state is JobState.ABORTED
    again.close()


def test_progress_is_known_but_not_written(store: JobStore) -> None:
    record = submit(store)
    before = (store.folder(record.id) / STATE).read_bytes()
    assert store.progress(record.id, 3, num_rounds=20).round == 3
    assert store.get(record.id).as_dict()["num_rounds"] == 20
    assert (store.folder(record.id) / STATE).read_bytes() == before


def test_a_record_survives_its_plain_form(store: JobStore) -> None:
    record = submit(store)
    assert JobRecord.from_dict(json.loads(json.dumps(record.as_dict()))) == record


def test_a_second_server_on_one_shelf_is_refused(store: JobStore) -> None:
    with pytest.raises(ConfigError, match="another server"):
        JobStore(store.home).open()
    store.close()
    again = JobStore(store.home)
    again.open()
    again.close()


def test_what_a_crash_left_half_made_is_swept_away(store: JobStore) -> None:
    submit(store)
    (store.home / ".new-0002-digits" / "job").mkdir(parents=True)
    again = reopened(store)
    assert [record.id for record in again.list()] == ["0001-digits"]
    assert not (store.home / ".new-0002-digits").exists()
    again.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1, "changes": []}', '{"format_version": 9}'])
def test_a_job_that_cannot_be_read_is_set_aside_and_its_number_not_given_again(store: JobStore, text: str) -> None:
    first, second = submit(store), submit(store)
    (store.folder(second.id) / STATE).write_text(text, encoding="utf-8")
    again = reopened(store)
    assert [record.id for record in again.list()] == [first.id]
    assert list(again.damaged) == [second.id]
    assert submit(again).number == 3
    again.close()


def test_a_job_that_cannot_be_moved_leaves_nothing(store: JobStore) -> None:
    with pytest.raises(ConfigError, match="the job cannot be kept"):
        store.new_job(store.home.parent / "nowhere", job(), submitter="ada@x.org")
    assert [path.name for path in store.home.iterdir()] == [".lock"]
    assert store.list() == []


def test_a_shelf_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot keep jobs here"):
        JobStore(tmp_path / "file" / "jobs").open()


def test_unknown_jobs_are_named(store: JobStore) -> None:
    for ask in (store.get, store.folder):
        with pytest.raises(ConfigError, match="job: there is no job '0007-x'"):
            ask("0007-x")


@pytest.mark.parametrize(
    ("name", "found"),
    [("last", 3), ("0002-digits", 2), ("0001", 1), ("1", 1), ("3", 3), ("letters", 3), ("0003-let", 3)],
)
def test_a_job_is_found_by_what_people_type(store: JobStore, name: str, found: int) -> None:
    for each in ("digits", "digits", "letters"):
        submit(store, each)
    assert find_job(store.list(), name).number == found


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digits", "'digits' fits 2 jobs: 0001-digits, 0002-digits"),
        ("000", "'000' fits 3 jobs"),
        ("9", "there is no job '9'"),
        ("", "give a job's id"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(store: JobStore, name: str, line: str) -> None:
    for each in ("digits", "digits", "letters"):
        submit(store, each)
    with pytest.raises(ConfigError, match=line):
        find_job(store.list(), name)


def test_the_last_of_no_jobs_is_none() -> None:
    with pytest.raises(ConfigError, match="no job was ever submitted"):
        find_job([], "last")


def test_a_job_that_is_removed_is_gone_and_its_number_is_not_given_again(store: JobStore) -> None:
    first, last = submit(store), submit(store)
    with pytest.raises(ConfigError, match="is not over: it is SUBMITTED"):
        store.remove(last.id)
    store.update(last.id, JobState.ABORTED)
    store.remove(last.id)
    assert [record.id for record in store.list()] == [first.id]
    assert not (store.home / last.id).exists()
    store.close()
    again = JobStore(store.home)
    again.open()
    assert submit(again).number == 3
    again.close()
