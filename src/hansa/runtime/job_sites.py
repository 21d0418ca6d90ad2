"""The sites of a running job, as the server process sees them: who has a part, and what goes to and fro."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError, DecodeError, EncodeError
from hansa.failpoints import reach
from hansa.jobs.incident import IncidentCode
from hansa.runtime.deployment import Deployment
from hansa.runtime.home_process import MOST_DEATHS
from hansa.runtime.job_journal import JobJournal, Note
from hansa.runtime.relay import RELAY, Head, from_network, to_network
from hansa.runtime.run_paths import RunPaths, file_name
from hansa.runtime.site_blobs import SiteBlobs
from hansa.runtime.site_words import problem_of
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.refusals import printable

END_GRACE_S = 5.0
"""How long processes of a job may take to leave once it is over."""

_MOST_GIVEN = 256
_MOST_INCIDENTS = 50
"""Of a site in one job, by its own word: the list is for others, too."""
_INCIDENTS = {
    "disk": (IncidentCode.SITE_DISK, "the disk of {site} takes nothing: {cause}; its result waits"),
    "damaged": (IncidentCode.SITE_DAMAGED, "{site} takes no part in the job any more: {cause}"),
}
"""What a site says that concerns the operator, and not the job's process."""
_MOST_EARLY = 64
"""Results of one site for tasks that this server has not given it, which are kept all the same: one before may have."""

_logger = logging.getLogger("hansa.server")


@dataclass
class _Part:
    """A site's part of the job."""

    gpus: Sequence[int] | None
    blobs: SiteBlobs
    deaths: int = 0  # of its process
    is_there: bool = False  # its process runs, as far as we know
    is_told_to_end: bool = False  # its process is not missed any more
    was_refused: bool = False  # some frame of it
    given: dict[str, None] = field(default_factory=dict)  # the ids of its latest tasks
    num_incidents: int = 0  # that it has reported itself
    num_early: int = 0  # results that it may have been asked for by a server before this one

    def gives(self, task_id: str) -> None:
        """It is given a task."""
        self.given[task_id] = None
        if len(self.given) > _MOST_GIVEN:
            del self.given[next(iter(self.given))]

    def owes(self, task_id: str, site: str) -> bool:
        """Whether a result of its for that task is worth keeping."""
        if task_id in self.given:
            return True
        is_own = task_id.rpartition("/")[0].rpartition("/")[2] == site
        self.num_early += is_own
        return is_own and self.num_early <= _MOST_EARLY


@dataclass(frozen=True)
class JobWays:
    """What leads out of a job's sites.

    Attributes:
        to_site: Brings a frame to a site; False if it has no session.
        to_process: Brings a frame to the job's process on the server.
        is_ending: Whether the job is over, or told to stop.
        note: Notes an incident.
    """

    to_site: Callable[[str, Frame], bool]
    to_process: Callable[[Head, Sequence[bytes]], None]
    is_ending: Callable[[], bool]
    note: Note = lambda code, text, site: None


