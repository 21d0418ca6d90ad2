"""Where admins' commands arrive: jobs in, results and logs out. Fits `hansa.admin.commands.Federation`."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from hansa.errors import ConfigError
from hansa.jobs.incident import Incident
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord
from hansa.runtime.again import submit_again
from hansa.runtime.job_office import JobOffice
from hansa.runtime.job_results import pack_results
from hansa.runtime.log_tail import last_lines
from hansa.runtime.removal import remove_job
from hansa.runtime.rest import pause, unpause
from hansa.runtime.run_paths import RunPaths, file_name
from hansa.wire.frames import Peer

SERVER = "server"
_logger = logging.getLogger("hansa.server")


class Sites(Protocol):
    """What the desk needs of the server's program."""

    def sites(self) -> list[SiteView]:
        """The sites that were seen, by name."""
        ...

    async def site_log(self, site: str, number: int, *, lines: int) -> str:
        """The end of a site's log of the job with that number."""
        ...


class AdminDesk:
    """Does what admins ask for.

    Args:
        root: The server's workspace root.
        office: Has the jobs.
        sites: Knows the sites.
    """

    def __init__(self, root: Path, office: JobOffice, *, sites: Sites) -> None:
        self._root = root
        self._office = office
        self._sites = sites
        self._uploads = root / "uploads"

    def open(self) -> None:
        """Make room for uploads; what an earlier server had of them goes away."""
        shutil.rmtree(self._uploads, ignore_errors=True)
        self._uploads.mkdir(mode=0o700)

    def close(self) -> None:
        """Remove what was uploaded and never used."""
        shutil.rmtree(self._uploads, ignore_errors=True)

    def place_of(self, peer: Peer, name: str) -> Path:
        """Where something lies that an admin uploads; nobody else's name leads there."""
        mine = "".join(c if c.isalnum() and c.isascii() else f"_{ord(c):x}_" for c in peer.name)
        return self._uploads / f"{mine}-{file_name(name)}"

    async def submit(self, peer: Peer, blob: str) -> str:
        """Take a job whose archive was uploaded; returns its id.

        Raises:
            ConfigError: The archive or the job is not as it should be; nothing is kept.
        """
        archive = self.place_of(peer, blob)
        if not archive.exists():
            raise ConfigError("the job's archive has not been uploaded")
        try:
            record = await self._office.take(archive, peer.name)
        finally:
            archive.unlink(missing_ok=True)
        return record.id

    async def resubmit(self, peer: Peer, job_id: str, *, first_round: int | None) -> tuple[str, int | None]:
        """Take a job that is over once more; see `submit_again`.

        Raises:
            ConfigError: It is not over, or nothing is kept from which that round could begin.
            RunError: What was kept is damaged.
        """
        record, begins = await submit_again(self._office, job_id, first_round, submitter=peer.name)
        return record.id, begins

    async def remove(self, job_id: str, *, by: str) -> None:
        """Delete a job that is over.

        Raises:
            ConfigError: It is not over.
        """
        record = await remove_job(self._office, self._root, job_id)
        _logger.info("job %s was removed by %s", record.id, by)

    def jobs(self) -> list[JobRecord]:
        """All jobs, oldest first."""
        return self._office.store.list()

    def job(self, job_id: str) -> JobRecord:
        """A job by its whole id."""
        return self._office.store.get(job_id)

    def view(self, record: JobRecord) -> dict[str, Any]:  # Any: JSON
        """A job as people see it."""
        return self._office.view(record.id).as_dict()

    def abort(self, job_id: str, reason: str, *, by: str) -> None:
        """Stop a job.

        Raises:
            ConfigError: It is over.
        """
        self._office.abort(job_id, f"aborted by {by}" + (f": {reason}" if reason else ""))

    def pause(self, job_id: str, *, by: str) -> None:
        """Have a job rest.

        Raises:
            ConfigError: It does not run.
        """
        pause(self._office, job_id, f"paused by {by}")

    def resume(self, job_id: str) -> None:
        """Let a job that rests go on.

        Raises:
            ConfigError: It does not rest.
        """
        unpause(self._office, job_id)

    def sites(self) -> list[SiteView]:
        """The sites that are known, by name."""
        return self._sites.sites()

    async def incidents(self, *, since: int, job: str | None) -> list[Incident]:
        """What went wrong, after a number.

        Raises:
            ConfigError: The server keeps no journal.
        """
        return await self._office.incidents.all(since=since, job=job)

    async def logs(self, job_id: str, site: str, *, lines: int) -> str:
        """The end of a participant's log of a job.

        Raises:
            ConfigError: There is no such log, or the site does not answer.
        """
        number = self._office.store.get(job_id).number
        if site == SERVER:
            return await asyncio.to_thread(last_lines, RunPaths(self._root, number, SERVER).log, lines)
        return await self._sites.site_log(site, number, lines=lines)

    async def results(self, job_id: str) -> Path:
        """The record of a job's run as an archive.

        Raises:
            ConfigError: There is none yet.
        """
        return await asyncio.to_thread(pack_results, self._office.store, job_id)

    def follow(self, job_id: str, offsets: Mapping[str, int]) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        """All that happens to a job from now on, and its record beyond the offsets; ends with the job."""
        return self._office.follow(job_id, offsets)
