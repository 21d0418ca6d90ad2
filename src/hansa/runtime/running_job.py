"""A job while it runs, as the server process sees it: its process here, its sites, and what goes between them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hansa.errors import ConfigError, DecodeError, EncodeError
from hansa.jobs.life import JobState
from hansa.runtime.deployment import Deployment
from hansa.runtime.environment import job_environment
from hansa.runtime.fork_server import ExitReport, JobLauncher, ProcessSpec
from hansa.runtime.log_tail import last_word
from hansa.runtime.relay import RELAY, Head, from_network, to_network
from hansa.runtime.run_paths import RunPaths, file_name
from hansa.runtime.site_blobs import SiteBlobs
from hansa.runtime.site_words import problem_of
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.pipe import AsyncPipe, PipeServer

ENTRY = "hansa.runtime.job_server"
END_GRACE_S = 5.0
"""How long processes of a job may take to leave once it is over."""
MOST_DEATHS = 3
"""A site whose process dies so often under a job sits it out."""

_logger = logging.getLogger("hansa.server")


class Network(Protocol):
    """What a running job needs of the server process."""

    def send(self, site: str, frame: Frame) -> bool:
        """Bring a frame to a site; False if it has no session."""
        ...

    def changed(self, job: RunningJob, state: JobState | None, *, reason: str | None) -> None:
        """The job's state has changed; None: nothing but its files or its progress."""
        ...

    def over(self, job: RunningJob) -> None:
        """Nothing of it runs on the server any more."""
        ...


@dataclass
class _Part:
    """A site's part of the job."""

    gpus: Sequence[int] | None
    blobs: SiteBlobs
    deaths: int = 0  # of its process
    is_there: bool = False  # its process runs, as far as we know
    is_told_to_end: bool = False  # its process is not missed any more
    was_refused: bool = False  # some frame of it


@dataclass(frozen=True)
class ServerRules:
    """What the server's kit says of jobs.

    Attributes:
        root: The server's workspace root.
        poc: Whether all of this runs on one machine, to try it.
        allow_custom_code: Whether a job may bring code of its own.
        plugins: Packages whose classes a job may name, besides Hansa's own components.
    """

    root: Path
    poc: bool = False
    allow_custom_code: bool = False
    plugins: Sequence[str] = ()

    def policy(self) -> dict[str, Any]:  # Any: JSON
        """What classes a job may name, for its process."""
        return {"custom": self.allow_custom_code or self.poc, "anything": self.poc, "plugins": list(self.plugins)}


