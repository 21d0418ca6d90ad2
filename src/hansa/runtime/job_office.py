"""The server's jobs: those on the shelf, those that wait for their turn, those that run."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError, HansaError, StoreError
from hansa.failpoints import reach
from hansa.jobs.archive import unpack
from hansa.jobs.job import Job
from hansa.jobs.job_check import check_job
from hansa.jobs.life import JobState
from hansa.jobs.store import JobRecord, JobStore
from hansa.jobs.wanted import Wanted, read
from hansa.runtime.app_gate import AppGate
from hansa.runtime.background import Background
from hansa.runtime.deployment import Deployment
from hansa.runtime.fork_server import ExitReport, JobLauncher
from hansa.runtime.housekeeping import DiskWatch
from hansa.runtime.incidents import Incidents
from hansa.runtime.job_feed import JobFeeds
from hansa.runtime.job_journal import sweep_up
from hansa.runtime.job_queue import Gpus, JobQueue
from hansa.runtime.job_rows import mirror_all
from hansa.runtime.journal_writer import JournalWriter, open_journal
from hansa.runtime.kept_rounds import ROUNDS
from hansa.runtime.removal import remove_old
from hansa.runtime.reunion import Reunion
from hansa.runtime.run_paths import RunPaths
from hansa.runtime.running_job import RunningJob, ServerRules, watched
from hansa.wire.frames import Frame
from hansa.wire.pipe import AsyncPipe, PipeServer

Send = Callable[[str, Frame], bool]
TagsOf = Callable[[str], Sequence[str]]

_REUNION = "waits for the sites that were there before the server was started"
_logger = logging.getLogger("hansa.server")


class JobOffice:
    """Takes jobs, has them started when the schedule says so, and keeps what becomes of them.

    Args:
        rules: What the server's kit says of jobs.
        launcher: Where job processes come from.
        send: Brings a frame to a site; False if it has no session.
        tags_of: What a site says of itself.
    """

    def __init__(self, rules: ServerRules, launcher: JobLauncher, *, send: Send, tags_of: TagsOf) -> None:
        self.store = JobStore(rules.root / "jobs")
        self.journal: JournalWriter | None = None
        self.incidents = Incidents(None)
        self.queue = JobQueue(self)
        self.running: dict[str, RunningJob] = {}
        self.send, self._rules, self._launcher = send, rules, launcher
        self._pipes = PipeServer(rules.root / "sockets", self._called_back)
        self._tags_of = tags_of
        self._feeds = JobFeeds()
        self._background = Background()
        self._reunion = Reunion()
        self.is_closing = False
        self._idle = asyncio.Event()
        self._watches: dict[str, DiskWatch] = {}

    async def open(self) -> None:
        """Read what is on the shelf; jobs that waited wait again.

        Raises:
            ConfigError: Another server has the shelf.
        """
        self.journal = await _take_possession(self.store, self._rules, self._cannot_keep)
        self.incidents = Incidents(self.journal)
        await mirror_all(self.store, self.journal, self.incidents)
        await self._pipes.start()
        await _sweep(self.store, self._rules.root, writer=self.journal)
        await remove_old(self, self._rules)
        records = self.store.list()
        for record in records:
            if record.state.is_over or record.state is JobState.PAUSED:
                continue
            if record.abort is not None:
                self.set(record.id, JobState.ABORTED, reason=record.abort)
                continue
            try:
                wanted = await asyncio.to_thread(wanted_by, self.store, record)
            except (HansaError, OSError) as error:
                self.set(record.id, JobState.FAILED, reason=f"its folder is damaged: {error}")
                continue
            if self.journal is None and record.state is not JobState.SUBMITTED:
                self.set(
                    record.id, JobState.FAILED, reason="the server was stopped while the job ran, without a journal"
                )
                continue
            if record.state is JobState.SUBMITTED:
                self.when_reunited(record, wanted)
            else:
                await self._resume(record, wanted)
        self._reunion.wait_for(next((record.sites for record in reversed(records) if record.sites), ()))

    async def _resume(self, record: JobRecord, wanted: Wanted) -> None:
        """Let a job go on that ran when the server ended."""
        if record.state is JobState.SCHEDULED:
            self.store.update(record.id, JobState.DEPLOYING)
        self.set(
            record.id, JobState.WAITING, reason="the server was started anew; the job goes on when its sites are back"
        )
        self.queue.adopted(record.id, wanted, gpus={site: record.gpus.get(site, ()) for site in record.sites})
        try:
            job = await self._make(record, record.sites)
        except (HansaError, OSError) as error:
            self.set(record.id, JobState.FAILED, reason=f"it cannot go on: {error}")
            self.queue.ended(record.id)
        else:
            self._background.begin(job.resume(record.sites, record.gpus))

    async def _make(self, record: JobRecord, sites: Sequence[str]) -> RunningJob:
        deployment = await asyncio.to_thread(
            Deployment,
            self.store.folder(record.id),
            job_id=record.id,
            number=record.number,
            stamp=record.stamp,
            root=self._rules.root,
            tags={name: self._tags_of(name) for name in sites},
        )
        job = RunningJob(
            deployment,
            rules=self._rules,
            network=self,
            launcher=self._launcher,
            pipes=self._pipes,
            journal=self.journal,
        )
        if not self.store.get(record.id).state.is_over:  # else aborted meanwhile
            self.running[record.id] = job
            self._watches[record.id] = watched(job, self.store.folder(record.id))
        return job

    async def close(self, grace_s: float) -> None:
        """Take and start no more jobs; those that run go on when the server is back."""
        self.is_closing = True
        self.queue.close()
        self._idle.clear()  # it was set when the last job before this ended
        for job in list(self.running.values()):
            job.park()
        if self.running:
            try:
                await asyncio.wait_for(self._idle.wait(), grace_s + 1.0)
            except TimeoutError:
                _logger.error("jobs whose processes do not end in time: %s", ", ".join(sorted(self.running)))
        await self._pipes.close()
        if self.journal is not None:
            await self.journal.close()
        self.store.close()

    # -- what admins do ----------------------------------------------------------------------------------------

    async def take(self, archive: Path, submitter: str) -> JobRecord:
        """Take a job that was packed into an archive.

        Raises:
            ConfigError: The archive or the job is not as it should be; nothing is kept.
        """
        if self.is_closing:
            raise ConfigError("the server is being stopped and takes no jobs")
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix="staging-") as staging:
            folder = Path(staging, "job")
            job, wanted = await asyncio.to_thread(_checked, archive, folder, self._rules.gate)
            record = self.store.new_job(folder, job, submitter=submitter)  # on this thread: no number is given twice
        reach("submit.after_write")
        return self.taken(record, wanted)

    def taken(self, record: JobRecord, wanted: Wanted) -> JobRecord:
        """A job lies on the shelf: it waits for its turn."""
        _logger.info("job %s was submitted by %s", record.id, record.submitter)
        if not self._reunion.is_over:
            self.set(record.id, JobState.SUBMITTED, reason=_REUNION)
        self.when_reunited(record, wanted)
        return self.store.get(record.id)

    def _enqueue(self, record: JobRecord, wanted: Wanted) -> None:
        if self.store.get(record.id).state is JobState.SUBMITTED:  # else it was aborted meanwhile
            self.queue.submitted(record.id, record.number, wanted=wanted, at=record.submitted_at)

    def site_up(self, name: str, settings: Mapping[str, Any]) -> None:  # Any: JSON
        """A site is connected."""
        self.queue.site_up(name, settings)
        self._reunion.site_up(name)

    def abort(self, job_id: str, reason: str) -> None:
        """Stop a job.

        Raises:
            ConfigError: There is no such job, or it is over.
        """
        record = self.store.get(job_id)
        if record.state.is_over:
            raise ConfigError(f"job {record.id} is over: it is {record.state.value}")
        if record.abort is None:
            self.store.abort(job_id, reason)
        running = self.running.get(job_id)
        if running is not None:
            running.abort(reason)
            return
        self.queue.cancelled(job_id)
        for site in record.sites:  # where it may have kept something, if it was paused
            self.send(site, Frame("stop", job_id, {"reason": reason, "grace_s": 0.0}))
        self.set(job_id, JobState.ABORTED, reason=reason)

    def when_reunited(self, record: JobRecord, wanted: Wanted) -> None:
        """Have a job wait for its turn, once the sites are back that were there before the server was started."""
        self._reunion.then(partial(self._enqueue, record, wanted))

    def view(self, job_id: str) -> JobRecord:
        """A job as it stands, with its progress.

        Raises:
            ConfigError: There is none.
        """
        running = self.running.get(job_id)
        if running is not None and running.progress:
            at = running.progress
            return self.store.progress(job_id, at.get("round"), num_rounds=at.get("num_rounds"))
        return self.store.get(job_id)

    def follow(self, job_id: str, offsets: Mapping[str, int]) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        """See `JobFeeds.follow`.

        Raises:
            ConfigError: There is no such job.
        """
        folder = self.store.folder(job_id) / "run"

        def look() -> tuple[dict[str, Any], bool]:
            record = self.view(job_id)
            return record.as_dict(), record.state.is_over

        return self._feeds.follow(job_id, folder, look=look, offsets=offsets)

    # -- what the schedule says (hansa.runtime.job_queue.Office) -----------------------------------------------

    def start_job(self, job_id: str, sites: Sequence[str], *, gpus: Gpus) -> None:
        """See `Office`."""
        self._background.begin(self._start(job_id, sites, gpus))

    async def _start(self, job_id: str, sites: Sequence[str], gpus: Gpus) -> None:
        record = self.store.update(job_id, JobState.SCHEDULED, sites=sites, gpus=gpus)
        self._feeds.wake(job_id)
        job = None
        try:
            job = await self._make(record, sites)
            if job_id not in self.running:
                self.queue.ended(job_id)
                return
            self.set(job_id, JobState.DEPLOYING, reason=None)
            if record.started_at is None:
                await job.begin(sites, gpus)
            else:
                await job.resume(sites, gpus)
        except (HansaError, OSError) as error:
            if job is None:
                self.set(job_id, JobState.FAILED, reason=str(error))
                self.queue.ended(job_id)
            else:
                job.fail(str(error))

    def join(self, job_id: str, site: str, *, gpus: Sequence[int]) -> None:
        """See `Office`."""
        job = self.running.get(job_id)
        if job is not None and job.deployment.takes(site):
            job.at_sites.join(site, gpus or None)
            record = self.store.get(job_id)
            self.store.update(job_id, record.state, reason=record.reason, sites=sorted({*record.sites, site}))
            self._feeds.wake(job_id)

    def waits(self, job_id: str, reason: str) -> None:
        """See `Office`."""
        self.set(job_id, JobState.SUBMITTED, reason=reason)

    def expired(self, job_id: str, reason: str) -> None:
        """See `Office`."""
        self.set(job_id, JobState.FAILED, reason=reason)

    # -- what running jobs say (hansa.runtime.running_job.Network) ---------------------------------------------

    def changed(self, job: RunningJob, state: JobState | None, *, reason: str | None) -> None:
        """See `Network`."""
        if state is None:
            self._feeds.wake(job.id)
        else:
            self.set(job.id, state, reason=reason)

    def over(self, job: RunningJob) -> None:
        """See `Network`."""
        self.running.pop(job.id, None)
        if (watch := self._watches.pop(job.id, None)) is not None:
            watch.stop()
        if not self.is_closing:
            self.queue.ended(job.id)
            self._background.begin(remove_old(self, self._rules))
        if not self.running:
            self._idle.set()

    def exited(self, process: str, report: ExitReport) -> None:
        """A process that was launched here has ended."""
        for job in list(self.running.values()):
            if job.process == process:
                job.exited(report)

    def _called_back(self, pipe: AsyncPipe) -> None:
        for job in self.running.values():
            if job.process == pipe.name:
                job.attach(pipe)
                return
        pipe.close()

    def _cannot_keep(self, job_id: str, error: StoreError) -> None:
        """Rows of a job cannot be written: it must not go on as if they were."""
        running = self.running.get(job_id)
        if running is not None:
            running.cannot_be_kept(error)

    def set(self, job_id: str, state: JobState, *, reason: str | None) -> None:
        """Bring a job to another state, and tell those who follow it."""
        self.store.update(job_id, state, reason=reason)
        if state.is_over:
            _logger.info("job %s is %s%s", job_id, state.value, f": {reason}" if reason else "")
        self._feeds.wake(job_id)


async def _take_possession(
    store: JobStore, rules: ServerRules, on_failure: Callable[[str, StoreError], None]
) -> JournalWriter | None:
    """Open the shelf and the journal, both or none.

    Raises:
        ConfigError: Another server has one of them, or it cannot be used.
    """
    store.open()
    try:
        journal = await asyncio.to_thread(open_journal, store.home, project=rules.project)
    except ConfigError:
        store.close()
        raise
    return None if journal is None else JournalWriter(journal, on_failure)


async def _sweep(store: JobStore, root: Path, *, writer: JournalWriter | None) -> None:
    """Do what jobs that are over did not come to do at their end, since a crash came before."""
    for record in store.list():
        if record.state.is_over:
            paths = RunPaths(root, record.number, "server")
            await sweep_up(record.id, paths, rounds=store.folder(record.id) / ROUNDS, writer=writer)


def wanted_by(store: JobStore, record: JobRecord) -> Wanted:
    """What a job wants of the federation.

    Raises:
        ConfigError: Its folder is damaged.
    """
    return read(Job.load(store.folder(record.id) / "job"))


def _checked(archive: Path, folder: Path, gate: AppGate) -> tuple[Job, Wanted]:
    """Unpack a job and look at it; so does the server's own validator.

    Raises:
        ConfigError: The archive or the job is not as it should be.
    """
    unpack(archive, folder)
    job = Job.load(folder)
    wanted = read(job)
    check_job(job, num_sites=max(1, len(wanted.sites or ()), job.min_sites or 0))
    gate.check(Path(app.origin) for app in job.apps.values())
    return job, wanted
