"""A job that is over is submitted once more and ends as if nothing had happened; its last model can be had at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import poc_jobs
from hansa.admin.remote_run import RemoteRun
from hansa.errors import ConfigError, RunError
from hansa.jobs import Component, Job, fed_avg
from hansa.jobs.life import JobState
from poc_jobs import BEGAN, GATE
from poc_parts import BIG, MODEL, PATIENCE_S, Federation, done, federation, fifo

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2")
ROUNDS = 4


def draws(*, rounds: int = ROUNDS, model: Any = MODEL, **meta: Any) -> Job:
    job = fed_avg(
        model, executor=Component(poc_jobs.Draws), rounds=rounds, params_type="diff", min_sites=2, name="draws"
    )
    return replace(job, meta={**job.meta, "quorum_wait_s": 0.5, "start_timeout_s": 60, **meta})


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("resubmit") / "fed", SITES) as found:
        yield found


def all_there(fed: Federation) -> None:
    fed.until_site(lambda sites: all(sites.get(name) for name in SITES))


def failed_in_round_2(fed: Federation, job: Job) -> RemoteRun:
    """A job whose second site leaves for good, while round 2 is under way."""
    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(job)
        for number in range(3):
            for each in began:
                each.line()
            if number < 2:
                for gate in gates:
                    gate.let_pass()
        fed.end("site-2")
        with pytest.raises(RunError):
            run.wait(PATIENCE_S)
    fed.start("site-2")
    all_there(fed)
    return run


@pytest.mark.parametrize("model", [MODEL, BIG], ids=["small", "in files"])
def test_a_job_that_lost_its_sites_goes_on_as_another(fed: Federation, model: Any) -> None:
    undisturbed = fed.session.submit(draws(model=model)).wait(PATIENCE_S)
    two = fed.session.submit(draws(rounds=2, model=model)).wait(PATIENCE_S)
    run = failed_in_round_2(fed, draws(model=model))
    assert run.state is JobState.FAILED
    assert JobState.WAITING in [change.state for change in run.record.changes]
    assert "site" in str(run.cause)
    assert run.model_digest == two.model_digest  # that of the last round that was committed

    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        again = fed.session.resubmit(run.id)
        for each in began:
            each.line()
        with pytest.raises(ConfigError, match="is not over: it is RUNNING"):
            fed.session.resubmit(again.id)
        fed.end("server", signal.SIGKILL)  # before it has a commit of its own
        fed.start("server")
        for _ in range(2):
            for gate in gates:
                gate.let_pass()
        again.wait(PATIENCE_S)
    assert again.id != run.id
    assert again.begins_with == 2
    assert [each.number for each in again.history.rounds] == [2, 3]
    assert again.model_digest == undisturbed.model_digest


def test_from_any_round_that_was_kept(fed: Federation) -> None:
    whole = fed.session.submit(draws(keep_rounds="all")).wait(PATIENCE_S)
    for first in (1, 3):
        again = fed.session.resubmit(whole.id, from_round=first).wait(PATIENCE_S)
        assert [each.number for each in again.history.rounds] == list(range(first, ROUNDS))
        assert again.model_digest == whole.model_digest
    with pytest.raises(ConfigError, match="rounds that could: 1, 2, 3, 4"):
        fed.session.resubmit(whole.id, from_round=7)
    said = done("resubmit", whole.id, "--from-round", 3, "--kit", fed.kit("admin"))
    assert said.startswith("job 00")
    fed.session.run("last").wait(PATIENCE_S)
    file = fed.kit("server") / "jobs" / whole.id / "rounds" / "2" / "commit.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"\xaa")
    with pytest.raises(RunError, match="commit.bin is not what was written"):
        fed.session.resubmit(whole.id, from_round=2)


def test_an_aborted_job_has_its_last_model_and_goes_on(fed: Federation) -> None:
    one = fed.session.submit(draws(rounds=1)).wait(PATIENCE_S)
    with ExitStack() as cleanup:
        began = [cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in SITES]
        gates = [cleanup.enter_context(fifo(fed.kit(name), GATE)) for name in SITES]
        run = fed.session.submit(draws())
        for number in range(2):
            for each in began:
                each.line()
            if number == 0:
                for gate in gates:
                    gate.let_pass()
        run.abort("enough")
        fed.until(run, lambda record: record.state.is_over)
    assert run.state is JobState.ABORTED
    assert run.model_digest == one.model_digest
    again = fed.session.resubmit(run.id).wait(PATIENCE_S)
    assert again.begins_with == 1


def test_a_job_that_kept_nothing_begins_at_its_beginning(fed: Federation) -> None:
    with fifo(fed.kit("site-1"), BEGAN) as began, fifo(fed.kit("site-1"), GATE):
        run = fed.session.submit(draws(rounds=1))
        began.line()
        run.abort()
        fed.until(run, lambda record: record.state.is_over)
    again = fed.session.resubmit(run.id).wait(PATIENCE_S)
    assert again.begins_with is None
    assert [each.number for each in again.history.rounds] == [0]
    assert all(np.isfinite(value).all() for value in again.model.values())


def test_a_job_that_is_removed_leaves_nothing(fed: Federation) -> None:
    run = fed.session.submit(draws(rounds=1)).wait(PATIENCE_S)
    number, digest = run.record.number, run.model_digest
    again = fed.session.resubmit(run.id, from_round=1)
    places = [fed.kit(name) / f"run_{number}" for name in ("server", *SITES)]
    assert all(place.exists() for place in places)
    assert done("remove", run.id, "--kit", fed.kit("admin")) == f"removed {run.id}\n"
    with pytest.raises(ConfigError, match="there is no job"):
        fed.session.run(run.id)
    assert again.wait(PATIENCE_S).model_digest == digest  # it has what it begins from
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while any(place.exists() for place in places):
        assert time.monotonic() < deadline
        pause.wait(0.05)
