"""A job while it runs, as the server process sees it: its process here, its sites, and what goes between them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hansa.errors import MAY_PASS, HansaError, StoreError
from hansa.failpoints import reach
from hansa.jobs.incident import IncidentCode
from hansa.jobs.life import JobState
from hansa.runtime.app_gate import AppGate
from hansa.runtime.deployment import Deployment
from hansa.runtime.environment import job_environment
from hansa.runtime.fork_server import ExitReport, JobLauncher, ProcessSpec
from hansa.runtime.home_process import MOST_DEATHS, HomeProcess
from hansa.runtime.housekeeping import DiskWatch, Housekeeping
from hansa.runtime.incidents import Incidents
from hansa.runtime.job_journal import JobJournal
from hansa.runtime.job_sites import END_GRACE_S, JobSites, JobWays
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.log_tail import last_word
from hansa.runtime.relay import Head
from hansa.runtime.run_paths import RunPaths
from hansa.wire.frames import Frame
from hansa.wire.pipe import AsyncPipe, PipeServer

ENTRY = "hansa.runtime.job_server"
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

    @property
    def incidents(self) -> Incidents:
        """Where incidents are noted."""
        ...


@dataclass(frozen=True)
class ServerRules:
    """What the server's kit says of jobs.

    Attributes:
        root: The server's workspace root.
        project: Whose server it is.
        poc: Whether all of this runs on one machine, to try it.
        allow_custom_code: Whether a job may bring code of its own.
        plugins: Packages whose classes a job may name, besides Hansa's own components.
        disk: What a job may take of the disk, and for how long.
        gate: Looks at the apps of a job when it is submitted.
    """

    root: Path
    project: str = ""
    poc: bool = False
    allow_custom_code: bool = False
    plugins: Sequence[str] = ()
    disk: Housekeeping = field(default_factory=Housekeeping)
    gate: AppGate = field(default_factory=AppGate)

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
        journal: What is kept of the job; None: nothing, and the job does not survive its process.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        rules: ServerRules,
        network: Network,
        launcher: JobLauncher,
        pipes: PipeServer,
        journal: JournalWriter | None = None,
    ) -> None:
        self.id = deployment.job_id
        self.process = f"{self.id}@server"
        self.progress: dict[str, Any] = {}  # Any: JSON
        self.paths = RunPaths(rules.root, deployment.number, "server")
        self.deployment = deployment
        self.rules = rules
        self._network = network
        self.home = HomeProcess(
            self.process, launcher=launcher, pipes=pipes, spec_of=partial(_spec_of, self), on_frame=self._from_process
        )
        self._journal = (
            None
            if journal is None
            else JobJournal(self.id, writer=journal, paths=self.paths, rounds=deployment.rounds, begun=deployment.begun)
        )
        ways = JobWays(
            network.send, self._to_process, lambda: bool(self._verdict or self._abort_reason), note=self._note
        )
        if self._journal is not None:
            self._journal.failed = self.cannot_be_kept
        self.at_sites = JobSites(deployment, self.paths, ways=ways, journal=self._journal)
        """Its parts at the sites."""
        self.pipes = pipes
        self._restarting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        """Set once nothing of it runs here any more, and what is kept of it is kept."""
        self._verdict: tuple[JobState, str | None] | None = None
        self._abort_reason: str | None = None
        self._kill_at: asyncio.TimerHandle | None = None
        self.is_over = False
        self._is_parked = False
        self._no_store: str | None = None  # why nothing can be kept at the moment
        self.gave_up: str | None = None
        """Why its process is not started any more but to write what there is."""

    @property
    def sites(self) -> list[str]:
        """The sites it was given to."""
        return self.at_sites.names

    # -- beginning ---------------------------------------------------------------------------------------------

    async def begin(self, sites: Iterable[str], gpus: Mapping[str, Sequence[int]]) -> None:
        """Start the job's process here, and have it started at the sites.

        Raises:
            HansaError: The job is not as it should be, or the system refuses a process.
        """
        self.at_sites.choose(sites, gpus)
        chosen = self.sites  # others may join meanwhile
        self.paths.make()
        await asyncio.to_thread(self.deployment.prepare, chosen)
        if self._abort_reason is not None:
            self._finish(JobState.ABORTED, self._abort_reason)
            return
        for name in chosen:
            self.at_sites.launch_at(name)
        is_begun = self._journal is not None and self.deployment.begun is not None
        await self.home.launch(await self._journal.recall(1) if self._journal is not None and is_begun else None)

    async def resume(self, sites: Iterable[str], gpus: Mapping[str, Sequence[int]]) -> None:
        """Go on where the journal ends: the server was started anew. Sites join as they come back."""
        self.at_sites.choose(sites, gpus)
        self.paths.make()
        await self._restart("the server was started anew")

    def attach(self, pipe: AsyncPipe) -> None:
        """The job's process has called back."""
        self.home.attach(pipe)

    # -- the process -------------------------------------------------------------------------------------------

    def _from_process(self, head: Head, parts: list[bytes]) -> None:
        to = head.get("to")
        if to is not None:
            self.at_sites.send(head, parts)
            return
        match head.get("k"):
            case "disk":
                self._disk(head.get("cause"))
            case "running" | "waiting" if self._abort_reason is not None or self._verdict is not None:
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
            case "decision" if self._journal is not None:
                self._journal.decision(head)
            case "commit" if self._journal is not None:
                self.home.hold()
                self._journal.commit(head, parts, then=self._committed)

    def _committed(self) -> None:
        reach("commit.after_before_broadcast")
        self.home.num_deaths = 0
        self.home.let_go()

    def _to_process(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        if not self.is_over and self._no_store is None:  # else it is ended, and asks for all of this anew
            self.home.send(head, parts)

    def exited(self, report: ExitReport) -> None:
        """The job's process on the server has ended; it may have said more than was taken yet."""
        self.home.at_last(partial(self._gone, report))

    def _gone(self, report: ExitReport) -> None:
        self.home.gone()
        how = f"its process on the server {report.how}"
        if self._is_parked:
            self._end()
            return
        if self._no_store is not None and self._abort_reason is None:
            self.home.num_deaths -= 1  # it was no fault of its own
            self._restarting = asyncio.get_running_loop().create_task(self._rest_and_restart())
            return
        is_wanted = self._verdict is None and self._abort_reason is None
        goes_on = is_wanted and self._journal is not None and self.home.num_deaths < MOST_DEATHS
        if is_wanted and self.gave_up is None:
            self._note(IncidentCode.JOB_PROCESS_DIED, f"{how}; {'the job goes on' if goes_on else 'the job fails'}")
        if is_wanted and self._journal is not None and self.home.num_deaths <= MOST_DEATHS:
            if not goes_on:  # one more start, for the last good model
                self.gave_up = f"{how}{last_word(self.paths.log)}"
            self._restarting = asyncio.get_running_loop().create_task(self._restart(how))
            return
        if self._verdict is None:
            aborted = self._abort_reason is not None
            cause = self._abort_reason if aborted else self.gave_up or f"{how}{last_word(self.paths.log)}"
            self._finish(JobState.ABORTED if aborted else JobState.FAILED, cause)
        if self._kill_at is not None:
            self._kill_at.cancel()
        self._end()

    def cannot_be_kept(self, error: StoreError) -> None:
        """The journal cannot be written."""
        cause = f"the journal cannot be written: {error.cause}"
        if error.job is not None:  # it is about a row, and stays so
            self.fail(cause)
        else:
            self._rest(cause)

    def _rest(self, cause: str) -> None:
        """Nothing can be kept of it at the moment: its process ends, and goes on from what was kept once it can be."""
        if self._no_store is None and self._verdict is None and not self._is_parked and self.home.is_launched:
            self._no_store = cause
            self._network.changed(self, JobState.WAITING, reason=f"{cause}; the job goes on once it can be")
            self.home.cut_off()

    async def _rest_and_restart(self) -> None:
        assert self._journal is not None
        assert self._no_store is not None
        cause = self._no_store
        await self._journal.writable(cause, is_wanted=lambda: self._abort_reason is None)
        self._no_store = None
        await self._restart(cause)

    async def _restart(self, how: str) -> None:
        assert self._journal is not None
        then = "the job goes on" if self.gave_up is None else "its last model is saved"
        self._network.changed(self, JobState.WAITING, reason=f"{how}; {then}")
        try:
            await asyncio.to_thread(self.deployment.prepare, self.sites)
            recall = await self._journal.recall(self.home.num_starts + 1)
            self.at_sites.remember(self._journal.deaths)
            if self._abort_reason is None:
                for site in self.sites if self.gave_up is None else ():
                    self.at_sites.join(site)
                await self.home.launch(recall)
                return
        except (HansaError, OSError) as error:
            if _may_pass(error) and self._abort_reason is None:
                self._no_store = f"what is needed to go on cannot be read or written: {error}"
                self._restarting = asyncio.get_running_loop().create_task(self._rest_and_restart())
                return
            if isinstance(error, StoreError):
                self._note(IncidentCode.FILE_DAMAGED, f"{error.cause}; the job fails")
            self._finish(JobState.FAILED, self.gave_up or f"{how}, and the job cannot go on: {error}")
        else:
            self._finish(JobState.ABORTED, self._abort_reason)
        self._end()

    def _disk(self, cause: str | None) -> None:
        """Its process finds no room for what it writes, or has found it again."""
        if self._abort_reason is not None:
            return
        if cause is None:
            self._network.changed(self, JobState.RUNNING, reason=None)
            return
        text = f"the disk of the server takes nothing: {cause}"
        self._note(IncidentCode.SERVER_DISK, f"{text}; the job waits")
        self._network.changed(self, JobState.WAITING, reason=f"{text}; the job goes on once it does")

    def _note(self, code: IncidentCode, text: str, site: str | None = None) -> None:
        self._network.incidents.note(code, text, job=self.id, site=site)

    # -- ending ------------------------------------------------------------------------------------------------

    def abort(self, reason: str, *, grace_s: float = END_GRACE_S) -> None:
        """Stop the job; what does not stop by itself within the grace is killed."""
        if self._abort_reason is not None or self._verdict is not None:
            return
        self._abort_reason = reason
        self._to_process({"k": "abort", "reason": reason})
        self.at_sites.stop(reason, grace_s)
        self._kill_later(grace_s)

    def _finish(self, state: JobState, cause: str | None) -> None:
        if self._verdict is not None:
            return
        if self._abort_reason is not None and state is not JobState.COMPLETED:
            state, cause = JobState.ABORTED, self._abort_reason
        self._verdict = state, cause
        self.at_sites.takes_blobs = False
        self.at_sites.stop(cause or state.value, END_GRACE_S)
        reach("job.before_terminal")
        self._network.changed(self, state, reason=cause)
        reach("job.after_terminal")
        if self.home.is_there:
            self._kill_later(END_GRACE_S)
        else:
            self._end()

    def park(self) -> None:
        """The server is being stopped: the job's process ends, and goes on when the server is back."""
        self._is_parked = True
        if self._restarting is not None:
            self._restarting.cancel()
        if self.home.is_launched:
            self.home.kill()
        else:
            self._end()

    def fail(self, cause: str) -> None:
        """It cannot begin, or cannot go on."""
        self._to_process({"k": "fail", "reason": cause})
        self._finish(JobState.FAILED, cause)
        self.home.let_go()

    def over_quota(self, how: str) -> None:
        """It takes more of the disk than the server gives it."""
        self._note(IncidentCode.OVER_QUOTA, f"{how}; the job fails")
        self.gave_up = how  # should it die over it
        self._to_process({"k": "fail", "reason": how})  # the model first, then the verdict
        self._kill_later(END_GRACE_S)

    def _kill_later(self, grace_s: float) -> None:
        if self._kill_at is None:
            loop = asyncio.get_running_loop()
            self._kill_at = loop.call_later(grace_s, self.home.kill)

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._journal is not None and not self._is_parked:
            self._closing = asyncio.get_running_loop().create_task(self._close(self._journal))
            return
        if not self._is_parked:
            self.paths.drop_blobs()
        self._is_gone()

    async def _close(self, journal: JobJournal) -> None:
        await journal.close()
        self._is_gone()

    def _is_gone(self) -> None:
        self._network.over(self)
        self.gone.set()


def watched(job: RunningJob, shelf: Path) -> DiskWatch:
    """Have a job fail that takes more of the disk than the server gives it.

    Args:
        job: The job.
        shelf: Its folder on the shelf.
    """
    watch = DiskWatch([job.paths.folder, shelf], job.rules.disk.job_bytes, exceeded=job.over_quota)
    watch.start()
    return watch


def _may_pass(error: HansaError | OSError) -> bool:
    """Whether it may help to wait."""
    if isinstance(error, StoreError):
        return error.job is None
    return isinstance(error, OSError) and error.errno in MAY_PASS


def _spec_of(job: RunningJob, token: str, recall: Path | None) -> ProcessSpec:
    """How a job's process on the server is started."""
    threads = job.deployment.threads
    args = {**job.deployment.server_args(job.sites), "policy": job.rules.policy()}
    return ProcessSpec(
        name=job.process,
        entry=ENTRY,
        address=job.pipes.address,
        token=token,
        folder=job.rules.root,
        log=job.paths.log,
        environment=job_environment(os.environ, poc=job.rules.poc, gpus=None, threads=threads),
        args={**args, "recall": None if recall is None else str(recall), "gave_up": job.gave_up},
    )
