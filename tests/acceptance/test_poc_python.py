"""Programs that steer a federation: the same face of a run as in the simulator, with and without an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hansa
from hansa.admin.session import connect_async
from hansa.errors import ConfigError, RunError
from hansa.jobs.life import JobState
from hansa.runtime.run import Run, RunStatus
from poc_jobs import BEGAN, GATE
from poc_parts import PATIENCE_S, Federation, environment, fifo, poc_up, trains

pytestmark = pytest.mark.slow

SITES = ["site-1", "site-2"]


@pytest.fixture(scope="module")
def poc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with poc_up(tmp_path_factory.mktemp("python") / "poc", "-n", 2) as made:
        yield made


def test_a_run_has_the_face_of_a_simulated_one(poc: Federation, tmp_path: Path) -> None:
    trains(rounds=2).save(tmp_path / "job")
    simulated = hansa.simulate(tmp_path / "job", SITES, workers=0, home=tmp_path, progress=False)
    with hansa.connect(poc.kit("admin"), home=tmp_path / "runs") as session:
        run = session.submit(tmp_path / "job").wait(PATIENCE_S)
        face = {name for name in dir(Run) if not name.startswith("_")} - {"load"}
        face |= {"id", "folder", "status", "history", "timings", "cause", "problems", "config"}
        assert face <= set(dir(run))
        assert (run.status, run.cause) == (RunStatus.COMPLETED, None)
        assert run.model.keys() == simulated.model.keys()
        assert all(np.array_equal(run.model[name], simulated.model[name]) for name in run.model)
        assert run.config["sites"] == simulated.config["sites"]
        assert run.config["job_digest"] == simulated.config["job_digest"]
        assert set(run.summary()) >= set(simulated.summary())
        assert run.timings.run > 0
        assert len(run.timings.rounds) == 2
        assert run.folder.parent == tmp_path / "runs"
        assert "round 1 finished" in run.logs()
        assert session.run(run.id).state is JobState.COMPLETED
        assert session.jobs()[-1].id == run.id
        assert [site.name for site in session.sites() if site.connected] == SITES


def test_a_run_is_followed_while_it_grows(poc: Federation, tmp_path: Path) -> None:
    trains(rounds=3).save(tmp_path / "job")
    with (
        hansa.connect(poc.kit("admin"), home=tmp_path) as session,
        fifo(poc.kit("site-1"), GATE) as gate,
        fifo(poc.kit("site-1"), BEGAN) as began,
    ):
        run = session.submit(tmp_path / "job")
        began.line()
        with pytest.raises(TimeoutError, match=f"job {run.id} is RUNNING after 0.2 s; it goes on"):
            run.wait(0.2)
        with pytest.raises(RunError, match="its record comes with its end"):
            _ = run.model
        gate.let_pass()
        began.line()
        rounds = set()
        for _ in run.follow():
            rounds.add(len(run.history.rounds))
            if len(rounds) == 1:
                gate.let_pass(2)
        assert max(rounds) == 3
        assert len(rounds) > 1
        assert run.state is JobState.COMPLETED


def test_an_async_program(poc: Federation, tmp_path: Path) -> None:
    """In a process of its own: that is where a program's event loop runs, and warnings are errors."""
    trains(rounds=2).save(tmp_path / "job")
    program = tmp_path / "program.py"
    program.write_text(ASYNC)
    done = subprocess.run(
        [sys.executable, str(program), str(poc.kit("admin")), str(tmp_path / "job")],
        env=environment(HANSA_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    digest, again, *states = done.stdout.split()
    assert digest == again
    assert states[-1] == "COMPLETED"


ASYNC = """
import asyncio, sys
from hansa.admin.session import connect_async

async def main(kit, folder):
    async with connect_async(kit) as session:
        first, second = await asyncio.gather(session.submit(folder), session.submit(folder))
        states = [record.state.value async for record in first.follow()]
        await asyncio.gather(first.wait(), second.wait())
        print((await first.download()).model_digest, (await second.download()).model_digest, *states)

asyncio.run(main(*sys.argv[1:]))
"""


def test_an_async_session_in_this_process(poc: Federation) -> None:
    async def main() -> str | None:
        async with connect_async(poc.kit("admin"), home=poc.folder / "home") as session:
            run = await session.submit(trains())
            await run.wait(PATIENCE_S)
            return (await run.download()).model_digest

    digest = asyncio.run(main())
    assert digest == poc.session.submit(trains()).wait(PATIENCE_S).model_digest


def test_a_mistake_is_raised_here(poc: Federation, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a Job or the folder of one"):
        poc.session.submit(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is no job 'nosuch'"):
        poc.session.run("nosuch")
    with pytest.raises(ConfigError):
        hansa.connect(tmp_path)
