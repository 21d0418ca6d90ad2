"""Whatever dies at a site, the job ends with the same bits: what its components know lies on its disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from poc_jobs import BEGAN, GATE
from poc_parts import BIG, MODEL, PATIENCE_S, Federation, federation, fifo, processes_below, trains, wait_until_gone

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 4


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("survives") / "fed", SITES) as made:
        yield made


@pytest.mark.parametrize("model", [MODEL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("whole", ["process", "agent", "stopped"])
def test_a_job_survives_the_death_of_a_site(fed: Federation, model: object, whole: str) -> None:
    fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
    undisturbed = fed.session.submit(trains(rounds=ROUNDS, model=model)).wait(PATIENCE_S).model_digest
    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS, model=model))
        for number in range(ROUNDS):
            pids = [int(each.line()) for each in began]
            if number == 2:  # in the midst of a task, with a momentum from the rounds before
                if whole == "process":
                    os.kill(pids[1], signal.SIGKILL)
                else:
                    fed.end("site-2", signal.SIGKILL if whole == "agent" else signal.SIGTERM)
                    fed.start("site-2")
                assert int(began[1].line()) != pids[1]  # once more
            for gate in gates:
                gate.let_pass()
        run.wait(PATIENCE_S)
    assert run.model_digest == undisturbed
    assert [sorted(each.counted) for each in run.history.rounds] == [list(SITES)] * ROUNDS
    wait_until_gone(list(processes_below(fed.folder, working=True)), PATIENCE_S)
    assert [path for path in fed.folder.rglob("run_*/kept/*") if path.is_file()] == []