class RunningJob:
    """Starts a job's processes, passes frames between them, and sees to their end.

    All of it on the event loop's thread but `target_of` and `source_of`, which threads of the blobs call.

    Args:
        deployment: What is run, and where it lies.
        rules: The server's own.
        network: The server process.
        launcher: Where the job's process comes from.
        pipes: Where it calls back.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        rules: ServerRules,
        network: Network,
        launcher: JobLauncher,
        pipes: PipeServer,
    ) -> None:
        self.id = deployment.job_id
        self.process = f"{self.id}@server"
        self.progress: dict[str, Any] = {}  # Any: JSON
        self.paths = RunPaths(rules.root, deployment.number, "server")
        self._deployment = deployment
        self._rules = rules
        self._network = network
        self._launcher = launcher
        self._pipes = pipes
        self._pipe: AsyncPipe | None = None
        self._early: list[tuple[Head, Sequence[bytes]]] = []  # for the process, before it has called back
        self._parts: dict[str, _Part] = {}
        self._verdict: tuple[JobState, str | None] | None = None
        self._abort_reason: str | None = None
        self._kill_at: asyncio.TimerHandle | None = None
        self.is_over = False

    @property
    def sites(self) -> list[str]:
        """The sites it was given to."""
        return sorted(self._parts)

    def takes(self, site: str) -> bool:
        """Whether it has an app for a site."""
        return self._deployment.takes(site)

    # -- beginning ---------------------------------------------------------------------------------------------

    async def begin(self, sites: Iterable[str], gpus: Mapping[str, Sequence[int]]) -> None:
        """Start the job's process here, and have it started at the sites.

        Raises:
            HansaError: The job is not as it should be, or the system refuses a process.
        """
        self._parts = {name: self._new_part(name, gpus.get(name)) for name in sites}
        chosen = self.sites  # others may join meanwhile
        self.paths.make()
        await asyncio.to_thread(self._deployment.prepare, chosen)
        if self._abort_reason is not None:
            self._finish(JobState.ABORTED, self._abort_reason)
            return
        for name in chosen:
            self._launch_at(name)
        token = secrets.token_urlsafe(32)
        self._pipes.expect(token, self.process)
        threads = self._deployment.threads
        await self._launcher.launch(
            ProcessSpec(
                name=self.process,
                entry=ENTRY,
                address=self._pipes.address,
                token=token,
                folder=self._rules.root,
                log=self.paths.log,
                environment=job_environment(os.environ, poc=self._rules.poc, gpus=None, threads=threads),
                args={**self._deployment.server_args(self.sites), "policy": self._rules.policy()},
            )
        )

    def join(self, site: str, gpus: Sequence[int] | None = None) -> None:
        """A site that came, or came back, takes part from now on."""
        if self._verdict is not None or self._abort_reason is not None:
            self._network.send(site, Frame("stop", self.id, {"reason": "it is over", "grace_s": END_GRACE_S}))
            return  # the site may have missed that
        part = self._parts.get(site)
        if part is None:
            part = self._parts[site] = self._new_part(site, gpus)
        elif part.deaths >= MOST_DEATHS:
            return
        self._deployment.prepare([site])
        self._to_process({"k": "site_back", "site": site})
        self._launch_at(site)

    def _new_part(self, site: str, gpus: Sequence[int] | None) -> _Part:
        return _Part(gpus, SiteBlobs(site, self.paths.incoming / site))

    def _launch_at(self, site: str) -> None:
        part = self._parts[site]
        app, head = self._deployment.for_site(site)
        part.blobs.offer([app], [self._deployment.archive_of(site)])
        head = {**head, "gpus": None if part.gpus is None else list(part.gpus)}
        if not self._network.send(site, Frame("launch", self.id, head, (), (app,))):
            self.site_down(site, "it is not connected")

    def attach(self, pipe: AsyncPipe) -> None:
        """The job's process has called back."""
        self._pipe = pipe
        pipe.on_frame = self._from_process
        early, self._early = self._early, []
        for head, parts in early:
            pipe.send(head, parts)

    # -- sites -------------------------------------------------------------------------------------------------

    def site_down(self, site: str, reason: str, *, final: bool = False) -> None:
        """A site is lost, has left, or its process is gone.

        Args:
            site: The site.
            reason: Why.
            final: Whether it will not take part in this job again.
        """
        part = self._parts.get(site)
        if part is not None and not self.is_over:
            part.is_there = False
            self._to_process({"k": "site_down", "site": site, "reason": reason, "final": final})

    def _died(self, site: str, how: str) -> None:
        """A site's process has ended under the job: it is started anew, if that has not happened too often."""
        part = self._parts[site]
        part.deaths += 1
        is_last = part.deaths >= MOST_DEATHS
        self.site_down(site, f"its process {how}", final=is_last)
        if not is_last and not part.is_told_to_end and self._abort_reason is None:
            self.join(site)

    def from_site(self, site: str, frame: Frame) -> None:
        """A frame of a site; who sent it was told by its certificate."""
        part = self._parts.get(site)
        if part is None:
            _logger.warning("job %s: a frame of %s, which takes no part, is refused", self.id, site)
            return
        match frame.kind:
            case "launched":
                part.is_there = True
            case "launch_failed":
                self.site_down(site, str(frame.head.get("reason", "it cannot start the job")), final=True)
            case "exited":
                if self._verdict is None and not frame.head.get("expected"):
                    self._died(site, str(frame.head.get("how", "is gone")))
            case _ if frame.kind == RELAY:
                self._relay(site, part, frame)

    def _relay(self, site: str, part: _Part, frame: Frame) -> None:
        folder = self.paths.incoming / site
        try:
            head = from_network(frame, folder)
            if (problem := problem_of(head)) is not None:
                raise DecodeError(problem)
            part.blobs.take(frame.blobs)
        except DecodeError as error:
            if not part.was_refused:  # once: it might go on for ever
                part.was_refused = True
                _logger.warning("job %s: a frame of %s is refused: %s", self.id, site, error)
            return
        head["site"] = site
        self._to_process(head, frame.parts)

    # -- the process -------------------------------------------------------------------------------------------

    def _from_process(self, head: Head, parts: list[bytes]) -> None:
        to = head.get("to")
        if to is not None:
            self._to_sites(head, parts)
            return
        match head.get("k"):
            case "running" | "waiting" if self._abort_reason is not None:
                pass  # sites leave since they were told to
            case "running":
                self._network.changed(self, JobState.RUNNING, reason=None)
            case "waiting":
                self._network.changed(self, JobState.WAITING, reason=str(head.get("reason")))
            case "progress":
                self.progress = {"round": head.get("round"), "num_rounds": head.get("of")}
                self._network.changed(self, None, reason=None)
            case "wrote":
                self._network.changed(self, None, reason=None)
            case "done":
                self._finish(JobState(head["status"]), head.get("cause"))

    def _to_sites(self, head: Head, parts: Sequence[bytes]) -> None:
        each = head.pop("each", None) or {}
        targets = head.pop("to")
        frame, files = to_network(self.id, head, parts)
        for site in targets:
            part = self._parts.get(site)
            if part is None:
                continue
            part.is_told_to_end |= head.get("k") == "end"
            if files:
                part.blobs.offer(frame.blobs, files)
            own = each.get(site)
            said = frame if own is None else Frame(RELAY, self.id, {**frame.head, **own}, frame.parts, frame.blobs)
            try:
                self._network.send(site, said)
            except EncodeError as error:
                _logger.error("job %s: nothing of this kind can be sent to %s: %s", self.id, site, error)
                if head.get("k") == "task":
                    self._to_process({"k": "lost", "site": site, "cause": str(error), **(own or {})})

    def _to_process(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        if self._pipe is not None:
            self._pipe.send(head, parts)
        elif not self.is_over:
            self._early.append((head, parts))

    def exited(self, report: ExitReport) -> None:
        """The job's process on the server has ended."""
        self._pipe = None
        if self._verdict is None:
            aborted = self._abort_reason is not None
            cause = (
                self._abort_reason if aborted else f"its process on the server {report.how}{last_word(self.paths.log)}"
            )
            self._finish(JobState.ABORTED if aborted else JobState.FAILED, cause)
        if self._kill_at is not None:
            self._kill_at.cancel()
        self._end()

    # -- ending ------------------------------------------------------------------------------------------------

    def abort(self, reason: str, *, grace_s: float = END_GRACE_S) -> None:
        """Stop the job; what does not stop by itself within the grace is killed."""
        if self._abort_reason is not None or self._verdict is not None:
            return
        self._abort_reason = reason
        self._to_process({"k": "abort", "reason": reason})
        self._stop_sites(reason, grace_s)
        self._kill_later(grace_s)

    def _finish(self, state: JobState, cause: str | None) -> None:
        if self._verdict is not None:
            return
        if self._abort_reason is not None and state is not JobState.COMPLETED:
            state, cause = JobState.ABORTED, self._abort_reason
        self._verdict = state, cause
        self._stop_sites(cause or state.value, END_GRACE_S)
        self._network.changed(self, state, reason=cause)
        if self._pipe is None:
            self._end()
        else:
            self._kill_later(END_GRACE_S)

    def failed_to_begin(self, cause: str) -> None:
        """Its processes could not be started."""
        self._finish(JobState.FAILED, cause)

    def _kill_later(self, grace_s: float) -> None:
        if self._kill_at is None:
            loop = asyncio.get_running_loop()
            self._kill_at = loop.call_later(grace_s, self._launcher.kill, self.process)

    def _stop_sites(self, reason: str, grace_s: float) -> None:
        for site in self.sites:
            self._network.send(site, Frame("stop", self.id, {"reason": reason, "grace_s": grace_s}))

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.paths.drop_blobs()
            self._network.over(self)

    # -- blobs, on their threads -------------------------------------------------------------------------------

    def target_of(self, site: str, ref: BlobRef) -> Path:
        """Where a blob of a site goes.

        Raises:
            ConfigError: The job does not take it.
            DecodeError: Its name is none.
        """
        part = self._parts.get(site)
        if part is None or self._verdict is not None:
            raise ConfigError(f"job {self.id} takes nothing of {site}")
        return part.blobs.target_of(file_name(ref.name))

    def source_of(self, site: str, name: str) -> Path:
        """Where a blob lies that a site may fetch.

        Raises:
            ConfigError: It may not, or the task is over.
        """
        part = self._parts.get(site)
        if part is None:
            raise ConfigError(f"job {self.id} has nothing for {site}")
        return part.blobs.source_of(name)
