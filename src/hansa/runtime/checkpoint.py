"""How far a simulated run is, on disk, so that it can go on after its process was killed.

::

    runs/20261122-153045-digits/checkpoint/
        job/     the job, saved once
        lock     held by the process that runs it
        state    of the last commit that was to be kept; replaced whole, see `hansa.runtime.checkpoint_file`
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

from hansa.errors import ConfigError, DecodeError, RunError
from hansa.failpoints import reach
from hansa.jobs.job import Job
from hansa.runtime.checkpoint_file import Facts, read_file, sync, write_file
from hansa.runtime.options import Setting, SimulatorOptions
from hansa.runtime.packing import PackingLimits
from hansa.runtime.run import RunStatus
from hansa.runtime.run_folder import HISTORY, read_record, what_failed
from hansa.runtime.run_record import RunRecord
from hansa.runtime.seeding import put_randomness_back, randomness
from hansa.runtime.workflow_progress import Progress
from hansa.wire.blobs import AllocatingSink
from hansa.wire.buffers import Recycler
from hansa.wire.codec import Encoder, decode
from hansa.wire.message import Message

FOLDER = "checkpoint"
_JOB, _LOCK, _STATE = "job", "lock", "state"
_SERVER, _SITE = "server", "site/"

_logger = logging.getLogger("hansa.run")


class Rests(Protocol):
    """The server's side, as far as a checkpoint asks."""

    @property
    def has_tasks(self) -> bool:
        """Whether a site that asks now might be given something."""
        ...


class KeepsStates(Protocol):
    """Whoever holds the sites, as far as a checkpoint asks."""

    @property
    def ended(self) -> Mapping[str, str]:
        """Sites whose part of the run is over, and why."""
        ...

    @property
    def is_working(self) -> bool:
        """Whether a site has a task that it has not answered."""
        ...

    def states(self) -> Mapping[str, Message]:
        """What the components of sites know, for those that have had something to do and keep something."""
        ...


@dataclass(frozen=True)
class Begun:
    """Where a run goes on; by default at its start.

    Attributes:
        progress: The commit.
        randomness: The generators of the server's side at that time.
        states: What the components of sites knew, by site.
        ended: Sites whose part was over, and why.
        history_lines: How many lines the history had.
        config: What the run's record says of what is run.
    """

    progress: Progress = field(default_factory=Progress)
    randomness: Mapping[str, Any] = field(default_factory=dict)  # Any: what generators keep
    states: Mapping[str, Message] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)
    history_lines: int = 0
    config: dict[str, Any] | None = None  # Any: JSON

    def put_randomness_back(self) -> None:
        """Set the generators as they were."""
        put_randomness_back(self.randomness)


