"""Incidents as they happen: into the server's log, and into the journal."""

from __future__ import annotations

import logging

from hansa.errors import ConfigError
from hansa.failpoints import wall_time
from hansa.jobs.incident import Incident, IncidentCode
from hansa.jobs.journal_rows import EventRow
from hansa.runtime.journal_writer import JournalWriter

_logger = logging.getLogger("hansa.server")


class Incidents:
    """Notes what goes wrong, and knows what did.

    Args:
        writer: Writes the journal; None: incidents stand in the log alone.
    """

    def __init__(self, writer: JournalWriter | None) -> None:
        self._writer = writer

    def note(self, code: IncidentCode, text: str, *, job: str | None = None, site: str | None = None) -> None:
        """Note an incident.

        Args:
            code: What kind it is.
            text: What happened, in one line.
            job: The job that it is about.
            site: The site that it is about.
        """
        about = f"job {job}: " if job else ""
        _logger.warning("INCIDENT %s: %s%s", code.value, about, text)
        if self._writer is not None:
            self._writer.write(EventRow(wall_time(), code.value, text, job, site), job=job or "")

    async def all(self, *, since: int = 0, job: str | None = None) -> list[Incident]:
        """Those after a number, oldest first: of all, or of a job.

        Raises:
            ConfigError: There is no journal.
        """
        if self._writer is None:
            raise ConfigError("this server keeps no journal (HANSA_JOURNAL=none); its log names incidents")
        rows = await self._writer.call(lambda journal: journal.events(job=job, since=since))
        return [Incident(row.seq, row.at, row.code, row.text, job=row.job, site=row.site) for row in rows]
