"""In words: what a job that has not started waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hansa.jobs.wanted import Wanted

_MOST_NAMES = 3


@dataclass(frozen=True)
class Standing:
    """How a site stands that a job wants and that is not free for it.

    Attributes:
        name: The site.
        is_up: Whether it is connected.
        is_big_enough: Whether it has what the job takes of a site, if nothing else ran there.
        jobs: Who has a part there.
    """

    name: str
    is_up: bool
    is_big_enough: bool
    jobs: tuple[str, ...] = ()

    @property
    def is_busy(self) -> bool:
        """Whether others have the room."""
        return self.is_up and self.is_big_enough


def reason_for(wanted: Wanted, free: Collection[str], *, others: Sequence[Standing], behind: str | None = None) -> str:
    """What a job waits for, to be read after its name: `waits for 2 more sites (needs 4; 2 free)`.

    Args:
        wanted: What it wants.
        free: The sites that it wants and that have room.
        others: The other sites that it wants, as far as the server knows them.
        behind: The job that was overtaken too often and comes first now, where only that is in the way.
    """
    if behind is not None:
        return f"waits its turn behind {behind}, which has been overtaken often enough"
    absent = [name for name in wanted.mandatory if name not in free]
    if absent:
        known = {site.name: site for site in others}
        lacking = [f"{name} ({_why(known.get(name))})" for name in absent]
        return f"waits for {_some(lacking)}, which it cannot do without"
    num_suitable = len(free) + sum(site.is_busy for site in others)
    needed = max(1, num_suitable if wanted.needed is None else wanted.needed)
    missing = max(1, needed - len(free))
    counts = ", ".join([f"{len(free)} free", *_counts(wanted, free, others)])
    return f"waits for {_number(missing, 'more site')} (needs {_needs(wanted, needed)}; {counts})"


def _why(site: Standing | None) -> str:
    if site is None or not site.is_up:
        return "not connected"
    if not site.is_big_enough:
        return "has too little for it"
    return f"busy with {_some(site.jobs)}" if site.jobs else "no room"


def _needs(wanted: Wanted, needed: int) -> str:
    text = str(needed) if wanted.needed is not None else f"all that are connected, and at least {needed}"
    if wanted.sites is not None:
        text += f" of {_some(sorted(wanted.sites))}"
    if wanted.tags:
        text += f" of tag{'s' if len(wanted.tags) > 1 else ''} {' and '.join(map(repr, wanted.tags))}"
    each = [
        _number(wanted.resources.gpus, "GPU") if wanted.resources.gpus else "",
        f"{wanted.resources.memory_mb:g} MB" if wanted.resources.memory_mb else "",
        _number(wanted.resources.cpus, "core") if wanted.resources.cpus else "",
    ]
    with_each = ", ".join(part for part in each if part)
    return f"{text} with {with_each} each" if with_each else text


def _counts(wanted: Wanted, free: Collection[str], others: Sequence[Standing]) -> Iterator[str]:
    if busy := [site for site in others if site.is_busy]:
        jobs = list(dict.fromkeys(job for site in busy for job in site.jobs))
        yield f"{len(busy)} busy with {_some(jobs)}" if jobs else f"{len(busy)} without room"
    if small := [site.name for site in others if site.is_up and not site.is_big_enough]:
        yield f"{len(small)} with too little ({_some(small)})"
    away = [site.name for site in others if not site.is_up]
    if wanted.sites is not None:
        away += sorted(wanted.sites.difference(free, (site.name for site in others)))
    if away:
        yield f"{len(away)} not connected ({_some(away)})"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown


def _number(count: float, noun: str) -> str:
    return f"{count:g} {noun}{'' if count == 1 else 's'}"
