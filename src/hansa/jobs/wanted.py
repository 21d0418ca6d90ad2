"""What a job wants of the federation that is to run it: which sites, how many, what of each, how soon."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.jobs.config import check_meta
from hansa.jobs.job import ALL, SERVER, Job
from hansa.jobs.place import Place


@dataclass(frozen=True)
class Resources:
    """What a job takes of each of its sites.

    Attributes:
        gpus: Whole GPUs, for this job alone.
        memory_mb: Memory.
        cpus: Cores.
    """

    gpus: int = 0
    memory_mb: float = 0.0
    cpus: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """What a job wants.

    Attributes:
        sites: Only these may take part; None: any.
        tags: A site must have all of them.
        min_sites: How many are enough to start. None: all that are named, or, where none is named, all that are
            connected and suitable, and at least one.
        mandatory: Sites without which it does not start.
        resources: What it takes of each site.
        priority: The higher, the earlier.
        start_deadline_s: If it has not started so long after it was submitted, it fails; None: it waits.
    """

    sites: frozenset[str] | None = None
    tags: tuple[str, ...] = ()
    min_sites: int | None = None
    mandatory: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    priority: int = 0
    start_deadline_s: float | None = None

    def allows(self, name: str, tags: Collection[str]) -> bool:
        """Whether a site is one of those it wants."""
        return (self.sites is None or name in self.sites) and all(tag in tags for tag in self.tags)

    @property
    def needed(self) -> int | None:
        """How many sites it needs at least, counting those it names; None: as many as are connected."""
        if self.min_sites is not None:
            return max(self.min_sites, len(self.mandatory))
        return None if self.sites is None else len(self.sites)


def read(job: Job) -> Wanted:
    """What a job's `meta.json` says it wants.

    Raises:
        ConfigError: A key is wrong, or the keys contradict each other.
    """
    file = f"{job.name}/meta.json"
    given = {"name": job.name, **({} if job.min_sites is None else {"min_clients": job.min_sites}), **job.meta}
    check_meta(given, file)
    wanted = _wanted(job)
    _check(wanted, Place(file))
    return wanted


def _wanted(job: Job) -> Wanted:
    meta: Mapping[str, Any] = job.meta
    deadline = meta.get("start_deadline_s")
    return Wanted(
        sites=_sites(job),
        tags=tuple(dict.fromkeys(meta.get("tags", ()))),
        min_sites=job.min_sites,
        mandatory=tuple(dict.fromkeys(meta.get("mandatory_clients", ()))),
        resources=Resources(**meta.get("resources", {})),
        priority=meta.get("priority", 0),
        start_deadline_s=None if deadline is None else float(deadline),
    )


def _sites(job: Job) -> frozenset[str] | None:
    """The sites that may take part: those that get an app, and of these only the ones under `sites`."""
    targets = {target for names in job.deploy_map.values() for target in names}
    deployed = None if ALL in targets else frozenset(targets - {SERVER})
    chosen = job.meta.get("sites")
    if chosen is None:
        return deployed
    return frozenset(chosen) if deployed is None else deployed & frozenset(chosen)


def _check(wanted: Wanted, place: Place) -> None:
    if wanted.sites is None:
        return
    if not wanted.sites:
        raise place.at("sites").error("no site that gets an app may take part")
    if wanted.min_sites is not None and wanted.min_sites > len(wanted.sites):
        raise place.at("min_clients").error(
            f"{wanted.min_sites} are needed, but only {len(wanted.sites)} may take part: "
            f"{', '.join(sorted(wanted.sites))}"
        )
    for site in wanted.mandatory:
        if site not in wanted.sites:
            raise place.at("mandatory_clients").error(f"{site!r} is none of the sites that may take part")
