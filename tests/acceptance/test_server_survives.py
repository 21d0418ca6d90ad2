"""Whatever dies on the server, the job goes on and ends with the same bits: real processes, killed where it hurts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hansa.errors import ConfigError
from hansa.jobs import Job
from hansa.jobs.life import JobState
from poc_jobs import BEGAN, COUNT, GATE, STARTED
from poc_parts import PATIENCE_S, Federation, federation, fifo, file, processes_below, trains, wait_until_gone
from postgres import Postgres

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 4


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def fed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with ExitStack() as cleanup:
        place = {}
        if request.param == "PostgreSQL":
            database = Postgres()
            cleanup.callback(database.stop)
            place = {"HANSA_JOURNAL": database.create().new_database()}
        folder = tmp_path_factory.mktemp("survives") / "fed"
        yield cleanup.enter_context(federation(folder, SITES, **place))


@pytest.fixture(scope="module")
def undisturbed(fed: Federation) -> str | None:
    run = fed.session.submit(trains(rounds=ROUNDS))
    run.wait(PATIENCE_S)
    return run.model_digest


def test_a_job_survives_the_death_of_its_process_on_the_server(fed: Federation, undisturbed: str) -> None:
    with ExitStack() as cleanup:
        started = cleanup.enter_context(fifo(fed.kit("server"), STARTED))
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS))
        job = int(started.line())
        for number in range(ROUNDS):
            for each in began:
                each.line()
            if number == 2:  # two sites have answered, the third still works
                gates[0].let_pass()
                gates[1].let_pass()
                os.kill(job, signal.SIGKILL)
                started.line()
                gates[2].let_pass()
            else:
                for gate in gates:
                    gate.let_pass()
        run.wait(PATIENCE_S)
    assert run.model_digest == undisturbed
    assert [sorted(each.counted) for each in run.history.rounds] == [list(SITES)] * ROUNDS
    assert [each.number for each in run.history.rounds] == list(range(ROUNDS))
    states = [change.state for change in run.record.changes]
    assert states.count(JobState.WAITING) == 1
    assert states[-1] is JobState.COMPLETED
    wait_until_gone(list(processes_below(fed.folder, working=True)), PATIENCE_S)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_survives_the_end_of_the_whole_server(fed: Federation, undisturbed: str, how: signal.Signals) -> None:
    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS))
        for number in range(ROUNDS):
            for each in began:
                each.line()
            if number == 1:
                gates[0].let_pass()
                fed.end("server", how)
                gates[1].let_pass()
                fed.start("server")
                gates[2].let_pass()
            else:
                for gate in gates:
                    gate.let_pass()
        run.wait(PATIENCE_S)
    assert run.model_digest == undisturbed
    assert [sorted(each.counted) for each in run.history.rounds] == [list(SITES)] * ROUNDS
    reasons = [change.reason for change in run.record.changes if change.state is JobState.WAITING]
    assert reasons == ["the server was started anew; the job goes on"]
    wait_until_gone(list(processes_below(fed.folder, working=True)), PATIENCE_S)


def test_an_aborted_job_never_revives(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS))
        pids = [int(each.line()) for each in began]
        run.abort("enough")
        fed.end("server", signal.SIGKILL)
        fed.start("server")
        fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
        wait_until_gone(pids, PATIENCE_S)
        assert gates
    assert run.state is JobState.ABORTED
    assert run.cause.endswith("enough")


def sums() -> Job:
    job = trains()
    job.apps["app"].server["workflows"] = [{"id": "sums", "path": "poc_jobs.Sums", "args": {"task_check_period": 0.2}}]
    return job


@pytest.mark.parametrize("whole", [False, True], ids=["its process", "the server"])
def test_a_workflow_that_commits_nothing_is_replayed(fed: Federation, whole: bool) -> None:
    fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
    expected = fed.session.submit(sums()).wait(PATIENCE_S).model_digest
    with ExitStack() as cleanup:
        started = cleanup.enter_context(fifo(fed.kit("server"), STARTED))
        counts = [cleanup.enter_context(file(fed.kit(name), COUNT)) for name in SITES]
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(sums())
        job = int(started.line())
        for number in range(3):
            for each in began:
                each.line()
            if number == 2:
                if whole:
                    fed.end("server", signal.SIGKILL)
                    fed.start("server")
                else:
                    os.kill(job, signal.SIGKILL)
            for gate in gates:
                gate.let_pass()
        run.wait(PATIENCE_S)
        tasks = sorted(line for path in counts for line in path.read_text().splitlines())
    assert run.model_digest == expected is not None
    assert tasks == sorted(f"0/train/{number}/{site}/1" for number in (1, 2, 3) for site in SITES)


def test_a_job_rests_and_goes_on(fed: Federation, undisturbed: str) -> None:
    fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS))
        for number in range(ROUNDS):
            pids = [int(each.line()) for each in began]
            if number == 2:
                gates[0].let_pass()
                run.pause()
                wait_until_gone(pids, PATIENCE_S)
                with pytest.raises(ConfigError, match="cannot be paused: it is PAUSED"):
                    run.pause()
                wait_until_gone(list(processes_below(fed.folder, working=True)), PATIENCE_S)
                assert fed.session.submit(trains(rounds=1, flow={"num_rounds": 0})).wait(PATIENCE_S)
                fed.end("server")  # it stays paused
                fed.end("site-2")
                fed.start("server", "site-2")
                fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
                assert fed.session.run(run.id).state is JobState.PAUSED
                run.resume()
                for each in began[1:]:
                    each.line()
                gates[1].let_pass()
                gates[2].let_pass()
            else:
                for gate in gates:
                    gate.let_pass()
        run.wait(PATIENCE_S)
    assert run.model_digest == undisturbed
    with pytest.raises(ConfigError, match="cannot go on: it is COMPLETED"):
        run.resume()
