"""A job on a federation as a program with an event loop sees it; also over a connection that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from admin_parts import MemoryFederation, MemoryLink, digits, round_line
from hansa import tensors
from hansa.admin.async_run import AsyncRemoteRun, Patience
from hansa.admin.session import AsyncSession
from hansa.errors import ConfigError, HansaError, RunAborted, RunError
from hansa.jobs.life import JobState
from hansa.runtime.run import Problem, RunStatus
from hansa.runtime.run_folder import HISTORY, PROBLEMS, find_run

QUICK = Patience(first_s=0.001, longest_s=0.01, give_up_s=30.0)

Play = Callable[[MemoryFederation, MemoryLink, AsyncSession], Awaitable[None]]


@pytest.fixture
def stage(tmp_path: Path) -> Callable[[Play], None]:
    """Runs a test's coroutine over a federation in memory; downloads go to `tmp_path / "home"`."""

    def run(play: Play, patience: Patience = QUICK) -> None:
        async def playing() -> None:
            federation = MemoryFederation(tmp_path)
            link = MemoryLink(federation)
            async with AsyncSession(link, home=tmp_path / "home", patience=patience) as session:
                await asyncio.wait_for(play(federation, link, session), 30)
            assert link.closed
            assert asyncio.all_tasks() == {asyncio.current_task()}
            federation.store.close()

        asyncio.run(playing())

    return run


async def until(run: AsyncRemoteRun, state: JobState) -> None:
    async for record in run.follow():
        if record.state is state:
            return


def test_a_job_is_submitted_followed_and_fetched(stage: Callable[[Play], None], tmp_path: Path) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits(priority=2))
        assert (run.id, run.state, run.status) == ("0001-digits", JobState.SUBMITTED, RunStatus.RUNNING)
        assert run.record.priority == 2
        seen = []
        async for record in run.follow():
            seen.append((record.state, len(run.history.rounds)))
            if record.state is JobState.SUBMITTED:
                federation.start(run.id)
                federation.write(run.id, HISTORY, round_line(0, accuracy=0.5))
            elif record.state is JobState.RUNNING and len(run.history.rounds) == 1:
                federation.write(run.id, PROBLEMS, {"site": "site-1", "where": "train", "cause": "oh"})
                federation.write(run.id, HISTORY, round_line(1, accuracy=0.75))
                federation.record(run.id, model_safetensors=tensors_of(7))
                federation.now(run.id, JobState.COMPLETED)
        assert seen[0] == (JobState.SUBMITTED, 0)
        assert seen[-1] == (JobState.COMPLETED, 2)
        assert run.problems == [Problem("site-1", "train", "oh")]
        await run.wait()
        facts = run.summary()
        assert (facts["status"], facts["rounds"], facts["num_rounds"], facts["metrics"]) == (
            "COMPLETED",
            2,
            2,
            {"accuracy": 0.75},
        )
        fetched = await run.download()
        assert fetched.folder == tmp_path / "home" / "0001-digits"
        assert fetched.model["w"].tolist() == [7.0]
        assert [record.number for record in fetched.history.rounds] == [0, 1]
        assert find_run("0001-digits", tmp_path / "home") == fetched.folder

    stage(play)


def tensors_of(value: float) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x")
        tensors.write(file, {"w": np.array([value], dtype=np.float32)})
        return file.read_bytes()


def test_a_folder_is_submitted_under_its_own_name(stage: Callable[[Play], None], tmp_path: Path) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        digits().save(tmp_path / "first")
        (tmp_path / "bare" / "config").parent.mkdir()
        (tmp_path / "first" / "app" / "config").rename(tmp_path / "bare" / "config")
        (tmp_path / "first" / "app" / "custom").rename(tmp_path / "bare" / "custom")
        run = await session.submit(tmp_path / "bare")
        assert run.id == "0001-bare"
        kept = federation.store.folder(run.id) / "job"
        assert (kept / "app" / "custom" / "parts.py").read_bytes() == b"X = 1\n"
        assert not list(federation.uploads.iterdir())

    stage(play)


@pytest.mark.parametrize("job", [3, None, ["x"]])
def test_what_is_no_job_is_refused_before_the_server_is_asked(stage: Callable[[Play], None], job: object) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        link.is_down = True
        with pytest.raises(ConfigError, match="job: must be a Job or the folder of one"):
            await session.submit(job)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="priority: must be at most 100"):
            await session.submit(digits(priority=101))

    stage(play)


