"""Numbered runs of FLARE's admin API: what is deployed to whom becomes which job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flare_parts import Place, assert_done, assert_refused
from hansa.admin.flare_response import TargetType
from hansa.jobs.job import Job
from hansa.jobs.life import JobState

ALL, SERVER, CLIENT = TargetType.ALL, TargetType.SERVER, TargetType.CLIENT


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    assert_done(made.api.login("admin"))
    yield made
    made.close()


def submitted(place: Place) -> Job:
    """The newest job as it came to the server."""
    return Job.load(place.federation.store.folder(place.federation.jobs()[-1].id) / "job")


def test_each_step_needs_the_one_before(place: Place) -> None:
    assert_refused(place.api.deploy_app("app", ALL), "ERROR_RUNTIME", "call set_run_number(n) first")
    assert_refused(place.api.start_app(ALL), "ERROR_RUNTIME", "call set_run_number(n) first")
    assert_done(place.api.set_run_number(1))
    assert_refused(place.api.start_app(ALL), "ERROR_RUNTIME", "nothing is deployed to the server in run 1")
    assert_done(place.api.deploy_app("app", SERVER))
    assert_refused(place.api.start_app(ALL), "ERROR_RUNTIME", "nothing is deployed to any site in run 1")
    assert place.federation.jobs() == []


def test_numbers(place: Place) -> None:
    for number in (0, -1, "1", True, 1.0):
        assert_refused(place.api.set_run_number(number), "ERROR_SYNTAX", "a whole number from 1")  # type: ignore[arg-type]
    job = place.started(1)
    assert_refused(place.api.set_run_number(2), "ERROR_RUNTIME", f"run 1 is under way as job {job}")
    assert_refused(place.api.start_app(ALL), "ERROR_RUNTIME", f"run 1 is under way as job {job}")
    assert_refused(place.api.delete_run_number(1), "ERROR_RUNTIME", f"run 1 is under way as job {job}")
    assert "run 1 exists already" in assert_done(place.api.set_run_number(1))
    place.act(place.federation.now, job, JobState.ABORTED)
    assert "run 2 is new" in assert_done(place.api.set_run_number(2))
    assert_refused(place.api.start_app(ALL), "ERROR_RUNTIME", "nothing is deployed to the server in run 2")
    assert f"the record of job {job} stays" in assert_done(place.api.delete_run_number(1))
    assert "run 1 is not there" in assert_done(place.api.delete_run_number(1))
    assert place.started(1) == "0002-app"
    assert place.api.check_status(SERVER)["details"]["run_number"] == 1


def test_apps_are_checked_before_they_travel(place: Place) -> None:
    assert_done(place.api.set_run_number(1))
    assert_refused(place.api.upload_app("nosuch"), "ERROR_RUNTIME", "there is no such folder")
    assert_refused(place.api.upload_app("notes"), "ERROR_RUNTIME", "is no job: it has neither meta.json nor")
    assert_refused(place.api.upload_app(3), "ERROR_SYNTAX", "the name of a folder below upload_dir")  # type: ignore[arg-type]
    (place.apps / "app" / "config" / "config_fed_client.json").write_text("{")
    assert_refused(place.api.deploy_app("app", ALL), "ERROR_RUNTIME", "config_fed_client.json")


def test_no_upload_folder_is_one_line(place: Place) -> None:
    place.apps.rename(place.folder / "elsewhere")
    assert_refused(place.api.get_available_apps_to_upload(), "ERROR_RUNTIME", "there is no such folder: apps are taken")


def test_one_app_for_all_travels_as_it_is(place: Place) -> None:
    place.started()
    job = submitted(place)
    assert (job.name, dict(job.deploy_map), job.min_sites) == ("app", {"app": ("@ALL",)}, None)
    assert "custom/parts.py" in job.apps["app"].files


def test_a_folder_with_a_deploy_map_of_its_own_goes_to_all(place: Place) -> None:
    assert_done(place.api.set_run_number(1))
    assert_refused(place.api.deploy_app("whole", SERVER), "ERROR_SYNTAX", "says itself who runs what, in meta.json")
    assert_done(place.api.deploy_app("whole", ALL))
    assert_refused(place.api.start_app(CLIENT), "ERROR_RUNTIME", "start the app on the server first")
    assert_done(place.api.start_app(ALL))
    assert dict(submitted(place).deploy_map) == {"a": ("@ALL",)}


def test_apps_per_target_become_a_deploy_map(place: Place) -> None:
    api = place.api
    assert_done(api.set_run_number(1))
    assert_done(api.deploy_app("app", ALL))
    assert_done(api.deploy_app("other", CLIENT, ["site-2"]))
    assert_done(api.start_app(ALL))
    assert dict(submitted(place).deploy_map) == {"app": ("server", "@ALL"), "other": ("site-2",)}


def test_the_server_starts_with_the_sites_that_are_named(place: Place) -> None:
    api = place.api
    assert_done(api.set_run_number(1))
    assert_done(api.deploy_app("app", SERVER))
    assert_done(api.deploy_app("other", CLIENT))
    assert "the server starts together with the sites" in assert_done(api.start_app(SERVER))
    assert place.federation.jobs() == []
    assert api.check_status(SERVER)["details"]["server_engine_status"] == "starting"
    assert_done(api.start_app(CLIENT, ["site-1"]))
    assert dict(submitted(place).deploy_map) == {"app": ("server",), "other": ("site-1",)}
    place.act(place.federation.now, "0001-app", JobState.ABORTED)
    assert_done(api.set_run_number(2))
    assert_done(api.deploy_app("app", SERVER))
    assert_done(api.deploy_app("other", CLIENT, ["site-1"]))
    assert_done(api.start_app(SERVER))
    assert_refused(api.start_app(CLIENT, ["site-2"]), "ERROR_RUNTIME", "nothing is deployed to site-2 in run 2")


def test_what_the_server_refuses_is_a_response(place: Place) -> None:
    Job("tagged", dict(Job.load(place.apps / "app").apps), meta={"tags": ["refused"]}).save(place.apps / "tagged")
    assert_done(place.api.set_run_number(1))
    assert_done(place.api.deploy_app("tagged", ALL))
    assert_refused(place.api.start_app(ALL), "ERROR_RUNTIME", "the server takes no such job")
    assert place.api.check_status(SERVER)["details"]["server_engine_status"] == "stopped"