class JobSites:
    """Has a job started at its sites, and passes frames on.

    All of it on the event loop's thread but `target_of` and `source_of`, which threads of the blobs call.

    Args:
        deployment: What is run, and where it lies.
        paths: Where the job's files lie on the server.
        ways: What leads out.
        journal: What is kept of the job; None: nothing.
    """

    def __init__(self, deployment: Deployment, paths: RunPaths, *, ways: JobWays, journal: JobJournal | None) -> None:
        self._deployment = deployment
        self._job = deployment.job_id
        self._paths = paths
        self._ways = ways
        self._journal = journal
        if journal is not None:
            journal.acknowledge = self.acknowledge
            journal.note = ways.note
        self.takes_blobs = True
        """Whether anybody wants what sites bring."""
        self._parts: dict[str, _Part] = {}
        self._is_parked = False

    @property
    def names(self) -> list[str]:
        """The sites it was given to."""
        return sorted(self._parts)

    def choose(self, sites: Iterable[str], gpus: Mapping[str, Sequence[int]]) -> None:
        """Give the job to these sites."""
        self._parts = {name: self._new_part(name, gpus.get(name)) for name in sites}

    def remember(self, deaths: Mapping[str, int]) -> None:
        """Know of deaths under a server before this one."""
        for site, number in deaths.items():
            if site in self._parts:
                self._parts[site].deaths = max(number, self._parts[site].deaths)

    def _new_part(self, site: str, gpus: Sequence[int] | None) -> _Part:
        return _Part(gpus, SiteBlobs(site, self._paths.incoming / site))

    def join(self, site: str, gpus: Sequence[int] | None = None) -> None:
        """A site that came, or came back, takes part from now on."""
        if self._is_parked:
            return
        if self._ways.is_ending():
            self._ways.to_site(site, Frame("stop", self._job, {"reason": "it is over", "grace_s": END_GRACE_S}))
            return  # the site may have missed that
        part = self._parts.get(site)
        if part is None:
            part = self._parts[site] = self._new_part(site, gpus)
        elif part.deaths >= MOST_DEATHS:
            return
        self._deployment.prepare([site])
        self._ways.to_process({"k": "site_back", "site": site}, ())
        self.launch_at(site)

    def launch_at(self, site: str) -> None:
        """Have its process started at a site."""
        part = self._parts[site]
        app, head = self._deployment.for_site(site)
        part.blobs.offer([app], [self._deployment.archive_of(site)])
        head = {**head, "gpus": None if part.gpus is None else list(part.gpus)}
        if not self._ways.to_site(site, Frame("launch", self._job, head, (), (app,))):
            self.site_down(site, "it is not connected")

    # -- sites -------------------------------------------------------------------------------------------------

    def site_down(self, site: str, reason: str, *, final: bool = False) -> None:
        """A site is lost, has left, or its process is gone.

        Args:
            site: The site.
            reason: Why.
            final: Whether it will not take part in this job again.
        """
        part = self._parts.get(site)
        if part is not None:
            part.is_there = False
            self._ways.to_process({"k": "site_down", "site": site, "reason": reason, "final": final}, ())

    def _died(self, site: str, how: str) -> None:
        """A site's process has ended under the job: it is started anew, if that has not happened too often."""
        part = self._parts[site]
        part.deaths += 1
        is_last = part.deaths >= MOST_DEATHS
        then = "it takes no part any more" if is_last else "it is started anew"
        if self._journal is not None:
            self._journal.site_died(site, how, deaths=part.deaths)
        self._note(IncidentCode.SITE_PROCESS_DIED, f"the job's process at {site} {how}; {then}", site)
        self.site_down(site, f"its process {how}", final=is_last)
        if not is_last and not part.is_told_to_end:
            self.join(site)

    def _note(self, code: IncidentCode, text: str, site: str) -> None:
        """Note what a site says of itself; so often, as it might go on for ever."""
        part = self._parts[site]
        part.num_incidents += 1
        if part.num_incidents <= _MOST_INCIDENTS:
            self._ways.note(code, text, site)

    def from_site(self, site: str, frame: Frame) -> None:
        """A frame of a site; who sent it was told by its certificate."""
        part = self._parts.get(site)
        if part is None:
            _logger.warning("job %s: a frame of %s, which takes no part, is refused", self._job, site)
            return
        match frame.kind:
            case "launched":
                part.is_there = True
            case "launch_failed":
                self.site_down(site, str(frame.head.get("reason", "it cannot start the job")), final=True)
            case "over_quota":
                reason = printable(str(frame.head.get("reason", "")))
                self._note(IncidentCode.OVER_QUOTA, f"at {site} {reason}; it takes no part any more", site)
                self.site_down(site, reason, final=True)
            case "exited":
                if not self._ways.is_ending() and not frame.head.get("expected"):
                    self._died(site, str(frame.head.get("how", "is gone")))
            case _ if frame.kind == RELAY:
                self._relay(site, part, frame)

    def _relay(self, site: str, part: _Part, frame: Frame) -> None:
        folder = self._paths.incoming / site
        try:
            head = from_network(frame, folder)
            if (problem := problem_of(head)) is not None:
                raise DecodeError(problem)
            part.blobs.take(frame.blobs)
        except DecodeError as error:
            if not part.was_refused:  # once: it might go on for ever
                part.was_refused = True
                _logger.warning("job %s: a frame of %s is refused: %s", self._job, site, error)
            return
        head["site"] = site
        if head["k"] in _INCIDENTS:
            code, text = _INCIDENTS[head["k"]]
            self._note(code, text.format(site=site, cause=printable(head["cause"])), site)
            return
        if self._journal is not None:
            self._journal.tables(site, head, parts=frame.parts)
            if head["k"] == "result" and part.owes(head["task_id"], site):
                self._journal.result(site, head, parts=frame.parts)
        self._ways.to_process(head, frame.parts)

    def send(self, head: Head, parts: Sequence[bytes]) -> None:
        """Bring a frame of the job's process to the sites that it is for."""
        each = head.pop("each", None) or {}
        targets = head.pop("to")
        frame, files = to_network(self._job, head, parts)
        for site in targets:
            part = self._parts.get(site)
            if part is None:
                continue
            part.is_told_to_end |= head.get("k") == "end"
            if files:
                part.blobs.offer(frame.blobs, files)
            own = each.get(site)
            if own is not None and "task_id" in own:
                part.gives(own["task_id"])
            if own is not None and self._journal is not None and "acks" in own:
                own = {**own, "acks": self._journal.durable(site, own["acks"])}
            said = frame if own is None else Frame(RELAY, self._job, {**frame.head, **own}, frame.parts, frame.blobs)
            try:
                self._ways.to_site(site, said)
                _reach(said.head)
            except EncodeError as error:
                _logger.error("job %s: nothing of this kind can be sent to %s: %s", self._job, site, error)
                if head.get("k") == "task":
                    self._ways.to_process({"k": "lost", "site": site, "cause": str(error), **(own or {})}, ())

    def acknowledge(self, site: str, numbers: list[int]) -> None:
        """Tell a site that results need not be kept there any more."""
        self._ways.to_site(site, Frame(RELAY, self._job, {"k": "ack", "acks": numbers}))
        reach("result.after_ack")

    def stop(self, reason: str, grace_s: float) -> None:
        """The job is over, or to end: processes may take so long to leave."""
        for site in self.names:
            self._ways.to_site(site, Frame("stop", self._job, {"reason": reason, "grace_s": grace_s}))

    def park(self) -> None:
        """The job rests: processes end, and what they have kept stays."""
        self._is_parked = True
        for site in self.names:
            self._ways.to_site(site, Frame("park", self._job))

    # -- blobs, on their threads -------------------------------------------------------------------------------

    def target_of(self, site: str, ref: BlobRef) -> Path:
        """Where a blob of a site goes.

        Raises:
            ConfigError: The job does not take it.
            DecodeError: Its name is none.
        """
        part = self._parts.get(site)
        if part is None or not self.takes_blobs:
            raise ConfigError(f"job {self._job} takes nothing of {site}")
        return part.blobs.target_of(file_name(ref.name))

    def source_of(self, site: str, name: str) -> Path:
        """Where a blob lies that a site may fetch.

        Raises:
            ConfigError: It may not, or the task is over.
        """
        part = self._parts.get(site)
        if part is None:
            raise ConfigError(f"job {self._job} has nothing for {site}")
        return part.blobs.source_of(name)


def _reach(head: Mapping[str, Any]) -> None:
    if head.get("k") == "task":
        reach("task.after_send_first_site")
    if head.get("acks"):
        reach("result.after_ack")