class Checkpoints:
    """Keeps every so many commits of one run; made by `begin` or `reopen`.

    Args:
        folder: Its folder below the run's.
        facts: What is run, and how.
        begun: Where the run goes on.
        lock: The file that is locked while the run lasts.
    """

    def __init__(self, folder: Path, facts: Facts, *, begun: Begun, lock: IO[str]) -> None:
        self.begun = begun
        self.facts = facts
        self._folder = folder
        self._lock = lock
        self._sink = AllocatingSink(Recycler())
        self._has_warned = False
        self._server: Rests
        self._crew: KeepsStates
        self._record: RunRecord

    @classmethod
    def begin(cls, run: Path, job: Job, *, every: int) -> Checkpoints:
        """Save the job, so that the run can go on without the program that started it.

        Args:
            run: The run's folder.
            job: What is run.
            every: How many commits there are to a checkpoint.

        Raises:
            ConfigError: The job cannot be saved.
            OSError: The disk.
        """
        folder = run / FOLDER
        folder.mkdir()
        lock = _locked(folder / _LOCK, run)
        try:
            job.save(folder / _JOB)
            Job.load(folder / _JOB)  # a job that cannot be read again is found now, and not after a crash
        except ConfigError as error:
            lock.close()
            where = f"{error.key}: " if error.file is not None else ""
            what = where + error.message.partition(" or run with workers=0")[0]
            raise ConfigError(f"no checkpoint could be kept of this job: {what}", key="checkpoint_every") from None
        facts = {
            "every": every,
            "cwd": str(Path.cwd()),
            "path": [str(Path(entry).absolute()) for entry in sys.path],
            "checked": {name: app.checked for name, app in job.apps.items()},
            "job": _digests(folder / _JOB, durable=True),
        }
        return cls(folder, facts, begun=Begun(), lock=lock)

    @classmethod
    def reopen(cls, run: Path) -> Checkpoints:
        """What a run has kept, for going on with it.

        Args:
            run: The run's folder.

        Raises:
            ConfigError: It is over, runs still, has kept nothing, or what it has kept is damaged.
        """
        record, folder = read_record(run), run / FOLDER
        if record.get("status") == RunStatus.COMPLETED.value:
            raise ConfigError("this run is over (COMPLETED); there is nothing to go on with", file=str(run))
        if not (folder / _LOCK).exists():
            raise ConfigError("this run keeps no checkpoints (--checkpoint-every), so it cannot go on", file=str(run))
        lock = _locked(folder / _LOCK, run)
        try:
            if not (folder / _STATE).exists():
                raise ConfigError("this run was cut off before its first checkpoint; run the job again", file=str(run))
            facts, begun = _read(folder, record.get("config"))
            return cls(folder, facts, begun=begun, lock=lock)
        except ConfigError:
            lock.close()
            raise

    # -- what is run -------------------------------------------------------------------------------------------

    def describe(self, setting: Setting) -> None:
        """Keep under which circumstances the job is run, too."""
        options = setting.options
        self.facts = {
            **self.facts,
            "sites": list(setting.names),
            "seed": setting.seed,
            "workers": setting.workers,
            "threads": setting.threads,
            "options": {
                "tags": {site: list(tags) for site, tags in options.tags.items()},
                "memory_bytes": options.memory_bytes,
                "results_ahead": options.results_ahead,
                "gpus": options.gpus,
                "packing": asdict(options.packing),
            },
        }

    def job(self) -> Job:
        """The job that was saved."""
        job = Job.load(self._folder / _JOB)
        checked = self.facts["checked"]
        return replace(job, apps={name: replace(app, checked=checked[name]) for name, app in job.apps.items()})

    def options(self) -> SimulatorOptions:
        """The options that the run was started with."""
        said = self.facts["options"]
        packing = PackingLimits(**said["packing"])
        return SimulatorOptions(threads_per_site=self.facts["threads"], **{**said, "packing": packing})

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Be in the working directory that the run was started in, with its import path behind this program's.

        Raises:
            ConfigError: The directory is gone.
        """
        before, cwd = list(sys.path), Path.cwd()
        try:
            os.chdir(self.facts["cwd"])
        except OSError as error:
            raise ConfigError(f"the run's working directory is gone: {what_failed(error)}", key="resume") from None
        try:
            sys.path += [entry for entry in self.facts["path"] if entry not in before and Path(entry).exists()]
            yield
        finally:
            sys.path[:] = before
            with suppress(OSError):
                os.chdir(cwd)

    # -- while it runs -----------------------------------------------------------------------------------------

    def attend(self, server: Rests, crew: KeepsStates, *, record: RunRecord) -> None:
        """Say whose progress is kept."""
        self._server, self._crew, self._record = server, crew, record

    def keep(self, progress: Progress) -> None:
        """Keep a commit, if its turn has come; durable when it returns. On the workflow's thread.

        Raises:
            EncodeError: Something in it has no form on disk.
            RunError: It cannot be written; the checkpoint before is whole.
        """
        reach("aggregate.after_before_commit")
        if progress.version % self.facts["every"]:
            return
        if self._server.has_tasks or self._crew.is_working:
            self._warn_once()
            return
        value = {"progress": vars(progress), "randomness": randomness()}
        messages = {_SERVER: Encoder(sink=self._sink).encode(value)}
        messages |= {_SITE + site: state for site, state in self._crew.states().items()}
        self._record.flush()
        history = self._record.run.history
        facts = {**self.facts, "history_lines": history.num_lines, "ended": dict(self._crew.ended)}
        try:
            if (self._folder.parent / HISTORY).exists():
                sync(self._folder.parent / HISTORY)
            write_file(self._folder / _STATE, facts, messages)
        except OSError as error:
            raise RunError(f"cannot keep a checkpoint: {what_failed(error)}") from error
        reach("commit.after_before_broadcast")

    def discard(self, *, num_commits: int) -> None:
        """The run is over and well: there is nothing left to go on with."""
        if not num_commits:
            _logger.warning("no workflow of this job commits, so no checkpoint was kept: it could not have gone on")
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the run."""
        self._lock.close()

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "the workflow commits while a task stands, so no checkpoint is kept then: the run could not go on "
                "from there with the same bits"
            )


def check_every(every: int | None, options: SimulatorOptions | None) -> None:
    """Refuse what cannot be.

    Raises:
        ConfigError: It is no number of at least 1, or the run has simulated times.
    """
    if every is None:
        return
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ConfigError(f"must be an integer >= 1, not {every!r}", key="checkpoint_every")
    if options is not None and options.times is not None:
        raise ConfigError(
            "does not go with simulated times: results that are under way are not kept", key="checkpoint_every"
        )


def warn_of_versions(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say that the software is another one than in the beginning, if it is."""
    changed = [f"{name} {before[name]}, now {now.get(name)}" for name in before if before[name] != now.get(name)]
    if changed:
        _logger.warning("the run was begun with other software, so its bits may differ: %s", "; ".join(changed))


def _read(folder: Path, config: dict[str, Any] | None) -> tuple[Facts, Begun]:  # Any: JSON
    file = folder / _STATE
    try:
        facts, messages = read_file(file)
        if _digests(folder / _JOB) != facts["job"]:
            file = folder / _JOB
            raise DecodeError("its digest is another one")
        value = decode(messages.pop(_SERVER), arrays="own")
        begun = Begun(
            Progress.of(value["progress"]),
            value["randomness"],
            {name.removeprefix(_SITE): state for name, state in messages.items()},
            facts["ended"],
            facts["history_lines"],
            config,
        )
    except (DecodeError, LookupError, TypeError, ValueError, OSError) as error:
        raise ConfigError(
            f"the checkpoint is damaged, and the run cannot go on from it: {error}", file=str(file)
        ) from None
    return {key: value for key, value in facts.items() if key not in ("ended", "history_lines")}, begun


def _digests(folder: Path, *, durable: bool = False) -> dict[str, str]:
    """The digest of each file below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
        if durable:
            sync(path)
    return found


def _locked(path: Path, run: Path) -> IO[str]:
    """A file that only one process at a time has; the system unlocks it when the process ends, however it does."""
    stream = path.open("a+")
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no child has it, unlike a lock of `flock`
    except (BlockingIOError, PermissionError):
        stream.seek(0)
        with stream:
            raise ConfigError(f"this run is still running (process {stream.read().strip()})", file=str(run)) from None
    stream.truncate(0)
    stream.write(f"{os.getpid()}\n")
    stream.flush()
    return stream