def test_a_job_that_the_server_refuses_leaves_nothing_there(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        with pytest.raises(ConfigError, match="tags: the server takes no such job"):
            await session.submit(digits(tags=["refused"]))
        assert await session.jobs() == []
        assert not list(federation.uploads.iterdir())

    stage(play)


def test_a_follower_goes_on_where_it_was_when_the_connection_breaks(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        told: list[str | None] = []
        run.on_trouble = told.append
        link.cut_after = 2
        federation.start(run.id, rounds=20)
        async for record in run.follow():
            if record.state is JobState.RUNNING and len(run.history.rounds) < 20:
                federation.write(run.id, HISTORY, round_line(len(run.history.rounds), accuracy=0.5))
            elif record.state is JobState.RUNNING:
                federation.now(run.id, JobState.COMPLETED)
        assert [record.number for record in run.history.rounds] == list(range(20))
        assert link.num_streams > 5
        assert told[:2] == ["the connection to the server is gone", None]
        assert told.count(None) * 2 in (len(told), len(told) + 1)

    stage(play)


def test_a_follower_waits_for_a_server_that_is_away_and_then_gives_up(stage: Callable[..., None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        link.is_down = True
        told: list[str | None] = []
        run.on_trouble = told.append
        with pytest.raises(HansaError, match="there is no server at localhost:1"):
            await run.wait()
        assert told == ["there is no server at localhost:1"]
        link.is_down = False  # whoever asks again finds it again
        federation.play(run.id)
        await run.wait()

    stage(play, Patience(first_s=0.001, longest_s=0.01, give_up_s=0.05))


def test_a_refusal_is_not_tried_again(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        run.id = "0009-other"
        with pytest.raises(ConfigError, match="there is no job '0009-other'"):
            await run.wait()
        assert link.num_streams == 1

    stage(play)


def test_a_failed_job_raises_its_cause_with_the_folder_of_its_record(
    stage: Callable[[Play], None], tmp_path: Path
) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        federation.start(run.id)
        federation.record(run.id, "FAILED")
        federation.now(run.id, JobState.FAILED, "site-1, task train, round 3: no more")
        with pytest.raises(RunError, match="site-1, task train, round 3: no more") as error:
            await run.wait()
        assert error.value.folder == str(tmp_path / "home" / run.id)
        assert not isinstance(error.value, RunAborted)

    stage(play)


def test_a_job_that_never_began_has_no_folder(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        await run.abort("wrong data")
        with pytest.raises(RunAborted, match="aborted by ada@x.org: wrong data") as error:
            await run.wait()
        assert error.value.folder is None
        with pytest.raises(ConfigError, match="has no results"):
            await run.download()
        with pytest.raises(ConfigError, match="is over"):
            await run.abort()

    stage(play)


def test_a_wait_may_end_before_the_job(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        with pytest.raises(TimeoutError, match=r"job 0001-digits is SUBMITTED after 0\.01 s; it goes on"):
            await run.wait(0.01)
        federation.play(run.id)
        await run.wait(30)

    stage(play)


def test_several_may_follow_one_run_over_one_stream(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        waiting = [asyncio.create_task(run.wait()) for _ in range(3)]
        await until(run, JobState.SUBMITTED)
        federation.play(run.id)
        await asyncio.gather(*waiting)
        assert link.num_streams == 1

    stage(play)


def test_an_old_job_can_be_looked_at(stage: Callable[[Play], None]) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        federation.play((await session.submit(digits())).id)
        run = await session.run("last")
        assert run.history.rounds == []
        await run.caught_up()
        assert len(run.history.rounds) == 2
        assert await run.logs("site-1", lines=2) == "site-1: two\nsite-1: three\n"
        assert [view.name for view in await session.sites()] == ["site-1", "site-2"]

    stage(play)


def test_downloads_of_two_servers_do_not_meet_and_one_jobs_replace_each_other(
    stage: Callable[[Play], None], tmp_path: Path
) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        federation.play(run.id)
        other = tmp_path / "home" / run.id
        other.mkdir(parents=True)
        (other / "run.json").write_text("{}", encoding="utf-8")
        assert (await run.download()).folder == tmp_path / "home" / f"{run.id}-2"
        (tmp_path / "home" / f"{run.id}-2" / "note").write_text("", encoding="utf-8")
        assert (await run.download()).folder == tmp_path / "home" / f"{run.id}-2"
        assert not (tmp_path / "home" / f"{run.id}-2" / "note").exists()
        with pytest.raises(ConfigError, match="holds something else; nothing was downloaded"):
            await run.download(other)
        assert (await run.download(tmp_path / "mine")).folder == tmp_path / "mine"
        assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [run.id, f"{run.id}-2"]

    stage(play)


def test_results_that_hold_no_run_are_refused(stage: Callable[[Play], None], tmp_path: Path) -> None:
    async def play(federation: MemoryFederation, link: MemoryLink, session: AsyncSession) -> None:
        run = await session.submit(digits())
        federation.play(run.id)
        folder = federation.store.folder(run.id)
        results = federation.results

        async def emptied(job_id: str) -> Path:
            await results(job_id)
            (folder / "results.zip").write_bytes(b"no archive")
            return folder / "results.zip"

        federation.results = emptied  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match=r"results\.zip: is damaged, or no archive"):
            await run.download()
        assert not list((tmp_path / "home").iterdir())

    stage(play)
