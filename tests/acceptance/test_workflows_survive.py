"""Cyclic training and evaluation across sites on real processes: the simulator's bits, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import hansa
import poc_jobs
from hansa.jobs import Component, Job, cross_site_eval, cyclic
from hansa.runtime.run import Run, RunStatus
from poc_jobs import BEGAN, COUNT, GATE, STARTED
from poc_parts import MODEL, PATIENCE_S, Federation, federation, fifo, file

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 3


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("workflows") / "fed", SITES) as made:
        yield made


def in_turn(*, min_sites: int | None = None, evaluate: bool = False) -> Job:
    return cyclic(
        MODEL,
        executor=Component(poc_jobs.Evaluates),
        rounds=ROUNDS,
        min_sites=min_sites,
        order="fixed",
        params_type="diff",
        evaluate_across_sites=evaluate,
        server_components=[Component(poc_jobs.SaysWhereItIs)],
    )


def simulated(job: Job, home: Path) -> Run:
    return hansa.simulate(job, len(SITES), workers=0, home=home, progress=False)


def test_the_federation_gives_the_simulators_model_and_matrix(fed: Federation, tmp_path: Path) -> None:
    job = in_turn(evaluate=True)
    here = simulated(job, tmp_path)
    run = fed.session.submit(job)
    run.wait(PATIENCE_S)
    assert run.model_digest == here.model_digest is not None
    assert run.cross_site().as_dict() == here.cross_site().as_dict()
    assert run.cross_site().models == ("SRV_global_model.safetensors", *SITES)
    assert run.plot_cross_site(tmp_path / "matrix.png").stat().st_size > 10_000
    assert [sorted(each.counted) for each in run.history.rounds] == [list(SITES)] * ROUNDS


@pytest.mark.parametrize("whole", [False, True], ids=["its process", "the server"])
def test_a_relay_goes_on_where_the_server_was_killed(fed: Federation, tmp_path: Path, whole: bool) -> None:
    undisturbed = simulated(in_turn(), tmp_path).model_digest
    with ExitStack() as cleanup:
        started = cleanup.enter_context(fifo(fed.kit("server"), STARTED))
        began = {name: cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES}
        gates = {name: cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES}
        counts = {name: cleanup.enter_context(file(fed.kit(name), COUNT)) for name in SITES}
        run = fed.session.submit(in_turn())
        job = int(started.line())
        for number in range(ROUNDS):
            for name in SITES:
                began[name].line()
                if (number, name) == (1, "site-2"):  # site-1 has answered, site-2 works, site-3 waits
                    if whole:
                        fed.end("server", signal.SIGKILL)
                        fed.start("server")
                    else:
                        os.kill(job, signal.SIGKILL)
                    started.line()
                gates[name].let_pass()
        run.wait(PATIENCE_S)
        done = {name: path.read_text().split() for name, path in counts.items()}
    assert run.model_digest == undisturbed
    assert done == {name: [f"0/train/{number}/{name}/1" for number in range(1, ROUNDS + 1)] for name in SITES}


def test_a_site_that_is_lost_while_it_has_the_model_is_passed_over(fed: Federation, tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        began = cleanup.enter_context(fifo(fed.kit("site-2"), BEGAN))
        gate = cleanup.enter_context(fifo(fed.kit("site-2"), GATE))
        run = fed.session.submit(in_turn(min_sites=2))
        began.line()
        fed.end("site-2", signal.SIGKILL)
        run.wait(PATIENCE_S)
        gate.let_pass()
    fed.start("site-2")
    assert run.status is RunStatus.COMPLETED
    first = run.history.rounds[0]
    assert sorted(first.counted) == ["site-1", "site-3"]
    assert "lost" in first.refused["site-2"][0]
    assert any(problem.site == "site-2" for problem in run.problems)


def test_an_evaluation_goes_on_where_the_servers_process_was_killed(fed: Federation, tmp_path: Path) -> None:
    job = cross_site_eval(
        MODEL,
        executor=Component(poc_jobs.Evaluates),
        server_components=[Component(poc_jobs.SaysWhereItIs)],
    )
    undisturbed = simulated(job, tmp_path).cross_site().as_dict()
    with ExitStack() as cleanup:
        started = cleanup.enter_context(fifo(fed.kit("server"), STARTED))
        began = cleanup.enter_context(fifo(fed.kit("site-2"), BEGAN))
        gate = cleanup.enter_context(fifo(fed.kit("site-2"), GATE))
        counts = {name: cleanup.enter_context(file(fed.kit(name), COUNT)) for name in SITES}
        run = fed.session.submit(job)
        process = int(started.line())
        for turn in range(5):  # its own model, then four to measure
            began.line()
            if turn == 2:
                os.kill(process, signal.SIGKILL)
                started.line()
            gate.let_pass()
        run.wait(PATIENCE_S)
        done = {name: sorted(path.read_text().split()) for name, path in counts.items()}
    assert run.cross_site().as_dict() == undisturbed
    for name in SITES:
        tasks = ["submit_model/1", *(f"validate/{posting}" for posting in range(1, 5))]
        assert done[name] == [f"0/{task}/{name}/1" for task in tasks]
