"""Which job starts when, on which sites and with which GPUs: events in, effects out, no clock, no I/O.

Jobs start by priority, then in the order in which they were submitted; one that cannot start yet lets later ones pass
where these find room (back-fill), but not for ever:

- A job is *overtaken* when one that was submitted later starts on a site that it could use itself, while the sites
  that are connected would be enough for it.
- Once overtaken `MOST_OVERTAKEN` times it is *due*, and as long as enough sites are connected, no job that was
  submitted later, whatever its priority, starts on any site that it could use.

**Bound on waiting.** Let D be the longest time that a job runs, A the number of jobs that were submitted before a job
and were not over when it came, and K = `MOST_OVERTAKEN`. The time that the job waits while enough sites are connected
for it (and for the A jobs before it) is at most (3 A + K) D. Proof: at any moment of that time either (1) no due job
keeps sites from it; then one of its sites is taken, by one of the A earlier jobs or by one of the at most K that
overtook it, which together run for at most (A + K) D. Or (2) an earlier job is due; consider the earliest such one. As
nothing stands before it, one of *its* sites is taken: by a job that ran when it became due, which is over after at most
D, or by a job that was submitted before it, which is one of the A; over all due jobs at most A D + A D. Each time that
sites leave, so that too few are there for one of these jobs, and come back, adds at most D to the time they were away,
since what started meanwhile is over by then. Whatever a job's sites are, it is never shut out by jobs on other sites.

`tests/unit/jobs/test_schedule.py` holds a thousand federations to it, with jobs, durations and outages drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hansa.jobs.site_room import Holding, SiteLimits, SiteRoom
from hansa.jobs.waiting_reason import Standing, reason_for
from hansa.jobs.wanted import Wanted

__all__ = [
    "Adopted",
    "Cancelled",
    "Effect",
    "Ended",
    "Event",
    "Expired",
    "Join",
    "Left",
    "Schedule",
    "SiteDown",
    "SiteLimits",
    "SiteUp",
    "Start",
    "Submitted",
    "Tick",
    "Waits",
]

MOST_OVERTAKEN = 4


# -- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submitted:
    """A job has come; `number` says in which order, `at` when (on the clock of `Tick`)."""

    job: str
    number: int
    wanted: Wanted
    at: float


@dataclass(frozen=True)
class Adopted:
    """A job goes on that was started before this schedule began; `gpus` has what it holds at each of its sites."""

    job: str
    wanted: Wanted
    gpus: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SiteUp:
    """A site is connected, or says something else of itself than before."""

    name: str
    tags: tuple[str, ...] = ()
    limits: SiteLimits = field(default_factory=SiteLimits)


@dataclass(frozen=True)
class SiteDown:
    """A site is gone. What jobs have there stays theirs: they may still run, or find it again."""

    name: str


@dataclass(frozen=True)
class Left:
    """A job that runs has no part at a site any more."""

    job: str
    site: str


@dataclass(frozen=True)
class Ended:
    """A job that was started is over: nothing of it runs anywhere."""

    job: str


@dataclass(frozen=True)
class Cancelled:
    """A job that waits is not wanted any more."""

    job: str


@dataclass(frozen=True)
class Tick:
    """Time has passed."""

    now: float


Event = Submitted | Adopted | SiteUp | SiteDown | Left | Ended | Cancelled | Tick


# -- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """Start a job on these sites; `gpus` has an entry for each site where it asked for GPUs."""

    job: str
    sites: tuple[str, ...]
    gpus: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Join:
    """A site that came while the job runs takes part, too."""

    job: str
    site: str
    gpus: tuple[int, ...]


@dataclass(frozen=True)
class Waits:
    """A job waits, and for what; said again only when that changes."""

    job: str
    reason: str


@dataclass(frozen=True)
class Expired:
    """A job has not started by its deadline."""

    job: str
    reason: str


Effect = Start | Join | Waits | Expired


# -- the schedule -----------------------------------------------------------------------------------------------------


@dataclass
class _Waiting:
    """A job that waits.

    Of the sites that are known it wants those in `known`; of these `suitable` are connected and would do if nothing
    else ran there, and `free` have room.
    """

    job: str
    number: int
    wanted: Wanted
    at: float
    overtaken: int = 0
    reason: str = ""
    known: set[str] = field(default_factory=set)
    suitable: set[str] = field(default_factory=set)
    free: set[str] = field(default_factory=set)

    @property
    def deadline(self) -> float | None:
        limit = self.wanted.start_deadline_s
        return None if limit is None else self.at + limit

    @property
    def is_due(self) -> bool:
        """Whether it was overtaken often enough."""
        return self.overtaken >= MOST_OVERTAKEN

    @property
    def is_possible(self) -> bool:
        """Whether it could start if nothing else ran."""
        return self.is_enough(self.suitable)

    def is_enough(self, sites: set[str]) -> bool:
        """Whether it could start with these sites; where it says no number, with all that are suitable."""
        needed = len(self.suitable) if self.wanted.needed is None else self.wanted.needed
        return len(sites) >= max(1, needed) and sites.issuperset(self.wanted.mandatory)

    def look_at(self, site: SiteRoom) -> None:
        """See how a site stands now."""
        is_wanted = self.wanted.allows(site.name, site.tags)
        is_suitable = is_wanted and site.is_up and site.could_take(self.wanted)
        for sites, holds in (
            (self.known, is_wanted),
            (self.suitable, is_suitable),
            (self.free, is_suitable and site.has_room(self.wanted)),
        ):
            (sites.add if holds else sites.discard)(site.name)

    def forget(self, name: str) -> None:
        """A site is not known any more."""
        self.known.discard(name)


class Schedule:
    """Decides; whoever feeds it carries out what comes back, in order. One thread uses it."""

    def __init__(self) -> None:
        self._sites: dict[str, SiteRoom] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, Wanted] = {}

    def handle(self, event: Event) -> list[Effect]:
        """What follows from an event.

        Args:
            event: What has happened; one about a job or a site that is not known changes nothing.

        Returns:
            What is to be done: jobs that expire, start, get another site, and those that wait for something else than
            before.
        """
        effects: list[Effect] = list(self._take(event))
        effects += self._starts()
        if isinstance(event, SiteUp):
            effects += self._joins(self._sites[event.name])
        return [*effects, *self._reasons()]

    @property
    def next_deadline(self) -> float | None:
        """When a `Tick` is due at the latest; None: no job that waits has a deadline."""
        return min((w.deadline for w in self._waiting.values() if w.deadline is not None), default=None)

    def free_gpus(self, site: str) -> tuple[int, ...]:
        """The GPUs of a site that no job has; none of a site that is not known."""
        return self._sites[site].free_gpus if site in self._sites else ()

    def jobs_at(self, site: str) -> tuple[str, ...]:
        """The jobs that have a part at a site."""
        return tuple(self._sites[site].held) if site in self._sites else ()

    # -- changes -----------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> Iterator[Effect]:
        match event:
            case Submitted(job, number, wanted, at):
                waiting = self._waiting[job] = _Waiting(job, number, wanted, at)
                for site in self._sites.values():
                    waiting.look_at(site)
            case Adopted(job, wanted, gpus):
                self._running[job] = wanted
                for name, own in gpus.items():
                    site = self._sites.setdefault(name, SiteRoom(name, is_up=False))
                    site.held[job] = Holding(wanted.resources, own)
                    self._changed(site)
            case SiteUp(name, tags, limits):
                held = self._sites[name].held if name in self._sites else {}
                self._changed(SiteRoom(name, tags, limits, held=held))
            case SiteDown(name):
                if name in self._sites:
                    self._sites[name].is_up = False
                    self._changed(self._sites[name])
            case Left(job, name):
                if name in self._sites and self._sites[name].held.pop(job, None) is not None:
                    self._changed(self._sites[name])
            case Ended(job):
                self._running.pop(job, None)
                for site in [site for site in self._sites.values() if site.held.pop(job, None) is not None]:
                    self._changed(site)
            case Cancelled(job):
                self._waiting.pop(job, None)
            case Tick(now):
                yield from self._expire(now)

    def _changed(self, site: SiteRoom) -> None:
        self._sites[site.name] = site
        for waiting in self._waiting.values():
            waiting.look_at(site)
        if not site.is_up and not site.held:
            del self._sites[site.name]
            for waiting in self._waiting.values():
                waiting.forget(site.name)

    def _expire(self, now: float) -> Iterator[Expired]:
        for waiting in list(self._waiting.values()):
            if waiting.deadline is not None and waiting.deadline <= now:
                del self._waiting[waiting.job]
                why = f"; it {waiting.reason}" if waiting.reason else ""
                yield Expired(waiting.job, f"not started within {waiting.wanted.start_deadline_s:g} s{why}")

    def _starts(self) -> Iterator[Start]:
        is_any = True
        while is_any:
            is_any = False
            for waiting in self._order():
                if sites := self._choice(waiting):
                    yield self._start(waiting, sites)
                    is_any = True
                    break  # who was overtaken by this start may be due now

    def _start(self, waiting: _Waiting, sites: set[str]) -> Start:
        del self._waiting[waiting.job]
        self._running[waiting.job] = waiting.wanted
        for other in self._waiting.values():
            if other.number < waiting.number and other.is_possible and other.suitable & sites:
                other.overtaken += 1
        gpus = {}
        for name in sorted(sites):
            gpus[name] = self._sites[name].take(waiting.job, waiting.wanted)
            self._changed(self._sites[name])
        return Start(waiting.job, tuple(sorted(sites)), gpus if waiting.wanted.resources.gpus else {})

    def _joins(self, site: SiteRoom) -> Iterator[Join]:
        if any(site.name in waiting.suitable for waiting in self._waiting.values()):
            return  # room that somebody waits for
        for job, wanted in self._running.items():
            if job not in site.held and site.could_take(wanted) and site.has_room(wanted):
                yield Join(job, site.name, site.take(job, wanted))

    def _reasons(self) -> Iterator[Waits]:
        for waiting in self._order():
            reason = reason_for(
                waiting.wanted, waiting.free, others=self._others(waiting), behind=self._behind(waiting)
            )
            if reason != waiting.reason:
                waiting.reason = reason
                yield Waits(waiting.job, reason)

    # -- who comes first ---------------------------------------------------------------------------------------

    def _order(self) -> list[_Waiting]:
        """The due by their number, then the others by priority and number."""
        return sorted(
            self._waiting.values(), key=lambda w: (0, 0, w.number) if w.is_due else (1, -w.wanted.priority, w.number)
        )

    def _before(self, waiting: _Waiting) -> list[_Waiting]:
        """Those that keep sites for themselves, and not for this one."""
        return [w for w in self._waiting.values() if w.number < waiting.number and w.is_due and w.is_possible]

    def _choice(self, waiting: _Waiting) -> set[str]:
        """The sites on which a job can start now; none if it cannot."""
        if not waiting.is_enough(waiting.free):
            return set()
        sites = waiting.free.difference(*(due.suitable for due in self._before(waiting)))
        return sites if waiting.is_enough(sites) else set()

    # -- what is said ------------------------------------------------------------------------------------------

    def _behind(self, waiting: _Waiting) -> str | None:
        """The job that keeps sites from one that would find room otherwise."""
        if not waiting.is_enough(waiting.free):
            return None
        return min(self._before(waiting), key=lambda due: due.number).job

    def _others(self, waiting: _Waiting) -> list[Standing]:
        return [
            Standing(
                name,
                is_up=self._sites[name].is_up,
                is_big_enough=self._sites[name].could_take(waiting.wanted),
                jobs=tuple(self._sites[name].held),
            )
            for name in sorted(waiting.known - waiting.free)
        ]
