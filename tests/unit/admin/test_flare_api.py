"""FLARE's admin API over a session: the way from login to the end of a run, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin_parts import round_line
from flare_parts import Place, assert_done, assert_refused, kits
from hansa.admin.flare_api import FLAdminAPI
from hansa.admin.flare_response import APIStatus, FLDetailKey, TargetType
from hansa.errors import ConfigError
from hansa.jobs.life import JobState
from hansa.runtime.run_folder import HISTORY, PROBLEMS

ALL, SERVER, CLIENT = TargetType.ALL, TargetType.SERVER, TargetType.CLIENT


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    assert_done(made.api.login("admin"))
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "hansa-admin"]


def engine(place: Place) -> str:
    return str(place.api.check_status(SERVER)["details"][FLDetailKey.SERVER_ENGINE_STATUS])


def clients(place: Place) -> dict[str, str]:
    return {row[0]: row[3] for row in place.api.check_status(CLIENT)["details"]["client_statuses"][1:]}


# -- the kit and the login --------------------------------------------------------------------------------------------


def test_the_kit_is_found_by_any_path_in_it(tmp_path: Path) -> None:
    kit = kits()["admin"]
    for paths in (
        {"client_cert": str(kit / "startup" / "client.crt")},
        {"client_key": kit / "startup" / "client.key", "ca_cert": kit / "startup" / "rootCA.pem"},
        {"upload_dir": str(kit / "transfer"), "poc": True},
        {"download_dir": str(kit / "transfer")},
    ):
        FLAdminAPI("", 8003, **paths)  # type: ignore[arg-type]


def test_paths_that_lead_to_no_kit_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name files of one kit's folder startup.*no path was given"):
        FLAdminAPI("localhost", 8003)
    with pytest.raises(ConfigError, match=rf"an upload_dir beside it \({tmp_path}\)"):
        FLAdminAPI("localhost", 8003, client_cert=str(tmp_path / "client.crt"))
    with pytest.raises(ConfigError, match="one kit's folder"):
        FLAdminAPI(
            "localhost",
            8003,
            ca_cert=str(kits()["site-1"] / "startup" / "rootCA.pem"),
            client_cert=str(kits()["admin"] / "startup" / "client.crt"),
        )


def test_a_login_is_by_kit_and_name(place: Place) -> None:
    assert_refused(place.api.login("ada"), "ERROR_AUTHENTICATION", "is the kit of 'admin@poc.local', not of 'ada'")
    assert_refused(place.api.login_with_password("admin", "admin"), "ERROR_AUTHENTICATION", "there are no passwords")
    of_a_site = FLAdminAPI("", 0, client_cert=str(kits()["site-1"] / "startup" / "client.crt"))
    assert_refused(of_a_site.login("site-1"), "ERROR_CERT", "is the kit of a site, and here an admin's is needed")
    assert assert_done(place.api.login("admin@poc.local")) == "logged in as admin@poc.local"
    assert place.links[0].closed  # a new session is in the place of the old one


def test_without_a_login_every_call_says_so(tmp_path: Path) -> None:
    api = Place(tmp_path).api
    for reply in (
        api.check_status(SERVER),
        api.upload_app("app"),
        api.get_connected_client_list(),
        api.show_stats(SERVER),
        api.abort(ALL),
        api.tail_target_log("server"),
    ):
        assert_refused(reply, "ERROR_AUTHENTICATION", "call login(username) first")
    assert_done(api.logout())


def test_a_server_out_of_reach_is_a_response(place: Place) -> None:
    place.links[0].is_down = True
    assert_refused(place.api.check_status(SERVER), "ERROR_RUNTIME", "there is no server at localhost:1")


# -- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_from_its_number_to_its_end(place: Place) -> None:
    assert place.api.get_available_apps_to_upload()["details"] == {"app_list": ["app", "other", "whole"]}
    assert (engine(place), clients(place)) == ("stopped", {"site-1": "stopped", "site-2": "stopped"})
    job = place.started(7)
    assert job == "0001-app"
    details = place.api.check_status(SERVER)["details"]
    table = details.pop(FLDetailKey.STATUS_TABLE)
    assert details == {
        "server_engine_status": "starting",
        "run_number": 7,
        "app_name": "app",
        "registered_clients": 2,
        "message": "job 0001-app is SUBMITTED",
    }
    assert [row[:2] for row in table] == [["CLIENT", "TOKEN"], ["site-1", "-"], ["site-2", "-"]]
    assert clients(place) == {"site-1": "starting", "site-2": "starting"}
    place.act(place.federation.start, job)
    assert (engine(place), clients(place)) == ("started", {"site-1": "started", "site-2": "started"})
    rows = place.api.check_status(CLIENT, ["site-1", "gone"])["details"]["client_statuses"]
    assert rows[1:] == [["site-1", "app", "7", "started"], ["gone", "?", "7", "stopped"]]
    place.act(place.federation.now, job, JobState.COMPLETED)
    assert (engine(place), clients(place)) == ("stopped", {"site-1": "stopped", "site-2": "stopped"})
    assert place.api.get_connected_client_list()["details"] == {"connected_clients": ["site-1", "site-2"]}


def test_figures_and_errors_of_a_run(place: Place) -> None:
    assert assert_done(place.api.show_stats(SERVER)) == "no app was started"
    assert assert_done(place.api.show_errors(SERVER)) == {}
    job = place.started()
    place.act(place.federation.start, job)
    place.act(place.federation.store.progress, job, 1, num_rounds=2)
    place.act(place.federation.write, job, HISTORY, round_line(0, accuracy=0.5))
    place.act(place.federation.write, job, PROBLEMS, {"site": "site-1", "where": "train", "cause": "no data"})
    stats = assert_done(place.api.show_stats(SERVER))
    assert stats["ServerRunner"] == {
        "run_number": 1,
        "status": "started",
        "workflow": "Flow",
        "job": "job 0001-app is RUNNING",
    }
    assert stats["Flow"] == {"current_round": 1, "num_rounds": 2, "metrics": {"accuracy": 0.5}}
    assert assert_done(place.api.show_stats(CLIENT, ["site-2"])) == {
        "site-2": {"ClientRunner": {"run_number": 1, "status": "started"}}
    }
    assert assert_done(place.api.show_errors(CLIENT)) == {"site-1": {"train": {"ERROR": "no data"}}, "site-2": {}}
    assert_done(place.api.reset_errors())
    assert assert_done(place.api.show_errors(CLIENT, ["site-1"])) == {"site-1": {}}
    place.act(place.federation.now, job, JobState.FAILED, "site-1: no data")
    assert assert_done(place.api.show_errors(SERVER)) == {"job": {"ERROR": "site-1: no data"}}
    assert assert_done(place.api.show_stats(SERVER))["ServerRunner"]["status"] == "done"


def test_an_abort_is_of_the_whole_job(place: Place) -> None:
    assert_refused(place.api.abort(ALL), "ERROR_RUNTIME", "nothing runs")
    place.started()
    assert_refused(place.api.abort(CLIENT), "ERROR_SYNTAX", "a job is stopped as a whole")
    assert assert_done(place.api.abort(SERVER)) == "job 0001-app is being stopped"
    assert engine(place) == "stopped"
    assert_refused(place.api.abort(ALL), "ERROR_RUNTIME", "nothing runs")


def test_another_script_finds_the_job_that_runs_and_only_its_own_admins(place: Place) -> None:
    job = place.started(5)
    other = place.another()
    assert_done(other.login("admin"))
    details = other.check_status(SERVER)["details"]
    assert (details["run_number"], details["app_name"], details["server_engine_status"]) == (1, "app", "starting")
    place.act(place.federation.now, job, JobState.ABORTED)
    assert other.check_status(SERVER)["details"]["server_engine_status"] == "stopped"
    assert "one" in assert_done(other.tail_target_log("server"))  # its newest one, though it is over
    other.logout()


# -- logs -------------------------------------------------------------------------------------------------------------


def test_logs_of_targets(place: Place) -> None:
    assert_refused(place.api.tail_target_log("server"), "ERROR_RUNTIME", "there is no log: no app was started")
    place.started(3)
    api = place.api
    assert assert_done(api.tail_target_log("site-1", "-n 1")) == "site-1: three\n"
    assert assert_done(api.tail_target_log("server", "-c 6")) == "three\n"
    assert assert_done(api.cat_target("server", "-n", "run_3/log.txt")).splitlines()[2] == "     3\tserver: three"
    assert assert_done(api.grep_target("server", "-n", "^server: t", "log.txt")) == "2:server: two\n3:server: three\n"
    assert assert_done(api.ls_target("server")) == "log.txt\n"
    assert_refused(api.cat_target("server", None, "run_4/log.txt"), "ERROR_RUNTIME", "run 4 was not started in this")
    assert_refused(api.cat_target("server", "", "../key.pem"), "ERROR_SYNTAX", "reads log.txt or run_<n>/log.txt")
    assert_refused(api.tail_target_log("nobody"), "ERROR_INVALID_CLIENT", "there is no site nobody (there is gone,")


# -- what is not offered ----------------------------------------------------------------------------------------------


def test_what_no_admin_does_is_one_line(place: Place) -> None:
    api = place.api
    for reply, text in (
        (api.restart(ALL), "no admin restarts participants here"),
        (api.shutdown(CLIENT, ["site-1"]), "no admin shuts participants down here"),
        (api.remove_client(["site-1"]), "no admin removes sites here"),
        (api.env_target("site-1"), "the environment of site-1 is not shown"),
        (api.get_working_directory("server"), "where server lives on its machine is not shown"),
    ):
        assert_refused(reply, "ERROR_AUTHORIZATION", text)
    assert_refused(api.do_command("check_status server"), "ERROR_SYNTAX", "call the method instead")
    assert_refused(api.set_timeout(0), "ERROR_SYNTAX", "above 0")
    assert_done(api.set_timeout(30))


def test_wrong_arguments_are_one_line(place: Place) -> None:
    api = place.api
    assert_refused(api.check_status(ALL), "ERROR_SYNTAX", "TargetType.SERVER or TargetType.CLIENT")
    assert_refused(api.check_status("everybody"), "ERROR_SYNTAX", "target_type is one of")  # type: ignore[arg-type]
    assert_refused(api.check_status(CLIENT, "site-1"), "ERROR_SYNTAX", "a list of names")  # type: ignore[arg-type]
    assert_refused(api.check_status(SERVER, ["site-1"]), "ERROR_SYNTAX", "targets go with TargetType.CLIENT")
    assert_refused(api.check_status(CLIENT, ["site-9"]), "ERROR_INVALID_CLIENT", "there is no site site-9")
    assert_refused(api.wait_until_server_status(interval=0), "ERROR_SYNTAX", "an interval above 0")
    assert_done(api.check_status("server"))  # type: ignore[arg-type]  # its value does


def test_debug_writes_calls_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api = Place(tmp_path).api
    api.debug = True
    api.abort(ALL)
    api.write_error("a line")
    said = capsys.readouterr().err
    assert said.startswith("abort")
    assert APIStatus.ERROR_AUTHENTICATION.value in said
    assert said.endswith("a line\n")
