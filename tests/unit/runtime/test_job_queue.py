"""What the schedule decides is carried out, and looked at again when a deadline comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from hansa.jobs.schedule import SiteLimits
from hansa.jobs.wanted import Resources, Wanted
from hansa.runtime.job_queue import Gpus, JobQueue, limits_of


class Office:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.has_expired = asyncio.Event()

    def start_job(self, job_id: str, sites: Sequence[str], *, gpus: Gpus) -> None:
        self.told.append(("start", job_id, list(sites), {site: list(own) for site, own in gpus.items()}))

    def join(self, job_id: str, site: str, *, gpus: Sequence[int]) -> None:
        self.told.append(("join", job_id, site, list(gpus)))

    def waits(self, job_id: str, reason: str) -> None:
        self.told.append(("waits", job_id))

    def expired(self, job_id: str, reason: str) -> None:
        self.told.append(("expired", job_id, reason))
        self.has_expired.set()


def test_a_job_starts_when_its_sites_are_there_and_one_that_comes_later_joins() -> None:
    async def main() -> list[tuple[Any, ...]]:
        office = Office()
        queue = JobQueue(office)
        wanted = Wanted(min_sites=2, resources=Resources(gpus=1))
        queue.submitted("0001-x", 1, wanted=wanted, at=time.time())
        queue.site_up("a", {"gpus": 2})
        queue.site_up("b", {"gpus": [3]})
        queue.site_up("c", {"gpus": 1})
        assert queue.jobs_at("a") == ("0001-x",)
        assert queue.free_gpus("a") == (1,)
        queue.ended("0001-x")
        assert queue.jobs_at("a") == ()
        return office.told

    told = asyncio.run(main())
    assert told[0] == ("waits", "0001-x")
    assert [each for each in told if each[0] != "waits"] == [
        ("start", "0001-x", ["a", "b"], {"a": [0], "b": [3]}),
        ("join", "0001-x", "c", [0]),
    ]


def test_a_deadline_is_noticed_without_another_event() -> None:
    async def main() -> list[tuple[Any, ...]]:
        office = Office()
        queue = JobQueue(office)
        queue.submitted("0001-x", 1, wanted=Wanted(start_deadline_s=0.05), at=time.time())
        await asyncio.wait_for(office.has_expired.wait(), 10)
        queue.close()
        queue.site_up("a", {})  # nothing starts in a queue that is closed
        return office.told

    told = asyncio.run(main())
    assert [each[0] for each in told] == ["waits", "expired"]
    assert "not started within 0.05 s" in told[1][2]


@pytest.mark.parametrize(
    ("said", "limits"),
    [
        ({}, SiteLimits()),
        ({"gpus": 2, "max_jobs": 3, "memory_mb": 1000, "cpus": 2.5}, SiteLimits(3, (0, 1), 1000.0, 2.5)),
        ({"gpus": [1, 3]}, SiteLimits(gpus=(1, 3))),
        ({"max_jobs": "many", "memory_mb": -1, "cpus": None, "gpus": None}, SiteLimits()),
        ({"max_jobs": True}, SiteLimits()),
    ],
)
def test_what_a_site_says_of_itself(said: dict[str, Any], limits: SiteLimits) -> None:
    assert limits_of(said) == limits
