"""Carries out what the schedule decides, and has it look again when a deadline comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hansa.apis.clock import process_clock
from hansa.jobs.schedule import (
    Adopted,
    Cancelled,
    Ended,
    Event,
    Expired,
    Join,
    Left,
    Schedule,
    SiteDown,
    SiteLimits,
    SiteUp,
    Start,
    Submitted,
    Tick,
    Waits,
)
from hansa.jobs.wanted import Wanted

Gpus = Mapping[str, Sequence[int]]


class Office(Protocol):
    """Who does what the schedule says."""

    def start_job(self, job_id: str, sites: Sequence[str], *, gpus: Gpus) -> None:
        """Start a job."""
        ...

    def join(self, job_id: str, site: str, *, gpus: Sequence[int]) -> None:
        """Let a site that came take part in a job that runs."""
        ...

    def waits(self, job_id: str, reason: str) -> None:
        """A job waits, and for what."""
        ...

    def expired(self, job_id: str, reason: str) -> None:
        """A job has not started by its deadline."""
        ...


class JobQueue:
    """The jobs that wait for their turn; on the event loop's thread.

    Args:
        office: Does what is decided.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._schedule = Schedule()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def close(self) -> None:
        """Start nothing any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def submitted(self, job_id: str, number: int, *, wanted: Wanted, at: float) -> None:
        """A job has come."""
        self._tell(Submitted(job_id, number, wanted, at))

    def adopted(self, job_id: str, wanted: Wanted, *, gpus: Mapping[str, tuple[int, ...]]) -> None:
        """A job goes on that was started before; `gpus` has what it holds at each of its sites."""
        self._tell(Adopted(job_id, wanted, gpus))

    def cancelled(self, job_id: str) -> None:
        """A job that waits is not wanted any more."""
        self._tell(Cancelled(job_id))

    def ended(self, job_id: str) -> None:
        """Nothing of a job runs any more."""
        self._tell(Ended(job_id))

    def left(self, job_id: str, site: str) -> None:
        """A job has no part at a site any more."""
        self._tell(Left(job_id, site))

    def site_up(self, name: str, settings: Mapping[str, Any]) -> None:  # Any: JSON
        """A site is connected."""
        self._tell(SiteUp(name, tuple(settings.get("tags") or ()), limits_of(settings)))

    def site_down(self, name: str) -> None:
        """A site is gone."""
        self._tell(SiteDown(name))

    def free_gpus(self, site: str) -> tuple[int, ...]:
        """The GPUs of a site that no job has."""
        return self._schedule.free_gpus(site)

    def jobs_at(self, site: str) -> tuple[str, ...]:
        """The jobs that have a part at a site."""
        return self._schedule.jobs_at(site)

    def _tell(self, event: Event) -> None:
        if self._is_closed:
            return
        for effect in self._schedule.handle(event):
            match effect:
                case Start(job, sites, gpus):
                    self._office.start_job(job, sites, gpus=gpus)
                case Join(job, site, own):
                    self._office.join(job, site, gpus=own)
                case Waits(job, reason):
                    self._office.waits(job, reason)
                case Expired(job, reason):
                    self._office.expired(job, reason)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._schedule.next_deadline
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, due - process_clock()), lambda: self._tell(Tick(process_clock())))


def limits_of(settings: Mapping[str, Any]) -> SiteLimits:  # Any: JSON
    """What a site gives to jobs, from what it says of itself; what makes no sense counts as not said."""
    gpus = settings.get("gpus") or 0
    indices = tuple(range(gpus)) if isinstance(gpus, int) else tuple(one for one in gpus if isinstance(one, int))
    return SiteLimits(
        max_jobs=_number(settings.get("max_jobs"), int),
        gpus=indices,
        memory_mb=_number(settings.get("memory_mb"), float),
        cpus=_number(settings.get("cpus"), float),
    )


def _number(value: Any, kind: Any) -> Any:  # Any: JSON, and int or float
    return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
