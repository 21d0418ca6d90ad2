"""What goes wrong in a federation, as an operator sees it: one incident for each fault, with a stable code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self


class IncidentCode(Enum):
    """The kinds of incidents. What they are called stays, so that programs may count on it."""

    SERVER_DIED = "server.died"
    """The server before this one ended without a word: killed, out of memory, a power cut."""
    JOB_PROCESS_DIED = "job.process_died"
    """A job's process on the server has died."""
    SITE_PROCESS_DIED = "site.process_died"
    """A job's process at a site has died."""
    SITE_DISCONNECTED = "site.disconnected"
    """The connection to a site is gone; the site has a while to come back."""
    SITE_GONE = "site.gone"
    """It has not come back in time, and is given up until it does."""
    SITE_DAMAGED = "site.damaged"
    """What a site had kept of a job is damaged, and the job cannot go on there."""
    IDENTITY_TWICE = "site.identity_twice"
    """A second program has connected with the identity of one that is there."""
    RESULT_ALTERED = "result.altered"
    """A site has answered a task twice, with different bytes; the first answer stands."""
    JOURNAL_UNWRITABLE = "journal.unwritable"
    """The server's journal cannot be written; jobs wait until it can."""
    SERVER_DISK = "server.disk"
    """The server's disk takes nothing: it is full, or fails; what was to be written waits."""
    SITE_DISK = "site.disk"
    """A site's disk takes nothing; its result waits."""
    OVER_QUOTA = "job.over_quota"
    """A job takes more of the disk than the machine gives it: on the server it fails, a site takes no part any more."""
    FILE_DAMAGED = "file.damaged"
    """A file that was kept on the server is damaged or missing; the job that needs it fails."""


@dataclass(frozen=True)
class Incident:
    """Something that went wrong, and that the federation has dealt with.

    Attributes:
        number: Its number on this server, from 1.
        at: When, in seconds since 1970.
        code: What kind it is; one of `IncidentCode`'s values.
        text: What happened, in one line.
        job: The job that it is about, if it is about one.
        site: The site that it is about, if it is about one.
    """

    number: int
    at: float
    code: str
    text: str
    job: str | None = None
    site: str | None = None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:  # Any: JSON
        """The incident that plain data describe; what a newer version adds is left out.

        Raises:
            KeyError: They describe none.
        """
        number, at = int(content["number"]), float(content["at"])
        return cls(
            number, at, str(content["code"]), str(content["text"]), job=content.get("job"), site=content.get("site")
        )
