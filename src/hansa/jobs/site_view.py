"""A site as the server sees it, for people and their tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SiteView:
    """A site as the server sees it.

    Attributes:
        name: Its name, from its certificate.
        org: Whose it is, from its certificate.
        connected: Whether it has a connection now.
        since: Since when it has, or has none, in seconds since 1970; None if not known.
        tags: What it says of itself.
        jobs: The jobs that have a part there.
        max_jobs: How many jobs it takes at a time; None: any number.
        gpus: Its GPUs, as its settings number them.
        free_gpus: Those that no job has.
        memory_mb: Memory that jobs may have in all; None: it does not say.
        cpus: Cores that jobs may have in all; None: it does not say.
        software: What runs there, and in which version.
        note: What an operator should know: why it was refused, or lost.
    """

    name: str
    org: str = ""
    connected: bool = True
    since: float | None = None
    tags: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    max_jobs: int | None = None
    gpus: tuple[int, ...] = ()
    free_gpus: tuple[int, ...] = ()
    memory_mb: float | None = None
    cpus: float | None = None
    software: str = ""
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SiteView:  # Any: JSON
        """The site that plain data describe; what a newer server adds is left out."""
        known: dict[str, Any] = {key: content[key] for key in cls.__dataclass_fields__ if key in content}
        for key in ("tags", "jobs", "gpus", "free_gpus"):
            known[key] = tuple(known.get(key, ()))
        return cls(**known)
