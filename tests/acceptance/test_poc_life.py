"""Sites that come late, leave, die or are slow, processes that are killed: what becomes of jobs, and what is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hansa.admin.remote_run import RemoteRun
from hansa.errors import RunError
from hansa.jobs.life import JobState
from hansa.runtime.home_process import MOST_DEATHS
from hansa.runtime.run import RunStatus
from poc_jobs import BEGAN, GATE, STARTED
from poc_parts import (
    PATIENCE_S,
    Federation,
    Fifo,
    federation,
    fifo,
    processes_below,
    trains,
    wait_until_gone,
)

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("life") / "fed", SITES, server={"lost_after_s": 2.0}) as made:
        yield made


@pytest.fixture
def fed(running: Federation) -> Federation:
    """All its sites are there."""
    running.until_site(lambda sites: all(sites[name] for name in SITES))
    return running


def fifos(fed: Federation, cleanup: ExitStack, *names: str, site: str) -> list[Fifo]:
    return [cleanup.enter_context(fifo(fed.kit(site), name)) for name in names]


def who_counted(run: RemoteRun) -> list[list[str]]:
    return [sorted(each.counted) for each in run.history.rounds]


def test_a_site_comes_late_leaves_and_comes_back(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, gate = fifos(fed, cleanup, BEGAN, GATE, site="site-1")
        (started,) = fifos(fed, cleanup, STARTED, site="site-3")
        fed.end("site-3")
        run = fed.session.submit(trains(rounds=40, min_sites=2))

        def rounds(number: int) -> None:
            for _ in range(number):
                began.line()
                gate.let_pass()

        rounds(3)
        fed.start("site-3")
        started.line()
        rounds(12)
        fed.end("site-3")
        rounds(10)
        fed.start("site-3")
        started.line()
        rounds(15)
        run.wait(PATIENCE_S)
    counted = who_counted(run)
    assert counted[0] == counted[20] == ["site-1", "site-2"]
    assert counted[12] == counted[-1] == list(SITES)
    assert run.status is RunStatus.COMPLETED
    assert run.record.sites == SITES


def test_a_killed_agent_takes_its_job_process_along_and_costs_its_result(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, _ = fifos(fed, cleanup, BEGAN, GATE, site="site-3")
        run = fed.session.submit(trains(rounds=2, min_sites=2))
        pid = int(began.line())
        agent = fed.processes.pop("site-3")
        agent.send(signal.SIGKILL)
        wait_until_gone([agent.pid, pid], 5.0)
        run.wait(PATIENCE_S)
    fed.start("site-3")
    assert who_counted(run) == [["site-1", "site-2"]] * 2
    first, second = run.history.rounds
    assert first.targets == list(SITES)
    assert "lost" in str(first.refused["site-3"])
    assert second.targets == ["site-1", "site-2"]
    assert [problem.site for problem in run.problems] == ["site-3"]


def test_a_killed_agent_that_is_started_again_at_once_goes_on(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, gate = fifos(fed, cleanup, BEGAN, GATE, site="site-3")
        run = fed.session.submit(trains(rounds=1))
        first = began.line()
        fed.end("site-3", signal.SIGKILL)
        fed.start("site-3")
        assert began.line() != first
        gate.let_pass()
        run.wait(PATIENCE_S)
    assert who_counted(run) == [list(SITES)]


def test_a_killed_job_process_costs_its_result_and_is_started_anew(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, gate = fifos(fed, cleanup, BEGAN, GATE, site="site-3")
        (started,) = fifos(fed, cleanup, STARTED, site="site-3")
        slow, go_on = fifos(fed, cleanup, BEGAN, GATE, site="site-1")
        run = fed.session.submit(trains(rounds=12, min_sites=2))
        slow.line()
        first = started.line()
        assert began.line() == first
        os.kill(int(first), signal.SIGKILL)
        assert started.line() != first
        gate.let_pass(100)
        go_on.let_pass()
        for _ in range(11):
            slow.line()
            go_on.let_pass()
        run.wait(PATIENCE_S)
    counted = who_counted(run)
    assert counted[0] == ["site-1", "site-2"]
    assert counted[-1] == list(SITES)
    assert "its process was killed by SIGKILL" in str(run.history.rounds[0].refused["site-3"])
    assert "its process was killed by SIGKILL" in str(run.problems[0])


def test_a_killed_job_process_that_the_job_cannot_do_without_is_waited_for(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, gate = fifos(fed, cleanup, BEGAN, GATE, site="site-3")
        run = fed.session.submit(trains())  # it wants all
        os.kill(int(began.line()), signal.SIGKILL)
        began.line()
        gate.let_pass()
        run.wait(PATIENCE_S)
    assert who_counted(run) == [list(SITES)]
    assert run.problems == []


def test_a_job_whose_process_dies_at_every_try_at_one_site_goes_on_without_it(fed: Federation) -> None:
    with ExitStack() as cleanup:
        started, _ = fifos(fed, cleanup, STARTED, GATE, site="site-3")
        slow, go_on = fifos(fed, cleanup, BEGAN, GATE, site="site-1")
        run = fed.session.submit(trains(rounds=2, min_sites=2))
        slow.line()
        for _ in range(3):  # it is not started a fourth time
            os.kill(int(started.line()), signal.SIGKILL)
        for _ in range(2):
            go_on.let_pass()
        run.wait(PATIENCE_S)
    assert who_counted(run)[-1] == ["site-1", "site-2"]


def test_a_job_whose_process_on_the_server_dies_again_and_again_fails_and_leaves_nothing(fed: Federation) -> None:
    with ExitStack() as cleanup:
        (started,) = fifos(fed, cleanup, STARTED, site="server")
        began = [fifos(fed, cleanup, BEGAN, GATE, site=name)[0] for name in SITES]
        run = fed.session.submit(trains())
        pids = [int(each.line()) for each in began]
        for _ in range(MOST_DEATHS):
            os.kill(int(started.line()), signal.SIGKILL)
        over = fed.until(run, lambda record: record.state.is_over, 5.0)
        assert over.state is JobState.FAILED
        assert over.reason.startswith("its process on the server was killed by SIGKILL")
        with pytest.raises(RunError, match="its process on the server was killed by SIGKILL"):
            run.wait(PATIENCE_S)
        wait_until_gone(pids, 10.0)  # they hear nothing, so they have five seconds
    assert processes_below(fed.folder, working=True) == {}


def test_a_round_does_not_wait_for_a_straggler_for_ever(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, _ = fifos(fed, cleanup, BEGAN, GATE, site="site-3")
        run = fed.session.submit(trains(rounds=2, min_sites=2, flow={"wait_time_after_min_received": 1}))
        pid = int(began.line())
        run.wait(PATIENCE_S)
        wait_until_gone([pid], 15.0)  # though it hears nothing
    assert run.history.rounds[0].targets == list(SITES)
    assert who_counted(run) == [["site-1", "site-2"]] * 2
    assert run.summary()["counted_last_round"] == 2


def test_without_a_quorum_a_job_waits_and_goes_on_when_sites_are_back(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, gate = fifos(fed, cleanup, BEGAN, GATE, site="site-3")
        run = fed.session.submit(trains(rounds=2))
        began.line()
        fed.end("site-3")
        waiting = fed.until(run, lambda record: record.state is JobState.WAITING)
        assert waiting.reason == "quorum: 2 of 3 sites"
        fed.start("site-3")
        fed.until(run, lambda record: record.state is JobState.RUNNING)
        gate.let_pass(2)
        run.wait(PATIENCE_S)
    assert who_counted(run) == [list(SITES)] * 2
    states = [change.state for change in run.record.changes]
    assert states[-4:] == [JobState.RUNNING, JobState.WAITING, JobState.RUNNING, JobState.COMPLETED]


def test_without_a_quorum_for_too_long_a_job_fails_and_says_who_is_missing(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, _ = fifos(fed, cleanup, BEGAN, GATE, site="site-1")
        run = fed.session.submit(trains(rounds=2, min_sites=2, quorum_wait_s=1.5))
        pid = int(began.line())
        for name in ("site-2", "site-3"):
            fed.end(name)
        fed.until(run, lambda record: record.state is JobState.WAITING)
        over = fed.until(run, lambda record: record.state.is_over)
        assert over.state is JobState.FAILED
        assert over.reason == ("1 of 2 sites are there (site-2: it has left; site-3: it has left); waited 1.5 s")
        wait_until_gone([pid], 15.0)
    fed.start("site-2", "site-3")


def test_a_site_that_comes_late_takes_part_in_a_job_that_named_no_number(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began, gate = fifos(fed, cleanup, BEGAN, GATE, site="site-1")
        (started,) = fifos(fed, cleanup, STARTED, site="site-3")
        fed.end("site-3")
        run = fed.session.submit(trains(rounds=10))
        began.line()
        fed.start("site-3")
        started.line()
        gate.let_pass(10)
        run.wait(PATIENCE_S)
    assert who_counted(run)[-1] == list(SITES)
    for each in run.history.rounds:
        assert set(each.counted) <= set(each.targets)


def test_a_task_has_its_time_and_no_more(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began = [fifos(fed, cleanup, BEGAN, GATE, site=name)[0] for name in SITES[1:]]
        run = fed.session.submit(trains(min_sites=1, flow={"train_timeout": 1, "wait_time_after_min_received": 60}))
        pids = [int(each.line()) for each in began]
        run.wait(PATIENCE_S)
        wait_until_gone(pids, 15.0)
    assert who_counted(run) == [["site-1"]]
