"""`simulate()` and `resume()`: a whole federation in this process, from a job to a `Run`."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hansa.apis.format_check import name_check
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.jobs.config import Side
from hansa.jobs.job import App, Job
from hansa.jobs.source_files import portable
from hansa.runtime.checkpoint import Checkpoints, check_every, warn_of_versions
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.federation import DispatchOptions, Federation
from hansa.runtime.options import Setting, SimulatorOptions
from hansa.runtime.participants import SERVER
from hansa.runtime.progress import Progress
from hansa.runtime.run import Run, RunStatus, Timings
from hansa.runtime.run_folder import RunFolder, find_run, runs_home, what_failed
from hansa.runtime.run_log import LogFile
from hansa.runtime.run_record import verdict, versions
from hansa.runtime.seeding import server_randomness_untouched
from hansa.runtime.stage import Stage

EPOCH = float(2**30)
PATIENCE_S = 10.0
"""With simulated times: how long a workflow may be busy before the virtual clock goes on without it."""

_logger = logging.getLogger("hansa.run")
_running = threading.RLock()  # a run may start another inside its own thread


def simulate(
    job: Job | str | os.PathLike[str],
    sites: int | Sequence[str],
    *,
    workers: int | None = None,
    seed: int = 0,
    home: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    abort_signal: Signal | None = None,
    options: SimulatorOptions | None = None,
    checkpoint_every: int | None = None,
) -> Run:
    """Run a job over simulated sites, in processes of their own or in this one.

    The same job, sites and seed give the same global model, bit for bit, whatever the number of workers, where the
    job's own code is deterministic.

    Args:
        job: The job, or the folder of one.
        sites: How many sites (`site-1`, `site-2`, ...) or their names.
        workers: How many processes hold the sites; 0: this one does, for a debugger. None: `$HANSA_WORKERS`, else one
            per core; or none, with a warning, where a class of the job cannot travel (it stands in a function).
        seed: Where all randomness of the run comes from, >= 0.
        home: The folder that keeps runs; `$HANSA_HOME/runs` or `./runs` if None.
        progress: Show a live line; None: only in a terminal.
        abort_signal: Trigger it from another thread to stop the run.
        options: What few need.
        checkpoint_every: After every so many commits (rounds) keep what `resume` needs to go on after this process was
            killed; None: never.

    Returns:
        The record of the run.

    Raises:
        ConfigError: The job or an argument is wrong, or another thread has a run under way; nothing is left behind.
        RunError: The run failed; its record is kept (`error.folder`).
        RunAborted: The abort signal was triggered.
    """
    began = time.perf_counter()
    if not isinstance(job, Job | str | os.PathLike):
        raise ConfigError(f"must be a Job or the folder of one, not {job!r}", key="job")
    loaded = job if isinstance(job, Job) else Job.load(Path(job))
    names = site_names(sites)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"must be an integer >= 0, not {seed!r}", key="seed")
    check_every(checkpoint_every, options)
    with ExitStack() as cleanup:
        cleanup.enter_context(_only_run_of_the_process())
        # Absolute, since the job's own code may change the working directory.
        folder = RunFolder.create(runs_home(home).absolute(), loaded.name)
        scene = _Scene(folder, cleanup)
        try:
            options = options or SimulatorOptions()
            threads = options.threads_per_site or loaded.meta.get("threads_per_site", 1)
            if checkpoint_every is not None:
                scene.checkpoints = Checkpoints.begin(folder.path, loaded, every=checkpoint_every)
            stage = scene.set(loaded, Setting(names, seed, *_apps_for(loaded, workers), threads, options))
        except (ConfigError, RunError, OSError, KeyboardInterrupt) as error:  # it never began
            cleanup.close()
            folder.discard()
            if isinstance(error, OSError):
                raise ConfigError(f"cannot set up the run: {what_failed(error)}", file=str(folder.path)) from error
            raise
        return scene.play(stage, progress=progress, abort_signal=abort_signal, began=began)


def resume(
    run: Run | str | os.PathLike[str],
    *,
    home: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    abort_signal: Signal | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, in its own folder, after its process was killed or it was stopped.

    Job, sites, seed, workers and everything else are those of the run. Its global model will be the same, bit for bit,
    as if nothing had happened, where the job's own code is deterministic and keeps what it knows in `state()`.

    Args:
        run: The run, its folder, its name, the beginning of its name, or `last`.
        home: The folder that keeps runs; `$HANSA_HOME/runs` or `./runs` if None.
        progress: Show a live line; None: only in a terminal.
        abort_signal: Trigger it from another thread to stop the run.

    Returns:
        The record of the run.

    Raises:
        ConfigError: There is no such run, it is over, runs still, has no checkpoint or a damaged one; nothing changed.
        RunError: The run failed; its record is kept (`error.folder`).
        RunAborted: The abort signal was triggered.
    """
    began = time.perf_counter()
    path = run.folder if isinstance(run, Run) else find_run(os.fspath(run), runs_home(home))
    with ExitStack() as cleanup:
        cleanup.enter_context(_only_run_of_the_process())
        folder = RunFolder(path.absolute())
        scene = _Scene(folder, cleanup)
        try:
            scene.checkpoints = kept = Checkpoints.reopen(folder.path)
            cleanup.enter_context(kept.surroundings())
            warn_of_versions((kept.begun.config or {}).get("versions", {}), versions())
            job, facts = kept.job(), kept.facts
            number, apps = _apps_for(job, facts["workers"])
            setting = Setting(facts["sites"], facts["seed"], number, apps, facts["threads"], kept.options())
            stage = scene.set(job, setting)
        except OSError as error:
            raise ConfigError(f"cannot go on with the run: {what_failed(error)}", file=str(folder.path)) from error
        return scene.play(stage, progress=progress, abort_signal=abort_signal, began=began)


