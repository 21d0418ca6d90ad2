"""Jobs that are stopped, that wait, several at once: what becomes of them, and how soon nothing of them is left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from hansa.admin.remote_run import RemoteRun
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.jobs.life import JobState
from poc_jobs import BEGAN, GATE, HOLD
from poc_parts import (
    PATIENCE_S,
    Federation,
    Fifo,
    done,
    federation,
    fifo,
    file,
    processes_below,
    trains,
    wait_until_gone,
)

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
GRACE_S = 5.0


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("jobs") / "fed", SITES, client={"max_jobs": 1}) as made:
        yield made


def blocked(fed: Federation, cleanup: ExitStack, how: str, sites: tuple[str, ...] = SITES) -> Mapping[str, Fifo]:
    """Let tasks last; returns where they say that they began."""
    for name in sites:
        cleanup.enter_context(fifo(fed.kit(name), GATE) if how == GATE else file(fed.kit(name), HOLD))
    return {name: cleanup.enter_context(fifo(fed.kit(name), BEGAN)) for name in sites}


def stopped(fed: Federation, run: RemoteRun, began: Mapping[str, Fifo]) -> float:
    """Abort a job whose tasks last; returns how long its processes lived on."""
    for each in began.values():
        each.line()
    processes = processes_below(fed.folder, working=True)
    assert len(processes) >= 4  # the server's, three sites'
    at = time.monotonic()
    run.abort("enough")
    wait_until_gone(list(processes), PATIENCE_S)
    return time.monotonic() - at


def test_what_watches_the_signal_is_gone_at_once(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began = blocked(fed, cleanup, HOLD)
        run = fed.session.submit(trains(rounds=3))
        seconds = stopped(fed, run, began)
        print(f"gone after {seconds:.2f} s")
        assert seconds < 2.0
        with pytest.raises(RunAborted, match="aborted by admin@poc.local: enough"):
            run.wait(PATIENCE_S)
    assert run.state is JobState.ABORTED
    assert processes_below(fed.folder, working=True) == {}


def test_what_ignores_the_signal_has_a_grace_and_is_killed(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began = blocked(fed, cleanup, GATE)
        run = fed.session.submit(trains(rounds=3))
        seconds = stopped(fed, run, began)
        print(f"gone after {seconds:.2f} s")
        assert GRACE_S - 0.5 < seconds < GRACE_S + 3.0
        with pytest.raises(RunAborted):
            run.wait(PATIENCE_S)
    assert processes_below(fed.folder, working=True) == {}


def test_a_job_that_waits_says_for_what_and_can_be_cancelled(fed: Federation) -> None:
    run = fed.session.submit(trains(tags=["gpu"]))
    waiting = fed.until(run, lambda record: record.reason is not None)
    assert waiting.state is JobState.SUBMITTED
    assert waiting.reason == "waits for 1 site of tag 'gpu'" or "gpu" in waiting.reason
    run.abort()
    with pytest.raises(RunAborted, match="aborted by admin@poc.local"):
        run.wait(PATIENCE_S)
    assert run.record.started_at is None
    with pytest.raises(ConfigError, match=f"job {run.id} is over: it is ABORTED"):
        run.abort()
    with pytest.raises(ConfigError, match=f"job {run.id} has no results: it is ABORTED"):
        run.download()


def test_a_job_that_is_not_started_by_its_deadline_fails(fed: Federation) -> None:
    run = fed.session.submit(trains(tags=["gpu"], start_deadline_s=0.5))
    with pytest.raises(RunError, match=r"not started within 0\.5 s; it waits for"):
        run.wait(PATIENCE_S)


def test_sites_that_run_one_job_at_a_time_make_the_second_wait(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began = blocked(fed, cleanup, GATE, SITES[:2])
        first = fed.session.submit(trains(sites=["site-1", "site-2"]))
        for each in began.values():
            each.line()
        second = fed.session.submit(trains(sites=["site-1", "site-2"]))
        beside = fed.session.submit(trains(sites=["site-3"])).wait(PATIENCE_S)  # there is room for it
        assert beside.history.rounds[0].targets == ["site-3"]
        assert second.state is JobState.SUBMITTED
        assert f"busy with {first.id}" in str(second.cause)
        views = {view.name: view for view in fed.session.sites()}
        assert views["site-1"].jobs == (first.id,)
    second.wait(PATIENCE_S)  # the gates are gone, and with them what held the first
    assert first.state is JobState.COMPLETED
    assert first.record.ended_at is not None
    assert second.record.started_at is not None
    assert first.record.ended_at <= second.record.started_at


def test_priority_comes_first(fed: Federation) -> None:
    with ExitStack() as cleanup:
        began = blocked(fed, cleanup, GATE, SITES[:1])
        first = fed.session.submit(trains(sites=["site-1"]))
        began["site-1"].line()
        low = fed.session.submit(trains(sites=["site-1"]))
        high = fed.session.submit(trains(sites=["site-1"], priority=5))
    for run in (first, low, high):
        run.wait(PATIENCE_S)
    assert high.record.started_at is not None
    assert low.record.started_at is not None
    assert high.record.started_at < low.record.started_at


def test_a_job_that_cannot_be_built_at_a_site_fails_and_says_where(fed: Federation, tmp_path: Path) -> None:
    trains().save(tmp_path / "job")
    source = tmp_path / "job" / "app" / "custom" / "poc_jobs.py"
    source.write_text(source.read_text().replace("self._momentum: dict", "import no_such_module; self._m: dict"))
    run = fed.session.submit(tmp_path / "job")
    with pytest.raises(RunError, match="no_such_module"):
        run.wait(PATIENCE_S)
    assert run.state is JobState.FAILED
    assert "no_such_module" in done("logs", run.id, "--kit", fed.kit("admin"))
