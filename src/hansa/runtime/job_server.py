"""A job's process on the server: its workflows, and the way of each round to sites in processes of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from hansa.apis.client import Client
from hansa.apis.folding import FoldsAtSource
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, EncodeError, HansaError, RunError
from hansa.failpoints import reach
from hansa.jobs.build import Builder
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode, check_names
from hansa.jobs.flare_alias import served_for
from hansa.jobs.job import Job
from hansa.jobs.workflow_check import check_workflows
from hansa.runtime.attendance import Attendance, Patience
from hansa.runtime.disk_patience import DiskPatience
from hansa.runtime.engines import Services
from hansa.runtime.file_blobs import BlobFolder, Packing
from hansa.runtime.file_memory import FileMemory
from hansa.runtime.fork_server import ProcessSpec
from hansa.runtime.job_args import ServerArgs, blob_folder, log_to_stderr, policy_of
from hansa.runtime.members import Members
from hansa.runtime.net_crew import CrewTold, FramePipe, NetCrew
from hansa.runtime.net_dispatcher import NetDispatcher
from hansa.runtime.participants import SERVER, Headquarters, Place, RunParts, make_server
from hansa.runtime.phases import Phases
from hansa.runtime.process_end import leave
from hansa.runtime.real_loop import RealTimeLoop
from hansa.runtime.recall import Recall, read_recall
from hansa.runtime.run import RunStatus, Timings
from hansa.runtime.run_folder import RunFolder, what_failed
from hansa.runtime.run_log import LogFile
from hansa.runtime.run_record import RunRecord, config_of, verdict, versions
from hansa.runtime.salvage import salvage
from hansa.runtime.seeding import put_randomness_back, randomness, seed_everything, task_seed
from hansa.runtime.server_side import ServerSettings, ServerSide
from hansa.runtime.workflow_progress import Progress
from hansa.wire.codec import Encoder
from hansa.wire.pipe import connect_pipe

_MOST_ROUNDS = 64
"""So many rounds of the history stay in memory: their values are asked for by handlers, the rest is on disk."""

_logger = logging.getLogger("hansa.run")


def main(spec: ProcessSpec) -> None:
    """Connect to the server process and run the job that the arguments name."""
    log_to_stderr()
    pipe = connect_pipe(spec.address, spec.token)
    try:
        status, cause = run_job(pipe, ServerArgs(**spec.args))
        pipe.send({"k": "done", "status": status.value, "cause": cause})
    except ConnectionError:  # the server process is gone, and nobody wants to hear how it ended
        leave()
    # The pipe closes with the process: the listening thread would take it for the server's end, and this one with it.


def run_job(pipe: FramePipe, args: ServerArgs) -> tuple[RunStatus, str | None]:
    """Run a job to its end; returns how it ended, and why."""
    try:
        if args.gave_up is not None:
            return salvage(args)
        with ExitStack() as cleanup:
            job = Job.load(args.job_folder)
            Path(args.run_folder).mkdir(parents=True, exist_ok=True)
            folder = RunFolder(Path(args.run_folder))
            cleanup.callback(folder.close)
            log = cleanup.enter_context(LogFile(folder.path))
            cleanup.enter_context(threadpool_limits(limits=args.threads))
            run = ServerJob(pipe, args, job=job, folder=folder, cleanup=cleanup)
            log.flush_later(run.record.writer.write_later)
            return run.play(cleanup)
    except HansaError as error:
        return RunStatus.FAILED, str(error)
    except OSError as error:
        return RunStatus.FAILED, f"cannot keep the run: {what_failed(error)}"


class ServerJob:
    """One job on the server, from its folder to its end.

    Args:
        pipe: The way to the server process.
        args: What it is told.
        job: The job.
        folder: Where the run is kept.
        cleanup: What must be undone at the end.
    """

    def __init__(self, pipe: FramePipe, args: ServerArgs, *, job: Job, folder: RunFolder, cleanup: ExitStack) -> None:
        self._args = args
        self._job = job
        self._began = time.perf_counter()
        self._loop = RealTimeLoop()
        self._clock_began = self._loop.now()
        self._phases = Phases()
        self._abort = Signal()
        self._stopped_because: str | None = None
        self._stopped_as = RunStatus.ABORTED
        self._num_rounds: int | None = None
        self._told_round: int | None = None
        self._server: ServerSide | None = None
        told = config_of(job, sorted(args.sites), seed=args.seed, workers=0, threads=args.threads)
        clock = self._loop.now
        self.record = RunRecord(folder, {**told, "versions": versions()}, clock=clock, most_rounds=_MOST_ROUNDS)
        cleanup.callback(self.record.writer.close)
        self.record.on_line = self._wrote
        blobs = blob_folder(args.workspace, args.run_number)
        self._sums = FileMemory(blobs)
        self._recall = Recall() if args.recall is None else read_recall(Path(args.recall))
        start = self._recall.start
        self._disk = DiskPatience(self._disk_refuses, lambda: not self._abort.triggered)
        folder.on_refusal, folder.on_taken = self._disk.refused, self._disk.taken
        self._blobs = BlobFolder(blobs, f"task-{start}", on_written=self._sums.let_go, patience=self._disk)
        self._commits = BlobFolder(blobs, f"commit-{start}", patience=self._disk)
        if args.recall is not None:
            self.record.resume(self._recall.history_lines)
        members = Members(
            [_client(name, args.tags.get(name, ())) for name in args.sites],
            min_sites=args.min_sites,
            mandatory=args.mandatory,
        )
        self._crew = NetCrew(
            pipe,
            members,
            packing=Packing(self._blobs),
            told=CrewTold(self.record.failed, self._loop.nudge, self._stop, leave),
            run_number=args.run_number,
            recall=self._recall,
        )
        self._attendance = Attendance(
            self._crew,
            self._loop,
            patience=Patience(args.start_timeout_s, args.quorum_wait_s),
            on_failure=self.record.failed,
            fail=self._fail,
        )

    def play(self, cleanup: ExitStack) -> tuple[RunStatus, str | None]:
        """Run it; returns how it ended, and why."""
        run = self.record.run
        started = time.perf_counter()
        try:
            self._crew.listen()
            self._server = self._build(cleanup)
            self.record.on_panic = self._server.panic
            if self._stopped_because is not None:
                self._server.stop(self._stopped_because)
            self._attendance.await_ready(lambda: self._abort.triggered)
            self._disk.write(lambda: self.record.write({}))
            self._server.start()
            self._attendance.start_sites(lambda: self._abort.triggered)
            started = time.perf_counter()
            with threadpool_limits(limits=self._args.threads):  # again: the job's own code may have loaded a library
                self._dispatch(self._server)
            ended = time.perf_counter()
            self._attendance.end_sites()
            self._server.end()
            self.record.end(self._server)
            run.timings = self._timings(started, ended)
            run.status, run.cause = verdict(self._server, run.history)
            if run.status is RunStatus.ABORTED:
                run.status = self._stopped_as
        except (ConfigError, RunError) as error:
            self._attendance.end_sites()
            aborted = self._stopped_because is not None
            run.status = self._stopped_as if aborted else RunStatus.FAILED
            run.cause = self._stopped_because if aborted else str(error)
        sent = {} if self._server is None else {SERVER: self._server.outbox.sent}
        self._disk.write(lambda: self.record.write({**sent, **self._crew.sent()}))
        self._wrote()
        return run.status, run.cause

    def _dispatch(self, server: ServerSide) -> None:
        NetDispatcher(
            server,
            self._crew,
            attendance=self._attendance,
            loop=self._loop,
            phases=self._phases,
            on_progress=self._progress,
        ).run()

    def _timings(self, started: float, ended: float) -> Timings:
        history = self.record.run.history
        return Timings(
            started - self._began,
            ended - started,
            time.perf_counter() - ended,
            dict(self._phases.seconds),
            tuple(history.seconds),
            virtual=self._loop.now() - self._clock_began,
            virtual_rounds=tuple(history.virtual_seconds),
        )

    # -- building ----------------------------------------------------------------------------------------------

    def _build(self, cleanup: ExitStack) -> ServerSide:
        args, job = self._args, self._job
        cleanup.enter_context(served_for(job))
        app = job.server_app
        check_names(app)
        place = Place(args.workspace, SERVER, args.run_number)
        app.deploy(place.app_folder, Side.SERVER)
        custom = cleanup.enter_context(CustomCode(place.app_folder / "custom")).modules
        builder = Builder(policy_of(args.policy), known=job.classes, custom=custom)
        seed_everything(task_seed(args.seed, f"build/{SERVER}"))
        file = app.config_file(Side.SERVER)
        config = app.config(Side.SERVER, num_sites=len(args.sites))
        check_workflows(config, file, num_sites=len(args.sites))
        wanted = [workflow.get("args", {}).get("num_rounds") for workflow in config["workflows"]]
        self._num_rounds = sum(n for n in wanted if isinstance(n, int)) or None
        run = self.record.run
        built = builder.server(config, file)
        for part in built.components.values():
            if isinstance(part, FoldsAtSource):
                part.use_memory(self._sums.allocate, rest=self._sums.let_go)
        server, end = make_server(
            ServerSettings(
                args.seed,
                self.record.failed,
                self._phases,
                may_fold=False,
                open_sink=self._blobs.sink,
                maps_results=True,
                keep_progress=self._keep,
                begun=self._recall.progress,
            ),
            built,
            place,
            shared=RunParts(self._crew.aux, self._abort, builder),
            office=Headquarters(
                Services(self._loop, run.history, self.record.writer, {"run": args.job_id, **run.config}),
                job.name,
                lambda: list(self._crew.members.clients().values()),
            ),
        )
        self._crew.aux.server = end
        server.engine.decisions = self._recall.decisions
        server.engine.on_decision = self._decide
        begun = self._recall.progress
        if begun.version:
            server.progress.on_restored = lambda: put_randomness_back(begun.randomness)
        return server

    # -- what is heard and told --------------------------------------------------------------------------------

    def _stop(self, reason: str, status: RunStatus) -> None:
        """The run is to stop; any thread."""
        if self._stopped_because is None:
            self._stopped_because, self._stopped_as = reason, status
        if self._server is not None:
            self._server.stop(reason)
        else:
            self._abort.trigger(reason)
            self._loop.notify()

    def _fail(self, cause: str) -> None:
        """Too few sites are left; on the dispatcher's thread."""
        assert self._server is not None
        self._server.outcome.failures.append(RunError(cause))
        self._server.stop(cause)
        self._server.cancel_tasks()

    def _progress(self, site: str) -> None:
        self._sums.let_go()
        rounds = self.record.run.history.rounds
        if rounds and rounds[-1].number != self._told_round:
            self._told_round = rounds[-1].number
            self.record.writer.write_later("progress", self._tell_progress)

    def _tell_progress(self) -> None:
        self._crew.tell({"k": "progress", "round": self._told_round, "of": self._num_rounds})

    def _decide(self, key: str, value: Any) -> None:  # Any: JSON
        self._crew.tell({"k": "decision", "key": key, "value": value})
        reach("round.after_open")

    def _keep(self, progress: Progress) -> None:
        """Hand a commit to the server process: nothing that follows from it leaves before it is durable."""
        reach("aggregate.after_before_commit")
        sink, clear = self._commits.sink()
        try:
            message = Encoder(sink=sink).encode({**vars(progress), "randomness": randomness()})
        except EncodeError:
            clear()
            raise
        self.record.flush()
        rounds = self.record.run.history.rounds
        self._crew.tell(
            {
                "k": "commit",
                "version": progress.version,
                "workflow": progress.workflow,
                "postings": progress.postings,
                "history_lines": self.record.run.history.num_lines,
                "first_round": rounds[-1].number + 1 if rounds else 0,
            },
            message,
        )

    def _disk_refuses(self, cause: str | None) -> None:
        self._crew.tell({"k": "disk", "cause": cause})

    def _wrote(self) -> None:
        self._crew.tell({"k": "wrote"})


def _client(name: str, tags: Sequence[str]) -> Client:
    client = Client(name, "")
    if tags:
        client.props["tags"] = list(tags)
    return client