class _Scene:
    """A run from its folder to its record.

    Args:
        folder: Where it is kept.
        cleanup: Undoes it.
    """

    def __init__(self, folder: RunFolder, cleanup: ExitStack) -> None:
        self.checkpoints: Checkpoints | None = None
        self._folder = folder
        self._cleanup = cleanup
        cleanup.callback(folder.close)
        cleanup.callback(self._let_go)
        cleanup.enter_context(server_randomness_untouched())
        self._log = cleanup.enter_context(LogFile(folder.path))

    def set(self, job: Job, setting: Setting) -> Stage:
        """Build everything."""
        cleanup = self._cleanup
        setting = setting.for_job(job)
        cleanup.enter_context(_threads_per_site(setting.threads))
        # With simulated times the clock starts at the same time in every run, so that sums round alike.
        simulated = setting.options.times is not None
        loop = EventLoop(epoch=EPOCH, patience_s=PATIENCE_S) if simulated else EventLoop()
        if self.checkpoints is not None:
            self.checkpoints.describe(setting)
        stage = Stage(job, setting, folder=self._folder, loop=loop, checkpoints=self.checkpoints)
        cleanup.enter_context(stage)
        self._log.flush_later(stage.writer.write_later)
        return stage

    def play(self, stage: Stage, *, progress: bool | None, abort_signal: Signal | None, began: float) -> Run:
        """Run it to its end."""
        if abort_signal is not None:
            self._cleanup.enter_context(_stopped_by(abort_signal, stage))
        try:
            run = _play(stage, progress=progress, began=began)
        except OSError as error:  # what user code raises is fenced off, so this is the record
            failed = RunError(f"cannot keep the run: {what_failed(error)}")
            failed.folder = str(self._folder.path)
            raise failed from error
        if self.checkpoints is not None:
            self.checkpoints.discard(num_commits=stage.server.progress.version)
        return run

    def _let_go(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.close()


@contextmanager
def _only_run_of_the_process() -> Iterator[None]:
    """Random generators and imported modules belong to the process: two runs at a time would mix theirs, unseen."""
    if not _running.acquire(blocking=False):
        raise ConfigError(
            "another thread of this process has a run under way; start one after the other, or each in its own process"
        )
    try:
        yield
    finally:
        _running.release()


def site_names(sites: int | Sequence[str]) -> list[str]:
    """The names of the sites, as given or `site-1` to `site-n`.

    Raises:
        ConfigError: No site, a name that is not allowed, or one given twice.
    """
    if isinstance(sites, bool) or not isinstance(sites, int | Sequence) or isinstance(sites, str):
        raise ConfigError(f"must be a number or a list of names, not {sites!r}", key="sites")
    names = [f"site-{i + 1}" for i in range(sites)] if isinstance(sites, int) else list(sites)
    if not names:
        raise ConfigError("a federation needs at least one site", key="sites")
    for name in names:
        bad, reason = name_check(name, "client") if isinstance(name, str) else (True, f"{name!r} is not a name")
        if bad or name == SERVER:
            raise ConfigError(reason if bad else f"{SERVER!r} is the server's name", key="sites")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConfigError(f"{twice!r} is given twice", key="sites")
    return names


def _apps_for(job: Job, wanted: int | None) -> tuple[int, Mapping[str, App]]:
    """How many workers, and the apps as sites run them there; none where nobody asked and a class cannot travel."""
    number = num_workers(wanted)
    if number:
        try:
            return number, portable(job, only=Side.CLIENT)
        except ConfigError as error:
            if wanted is not None:
                raise
            _logger.warning("%s; as no number of workers was given, the sites run in this process", error)
    return 0, job.apps


def num_workers(wanted: int | None) -> int:
    """How many workers: as given, as `$HANSA_WORKERS` says, or one per core that this process may use.

    Raises:
        ConfigError: It is no number of at least 0.
    """
    given: object = os.environ.get("HANSA_WORKERS") if wanted is None else wanted
    if given is None or given == "":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(given, str) and given.isdecimal():
        return int(given)
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ConfigError(
            f"must be an integer >= 0, not {given!r}", key="HANSA_WORKERS" if wanted is None else "workers"
        )
    return given


def _threads_per_site(number: int) -> Any:  # Any: threadpoolctl is not typed
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=number)


