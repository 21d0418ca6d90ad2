"""A session for programs without an event loop, and the face of its runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import hansa
from admin_parts import MemoryFederation, MemoryLink, digits, round_line
from hansa.admin.async_run import Patience
from hansa.admin.remote_run import RemoteRun
from hansa.admin.session import Session, connect
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.jobs.life import JobState
from hansa.runtime.run import Run, RunStatus
from hansa.runtime.run_folder import HISTORY


class Place:
    """A session over a federation in memory."""

    def __init__(self, folder: Path) -> None:
        self.links: list[MemoryLink] = []

        def opened() -> MemoryLink:
            self.federation = MemoryFederation(folder)
            self.links.append(MemoryLink(self.federation))
            return self.links[0]

        self.session = Session(opened, home=folder / "home", patience=Patience(0.001, 0.01, 10.0))
        self.link = self.links[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.session.close()
    made.federation.store.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "hansa-admin"]


def test_a_remote_run_has_the_face_of_a_run() -> None:
    face = {name for name in (*vars(Run), *Run.__dataclass_fields__) if not name.startswith("_")} - {"load"}
    assert {"model", "history", "plot", "summary", "folder"} <= face
    assert not [name for name in sorted(face) if not hasattr(RemoteRun, name)]


def test_a_job_from_submission_to_model(place: Place, tmp_path: Path) -> None:
    run = place.session.submit(digits())
    assert (run.id, run.state, run.status, run.cause) == ("0001-digits", JobState.SUBMITTED, RunStatus.RUNNING, None)
    with pytest.raises(RunError, match="job 0001-digits is SUBMITTED; its record comes with its end"):
        _ = run.model
    place.link.act(place.federation.start, run.id)
    place.link.act(place.federation.write, run.id, HISTORY, round_line(0, accuracy=0.5))
    states = run.follow()
    while len(run.history.rounds) < 1:
        next(states)
    place.link.act(place.federation.write, run.id, HISTORY, round_line(1, accuracy=0.75))
    place.link.act(place.federation.record, run.id)
    place.link.act(place.federation.now, run.id, JobState.COMPLETED)
    assert list(states)[-1].state is JobState.COMPLETED
    assert run.wait(10) is run
    assert run.history.series("accuracy") == [(0, 0.5), (1, 0.75)]
    assert run.summary()["status"] == "COMPLETED"
    assert run.model == {}
    assert run.folder == tmp_path / "home" / run.id
    assert run.config["job"] == "digits"
    assert run.timings.total == 0.0
    assert run.state_dict() == {}
    assert run.problems == []
    assert run.summary()["folder"] == str(run.folder)
    assert repr(run) == "<RemoteRun 0001-digits COMPLETED>"


def test_a_figure_is_drawn_into_the_runs_folder(place: Place) -> None:
    run = place.session.submit(digits())
    place.link.act(place.federation.play, run.id)
    assert run.plot() == run.folder / "curves.png"
    assert run.plot().stat().st_size > 1000


def test_a_failed_run_raises_as_a_simulated_one_does(place: Place) -> None:
    run = place.session.submit(digits())
    run.abort("wrong data")
    with pytest.raises(RunAborted, match="wrong data"):
        run.wait()
    assert run.status is RunStatus.ABORTED
    assert place.session.jobs()[0].state is JobState.ABORTED


def test_old_jobs_sites_and_logs(place: Place) -> None:
    first, second = place.session.submit(digits()), place.session.submit(digits())
    assert place.session.run("last").id == second.id
    assert place.session.run("1").id == first.id
    assert place.session.run(first.id).logs(lines=1) == "server: three\n"
    assert [view.connected for view in place.session.sites()] == [True, False]
    with pytest.raises(ConfigError, match="fits 2 jobs"):
        place.session.run("digits")


def test_a_closed_session_says_so(place: Place) -> None:
    run = place.session.submit(digits())
    place.session.close()
    place.session.close()
    assert place.link.closed
    with pytest.raises(RunError, match="the session is closed"):
        run.abort()
    with pytest.raises(RunError, match="the session is closed"):
        place.session.jobs()


def test_a_link_that_cannot_be_opened_leaves_no_thread() -> None:
    def opened() -> MemoryLink:
        raise ConfigError("there is no such kit")

    with pytest.raises(ConfigError, match="there is no such kit"):
        Session(opened)
    assert not [thread for thread in threading.enumerate() if thread.name == "hansa-admin"]


def test_connect_is_a_public_name() -> None:
    assert hansa.connect is connect
