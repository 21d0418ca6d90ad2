"""Jobs that are over leave the disk: the server's, and that of their sites."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.errors import ConfigError
from hansa.jobs.journal_rows import PurgeRow
from hansa.jobs.store import JobRecord
from hansa.runtime.run_paths import RunPaths
from hansa.wire.frames import Frame

if TYPE_CHECKING:
    from hansa.runtime.job_office import JobOffice  # a site needs none

FORGET = "forget"
"""The frame that tells a site to delete what it has of a job: head `run_number`."""


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
        office.send(site, Frame(FORGET, record.id, {"run_number": record.number}))
    return record


def forget(paths: RunPaths, job_id: str) -> None:
    """Delete a site's run folder, if it is that of the job: a number may have been given by another server."""
    try:
        owner = (paths.folder / "job").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return
    if owner == job_id:
        shutil.rmtree(paths.folder, ignore_errors=True)