@contextmanager
def _stopped_by(signal: Signal, stage: Stage) -> Iterator[None]:
    def stop() -> None:
        stage.server.stop("aborted by the caller")

    signal.subscribe(stop)  # at once, if it is triggered already
    try:
        yield
    finally:
        signal.unsubscribe(stop)


def _play(stage: Stage, *, progress: bool | None, began: float) -> Run:
    run = stage.run
    built = time.perf_counter()
    try:
        with Progress(run.history, stage.num_rounds, show=progress, phases=stage.phases.seconds) as line:
            stage.start()
            started = time.perf_counter()
            with _threads_per_site(stage.threads):  # again: the job's own code may have loaded a library since
                Federation(
                    stage.server,
                    stage.crew,
                    clients=stage.live_clients,
                    loop=stage.loop,
                    phases=stage.phases,
                    options=DispatchOptions(line.update, stage.times),
                ).run()
    except KeyboardInterrupt:
        _finish(stage, (began, built, time.perf_counter()), (RunStatus.ABORTED, "interrupted from the keyboard"))
        raise
    _finish(stage, (began, started, time.perf_counter()))
    status, cause = run.status, run.cause
    if status is RunStatus.COMPLETED:
        return run
    kind = RunAborted if status is RunStatus.ABORTED else RunError
    error = stage.server.outcome.failures[0] if status is RunStatus.FAILED else kind(cause or "stopped")
    error.folder = str(run.folder)
    raise error


def _finish(
    stage: Stage, times: tuple[float, float, float], ended_by: tuple[RunStatus, str | None] | None = None
) -> None:
    began, started, ended = times
    stage.end()
    history = stage.run.history
    timings = Timings(
        started - began,
        ended - started,
        time.perf_counter() - ended,
        dict(stage.phases.seconds),
        tuple(history.seconds),
        virtual=stage.virtual_seconds,
        virtual_rounds=tuple(history.virtual_seconds),
    )
    stage.run.timings = timings
    # only now: the end may fail, too
    stage.run.status, stage.run.cause = ended_by or verdict(stage.server, stage.run.history)
    stage.write_record()
