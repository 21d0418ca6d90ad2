"""Waits of FLARE's admin API, and its runner."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flare_parts import Place, assert_done, assert_refused, kits
from hansa.admin.flare_response import FLAdminAPIResponse, TargetType, refused, succeeded
from hansa.admin.flare_runner import FLAdminAPIRunner, api_command_wrapper, wait_until_clients_greater_than_cb
from hansa.admin.flare_waiting import (
    Rhythm,
    default_client_status_handling_cb,
    default_server_status_handling_cb,
    default_stats_handling_cb,
    wait_until,
)
from hansa.errors import ConfigError, RunError
from hansa.jobs.life import JobState

SERVER = TargetType.SERVER


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    assert_done(made.api.login("admin"))
    yield made
    made.close()


def plays(place: Place, *replies: FLAdminAPIResponse, rhythm: Rhythm) -> tuple[FLAdminAPIResponse, list[float]]:
    """What a wait gives that sees these, and the pauses that it made."""
    left, pauses = list(replies), list[float]()
    reply = wait_until(lambda: left.pop(0), lambda r: "end" in r["details"], rhythm, pause=pauses.append)
    assert left == []
    return reply, pauses


def test_a_wait_looks_until_it_is_content(place: Place) -> None:
    rhythm = Rhythm(10, None, 2)
    bad, on, end = refused(RunError("gone")), succeeded("on"), succeeded(end=1)
    assert plays(place, on, bad, on, bad, end, rhythm=rhythm) == (succeeded(), [10, 10, 10, 10])
    assert plays(place, on, bad, bad, rhythm=rhythm) == (bad, [10, 10])
    assert plays(place, on, rhythm=Rhythm(10, 0, 2)) == (succeeded("waited 0 s, until the timeout"), [])
    with pytest.raises(ConfigError, match="an interval above 0 s"):
        Rhythm(1, -1, 2)


def test_what_callbacks_are_content_with() -> None:
    status = "server_engine_status"
    assert default_server_status_handling_cb(succeeded(**{status: "stopped"}), anything=1)
    assert not default_server_status_handling_cb(succeeded(**{status: "stopping"}))
    assert not default_server_status_handling_cb(succeeded())
    head = ["CLIENT", "APP_NAME", "RUN_NUMBER", "STATUS"]
    table = [head, ["a", "x", "1", "stopped"], ["b", "x", "1", "started"]]
    assert not default_client_status_handling_cb(succeeded(client_statuses=table))
    assert default_client_status_handling_cb(succeeded(client_statuses=table[:2]))
    assert not default_client_status_handling_cb(succeeded(client_statuses=[head], **{status: "started"}))
    assert default_stats_handling_cb(succeeded({"ServerRunner": {"status": "done"}}))
    assert not default_stats_handling_cb(succeeded({"ServerRunner": {"status": "started"}}))
    assert not default_stats_handling_cb(succeeded("no app was started"))
    assert not wait_until_clients_greater_than_cb(succeeded(registered_clients=1))
    assert wait_until_clients_greater_than_cb(succeeded(registered_clients=2))
    assert wait_until_clients_greater_than_cb(succeeded(registered_clients=3), 3)


def test_a_wait_sees_the_end_at_once(place: Place) -> None:
    job = place.started()
    ends = threading.Timer(0.1, place.act, (place.federation.play, job))
    ends.start()
    assert place.api.wait_until_client_status(interval=3600) == succeeded()
    assert place.api.wait_until_server_status(interval=3600, callback=None) == succeeded()
    assert place.api.wait_until_server_stats(interval=3600) == succeeded()
    ends.join()


def test_a_wait_that_is_over_says_so_and_the_run_goes_on(place: Place) -> None:
    place.started()
    assert assert_done(place.api.wait_until_server_status(interval=3600, timeout=0.1)).startswith("waited 0.1 s")
    assert place.api.check_status(SERVER)["details"]["server_engine_status"] == "starting"


def test_callbacks_take_what_the_wait_was_given(place: Place) -> None:
    seen = []

    def content(reply: FLAdminAPIResponse, **more: object) -> bool:
        seen.append((reply["details"]["registered_clients"], more))
        return True

    assert_done(place.api.wait_until_server_status(callback=content, min_clients=9))
    assert seen == [(2, {"min_clients": 9})]


def test_a_server_that_goes_away_ends_a_wait(place: Place) -> None:
    place.links[-1].is_down = True
    assert_refused(place.api.wait_until_server_status(interval=1, fail_attempts=1), "ERROR_RUNTIME", "no server at")


# -- the runner -------------------------------------------------------------------------------------------------------


def runner(place: Place) -> FLAdminAPIRunner:
    return FLAdminAPIRunner("localhost", 8003, "admin", str(kits()["admin"]), api=place.api)


def test_the_runner_takes_an_app_to_its_end(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    made = runner(place)

    def play() -> None:
        place.act(place.federation.play, "0001-app")

    when_there(place, play)
    made.run(4, "app", restart_all_first=True, timeout=60, shutdown_at_end=True)
    said = capsys.readouterr().out
    assert "restart: no admin restarts participants here" in said
    assert "run 4 is job 0001-app" in said
    assert "job 0001-app is COMPLETED" in said
    assert "abort" not in said.partition("shutdown: ")[0]
    assert said.splitlines()[-1].startswith("shutdown: no admin shuts participants down here")


def when_there(place: Place, do: object) -> None:
    """Do it as soon as a job is there."""
    assert callable(do)
    submit = place.federation.submit

    async def submitting(peer: object, blob: str) -> str:
        job: str = await submit(peer, blob)  # type: ignore[arg-type]
        threading.Thread(target=do).start()
        return job

    place.federation.submit = submitting  # type: ignore[method-assign, assignment]


def test_too_few_sites_end_the_run_before_it_begins(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    job = place.started()  # another script's, as far as the runner knows
    runner(place).run(5, "app", min_clients=3, timeout=0, shutdown_on_error=True)
    said = capsys.readouterr().out
    assert "run 5 of app: 2 of 3 sites are there after 0 s" in said
    assert "shutdown: no admin" in said
    assert not place.federation.job(job).state.is_over


def test_a_step_that_fails_is_printed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    runner(place).run(1, "nosuch")
    said = capsys.readouterr().out
    assert "there is no such folder" in said.splitlines()[-1]
    assert "shutdown" not in said
    with pytest.raises(RuntimeError, match="there is no such folder"):
        api_command_wrapper(place.api.upload_app("nosuch"))


def test_what_still_runs_at_the_end_is_stopped_if_asked(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    runner(place).run(1, "app", timeout=0.1, shutdown_at_end=True)
    assert "abort: job 0001-app is being stopped" in capsys.readouterr().out
    assert place.federation.job("0001-app").state is JobState.ABORTED


def test_a_runner_needs_the_kit_of_its_user(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is the kit of 'admin@poc\.local', not of 'ada'"):
        FLAdminAPIRunner("", 8003, "ada", str(kits()["admin"]), api=place.api)
    with pytest.raises(ConfigError, match="name files of one kit's folder startup"):
        FLAdminAPIRunner("", 8003, "admin", str(tmp_path))


def test_a_runner_waits_for_its_server(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.num_down = 1
    assert_done(runner(place).api.check_status(SERVER))
    assert capsys.readouterr().out == "cannot log in yet: there is no server at localhost:1\n"
