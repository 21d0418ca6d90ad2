"""Jobs that are over leave the disk: the server's, and that of their sites."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.errors import ConfigError
from hansa.failpoints import wall_time
from hansa.jobs.journal_rows import PurgeRow
from hansa.jobs.store import JobRecord
from hansa.runtime.housekeeping import run_folders
from hansa.runtime.run_paths import RunPaths, owner_of, stamp_of
from hansa.wire.frames import Frame

if TYPE_CHECKING:
    from hansa.runtime.job_office import JobOffice  # a site needs none
    from hansa.runtime.running_job import ServerRules

FORGET = "forget"
"""The frame that tells a site to delete what it has of a job: head `run_number`, `stamp`."""
_MOST_TOLD = 1000

_logger = logging.getLogger("hansa.server")


async def remove_job(office: JobOffice, root: Path, job_id: str) -> JobRecord:
    """Delete a job that is over: from the shelf, its run folder, and at those of its sites that are connected.

    Raises:
        ConfigError: There is no such job, or it is not over.
    """
    record = office.store.get(job_id)
    if not record.state.is_over:
        raise ConfigError(f"job {record.id} is not over: it is {record.state.value}")
    if record.id in office.running:
        await office.running[record.id].gone.wait()
    office.store.remove(record.id)
    if office.journal is not None:
        office.journal.write(PurgeRow(record.id), job=record.id)
    await asyncio.to_thread(shutil.rmtree, RunPaths(root, record.number, "server").folder, ignore_errors=True)
    for site in record.sites:
        office.send(site, Frame(FORGET, record.id, {"run_number": record.number, "stamp": record.stamp}))
    return record


async def remove_old(office: JobOffice, rules: ServerRules) -> None:
    """Remove the jobs that ended longer ago than the server keeps them."""
    for record in office.store.list():
        if record.ended_at is None or not rules.disk.is_too_old(record.ended_at, wall_time()):
            continue
        try:
            await remove_job(office, rules.root, record.id)
        except ConfigError as error:
            _logger.error("a job cannot be deleted, as keep_jobs_days says: %s", error)
        else:
            _logger.info("job %s was deleted, as keep_jobs_days says", record.id)


def forget(paths: RunPaths, job_id: str, stamp: str) -> None:
    """Delete a site's run folder, if it is that of the job: a number may have been given by another server."""
    if owner_of(paths) == job_id and stamp_of(paths) in (None, stamp):
        shutil.rmtree(paths.folder, ignore_errors=True)


def held_runs(root: Path, participant: str) -> list[list[str]]:
    """What a site has of jobs, for the server to say what was removed meanwhile: the newest, each with its stamp."""
    found = [
        [owner, stamp]
        for paths in run_folders(root, participant)
        if (owner := owner_of(paths)) and (stamp := stamp_of(paths))
    ]
    return found[-_MOST_TOLD:]


def forgotten(office: JobOffice, runs: object) -> list[Frame]:
    """What to tell a site that has said what it has: to delete what was removed while it was away."""
    listed = runs if isinstance(runs, list) else []
    told = [(str(one[0]), str(one[1])) for one in listed if isinstance(one, list) and len(one) == 2]
    removed = office.store.removed() if told else {}
    return [
        Frame(FORGET, job, {"run_number": removed[stamp], "stamp": stamp}) for job, stamp in told if stamp in removed
    ]
