"""What a site gives to jobs, and what of it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hansa.jobs.wanted import Resources, Wanted


@dataclass(frozen=True)
class SiteLimits:
    """What a site gives to jobs.

    Attributes:
        max_jobs: How many at a time; None: any number.
        gpus: The GPUs it has for them, by index.
        memory_mb: Memory in all; None: it does not say, and any wish is taken for granted.
        cpus: Cores in all; None: as with memory.
    """

    max_jobs: int | None = None
    gpus: tuple[int, ...] = ()
    memory_mb: float | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class Holding:
    """What a job has of a site."""

    resources: Resources
    gpus: tuple[int, ...]


@dataclass
class SiteRoom:
    """A site's limits, and the jobs that have a part there.

    Attributes:
        name: The site.
        tags: What it says of itself.
        limits: What it gives.
        is_up: Whether it is connected.
        held: What each job has of it; kept while the site is away, since its jobs may find it again.
    """

    name: str
    tags: tuple[str, ...] = ()
    limits: SiteLimits = field(default_factory=SiteLimits)
    is_up: bool = True
    held: dict[str, Holding] = field(default_factory=dict)

    @property
    def free_gpus(self) -> tuple[int, ...]:
        """The GPUs that no job has."""
        taken = {gpu for holding in self.held.values() for gpu in holding.gpus}
        return tuple(gpu for gpu in self.limits.gpus if gpu not in taken)

    def could_take(self, wanted: Wanted) -> bool:
        """Whether a job wants the site, and would find room there if nothing else ran."""
        limits, needs = self.limits, wanted.resources
        return (
            wanted.allows(self.name, self.tags)
            and (limits.max_jobs is None or limits.max_jobs > 0)
            and needs.gpus <= len(limits.gpus)
            and (limits.memory_mb is None or needs.memory_mb <= limits.memory_mb)
            and (limits.cpus is None or needs.cpus <= limits.cpus)
        )

    def has_room(self, wanted: Wanted) -> bool:
        """Whether there is room for a job that it could take."""
        limits, needs, held = self.limits, wanted.resources, [each.resources for each in self.held.values()]
        return (
            (limits.max_jobs is None or len(held) < limits.max_jobs)
            and (needs.gpus == 0 or needs.gpus <= len(self.free_gpus))
            and _fits(needs.memory_mb, [each.memory_mb for each in held], limits.memory_mb)
            and _fits(needs.cpus, [each.cpus for each in held], limits.cpus)
        )

    def take(self, job: str, wanted: Wanted) -> tuple[int, ...]:
        """Keep room for a job; the GPUs that it gets."""
        gpus = self.free_gpus[: wanted.resources.gpus]
        self.held[job] = Holding(wanted.resources, gpus)
        return gpus


def _fits(needed: float, held: Sequence[float], limit: float | None) -> bool:
    # A job that asks for nothing is not kept out where others have been given more than there is now.
    return limit is None or needed == 0 or sum(held) + needed <= limit
