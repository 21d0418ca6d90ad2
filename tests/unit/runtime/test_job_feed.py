"""What followers of a job see: all lines once, the state when it changes, and the end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from hansa.runtime.job_feed import JobFeeds


class Job:
    """A job whose record grows by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = "RUNNING"
        self.feeds = JobFeeds()
        self.seen: list[dict[str, Any]] = []

    def write(self, *numbers: int, cut: str = "") -> None:
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps({"n": number}) + "\n" for number in numbers)
            stream.write(cut)
        self.feeds.wake("j")

    async def follow(self, **offsets: int) -> None:
        look = lambda: ({"state": self.state}, self.state == "COMPLETED")  # noqa: E731
        given = {"history.jsonl": offsets.get("history", 0)}
        async for each in self.feeds.follow("j", self.folder, look=look, offsets=given):
            self.seen.append(each)

    @property
    def numbers(self) -> list[int]:
        return [line["n"] for each in self.seen if each["k"] == "lines" for line in each["lines"]]

    @property
    def states(self) -> list[str]:
        return [each["state"] for each in self.seen if each["k"] == "state"]


async def turns(job: Job, until: int) -> None:
    """Let the follower work until it has seen so much."""
    async with asyncio.timeout(10):
        while len(job.seen) < until:
            await asyncio.to_thread(lambda: None)


def test_every_line_comes_once_and_the_end_ends_it(tmp_path: Path) -> None:
    async def main() -> Job:
        job = Job(tmp_path)
        job.write(1, 2)
        following = asyncio.create_task(job.follow())
        await turns(job, 2)
        job.write(3, cut='{"n": 4')  # a line that is not whole yet
        await turns(job, 3)
        job.write(cut="}\n")
        await turns(job, 4)
        job.state = "COMPLETED"
        job.feeds.wake("j")
        await asyncio.wait_for(following, 10)
        return job

    job = asyncio.run(main())
    assert job.numbers == [1, 2, 3, 4]
    assert job.states == ["RUNNING", "COMPLETED"]


def test_a_follower_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main() -> tuple[Job, Job]:
        first, again = Job(tmp_path), Job(tmp_path)
        first.write(1, 2)
        first.state = again.state = "COMPLETED"
        await first.follow()
        first.write(3)
        await again.follow(history=first.seen[0]["offset"])
        return first, again

    first, again = asyncio.run(main())
    assert first.numbers == [1, 2]
    assert again.numbers == [3]


def test_a_line_longer_than_a_chunk_comes_whole(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text(json.dumps({"n": 7, "x": "y" * 600_000}) + "\n", encoding="utf-8")
    job = Job(tmp_path)
    job.state = "COMPLETED"
    asyncio.run(job.follow())
    assert job.numbers == [7]
