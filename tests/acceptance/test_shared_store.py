"""One store, two servers; and a database that restarts while a job runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hansa.jobs.life import JobState
from hansa.provision.provisioner import make_kits
from hansa.runtime.other_process import wait_for_ends
from hansa.runtime.poc import free_port
from poc_jobs import BEGAN, GATE
from poc_parts import (
    HANSA,
    PATIENCE_S,
    environment,
    federation,
    fifo,
    processes_below,
    trains,
    wait_until_gone,
)
from postgres import Postgres

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2")
ROUNDS = 3


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    made = Postgres()
    try:
        yield made.create()
    finally:
        made.stop()


def other_server(folder: Path, journal: str) -> tuple[subprocess.Popen[str], str]:
    """A server of the same project elsewhere, on the same store; and what it says of being up."""
    folder.mkdir()
    settings = {"server": {"poc": True, "listen": "127.0.0.1"}}
    make_kits(folder, server_port=free_port(), settings=settings)
    ready, theirs = os.pipe()
    process = subprocess.Popen(
        [*HANSA, "server", "start", str(folder / "server"), "--ready-fd", str(theirs)],
        env=environment(HANSA_JOURNAL=journal),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(theirs,),
        start_new_session=True,
    )
    os.close(theirs)
    with os.fdopen(ready) as stream:
        return process, stream.readline().strip()


def test_a_second_server_on_the_store_is_refused(database: Postgres, tmp_path: Path) -> None:
    journal = database.new_database()
    with federation(tmp_path / "fed", SITES, HANSA_JOURNAL=journal):
        second, word = other_server(tmp_path / "other", journal)
        second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 2
    assert word.startswith("error: ")
    assert "another server" in word
    shutil.rmtree(tmp_path / "other")


def test_a_server_that_was_paused_and_overtaken_commits_nothing_and_ends(database: Postgres, tmp_path: Path) -> None:
    journal = database.new_database()
    with ExitStack() as cleanup:
        fed = cleanup.enter_context(federation(tmp_path / "fed", SITES, HANSA_JOURNAL=journal))
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS))
        for each in began:
            each.line()
        first = fed.processes["server"]
        first.send(signal.SIGSTOP)
        assert database.end_sessions(journal) >= 1  # as a database does with somebody who has gone silent
        second, word = other_server(tmp_path / "other", journal)
        assert word == "ready"
        for gate in gates:
            gate.let_pass(ROUNDS)
        first.send(signal.SIGCONT)
        assert wait_for_ends([first], PATIENCE_S) == [], fed.log("server")
        assert "another server has taken over this journal" in fed.log("server")
        epochs = database.tell("SELECT DISTINCT epoch FROM hansa_commit WHERE version > 0", url=journal)
        assert epochs == []
        assert run.id
        second.terminate()
        second.communicate(timeout=PATIENCE_S)
        wait_until_gone(list(processes_below(fed.kit("server"), working=True)), PATIENCE_S)


def test_a_database_that_restarts_under_a_job_costs_nothing(database: Postgres, tmp_path: Path) -> None:
    journal = database.new_database()
    with ExitStack() as cleanup:
        fed = cleanup.enter_context(federation(tmp_path / "fed", SITES, HANSA_JOURNAL=journal))
        expected = fed.session.submit(trains(rounds=ROUNDS)).wait(PATIENCE_S).model_digest
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(trains(rounds=ROUNDS))
        for number in range(ROUNDS):
            for each in began:
                each.line()
            if number == 1:
                database.halt()
                gates[0].let_pass()
                database.start()
                gates[1].let_pass()
            else:
                for gate in gates:
                    gate.let_pass()
        run.wait(PATIENCE_S)
        assert run.state is JobState.COMPLETED
        assert run.model_digest == expected
