"""A job that is over, made ready to be submitted once more."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hansa.errors import ConfigError
from hansa.jobs.job import Job
from hansa.jobs.store import JobRecord
from hansa.jobs.wanted import Wanted, read
from hansa.runtime.job_office import JobOffice
from hansa.runtime.kept_rounds import BEGUN, ROUNDS, KeptRounds


@dataclass(frozen=True)
class _Again:
    """What lies in the staging folder.

    Attributes:
        folder: The job's own folder.
        job: What lies there.
        wanted: What it wants of the federation.
        begun: The round it begins from.
        first_round: What it does first.
    """

    folder: Path
    job: Job
    wanted: Wanted
    begun: Path | None
    first_round: int | None


def _stage(old: Path, staging: Path, first_round: int | None) -> _Again:
    """Copy a job, and the round it is to begin from; blocking.

    Args:
        old: The folder of the old job on the shelf.
        staging: Where to, on the same file system.
        first_round: The round to begin with; None: what comes after the last one that is kept.

    Raises:
        ConfigError: Nothing is kept from which that round could begin, or the disk takes nothing.
        RunError: What was kept is damaged.
    """
    kept = KeptRounds(old / ROUNDS, old.name).choose(first_round)
    folder, begun = staging / "job", None if kept is None else staging / BEGUN
    try:
        if kept is not None and begun is not None:
            kept.check()
            kept.copy_to(begun)
        shutil.copytree(old / "job", folder)
    except (OSError, shutil.Error) as error:
        raise ConfigError(f"job {old.name} cannot be copied: {error}") from None
    job = Job.load(folder)
    return _Again(folder, job, read(job), begun, None if kept is None else kept.first_round)


async def submit_again(
    office: JobOffice, job_id: str, first_round: int | None, *, submitter: str
) -> tuple[JobRecord, int | None]:
    """Submit a job that is over once more, as a new one.

    Args:
        office: Has the jobs.
        job_id: The job.
        first_round: The round that the new one begins with, from what the old one knew then; None: the one after the
            last that was kept.
        submitter: Who asks.

    Returns:
        The new job, and the round it begins with; None: the first one, since nothing was kept.

    Raises:
        ConfigError: The job is not over, or nothing is kept from which that round could begin.
        RunError: What was kept is damaged.
    """
    if office.is_closing:
        raise ConfigError("the server is being stopped and takes no jobs")
    store = office.store
    old = store.get(job_id)
    if not old.state.is_over:
        raise ConfigError(f"job {old.id} is not over: it is {old.state.value}")
    if old.id in office.running:
        await office.running[old.id].gone.wait()
    with tempfile.TemporaryDirectory(dir=store.home, prefix=".new-again-") as staging:
        again = await asyncio.to_thread(_stage, store.folder(old.id), Path(staging), first_round)
        record = store.new_job(again.folder, again.job, submitter=submitter, begun=again.begun)
    return office.taken(record, again.wanted), again.first_round
