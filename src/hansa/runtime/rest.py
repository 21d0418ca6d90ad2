"""Jobs that rest: none of their processes runs, and what they have kept stays."""

from __future__ import annotations

from hansa.errors import ConfigError
from hansa.jobs.life import JobState
from hansa.runtime.job_office import JobOffice, wanted_by


def pause(office: JobOffice, job_id: str, reason: str) -> None:
    """Have a job rest.

    Raises:
        ConfigError: There is no such job, or it does not run.
    """
    record, running = office.store.get(job_id), office.running.get(job_id)
    is_running = record.state in (JobState.RUNNING, JobState.WAITING) and record.abort is None
    if running is None or not is_running or office.journal is None:
        raise ConfigError(f"job {record.id} cannot be paused: it is {record.state.value}")
    office.set(job_id, JobState.PAUSED, reason=reason)
    running.at_sites.park()
    running.park()


def unpause(office: JobOffice, job_id: str) -> None:
    """Let a job that rests go on, when its turn comes.

    Raises:
        ConfigError: There is no such job, or it does not rest.
    """
    record = office.store.get(job_id)
    if record.state is not JobState.PAUSED or job_id in office.running:
        raise ConfigError(f"job {record.id} cannot go on: it is {record.state.value}")
    wanted = wanted_by(office.store, record)
    office.set(job_id, JobState.SUBMITTED, reason=None)
    office.when_reunited(record, wanted)
