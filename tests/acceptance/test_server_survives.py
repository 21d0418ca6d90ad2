"""Whatever dies on the server, the job goes on and ends with the same bits: real processes, killed where it hurts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hansa.jobs.life import JobState
from poc_jobs import BEGAN, GATE, STARTED
from poc_parts import PATIENCE_S, Federation, federation, fifo, processes_below, trains, wait_until_gone

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 4


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("survives") / "fed", SITES) as made:
        yield made


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
    assert processes_below(fed.folder, working=True) == {}


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
    assert processes_below(fed.folder, working=True) == {}


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
