"""The server's shelf of jobs: a folder for each, and its state in a file that is whole at every moment.

::

    jobs/
      .lock               held by the server that owns the shelf
      .last               the highest number that was given, once jobs were removed
      .removed            the stamps and numbers of jobs that were removed, one a line, the newest last
      0001-digits/
        state.json        who submitted it and when, its state, and every state it had
        job/              the job's folder as it was submitted
        run/              the record of its run
        deploy/           the apps as they are handed out
        rounds/, begun/   see hansa.runtime.kept_rounds
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hansa.errors import ConfigError
from hansa.failpoints import wall_time
from hansa.jobs.life import JobState, StateChange, check_step

if TYPE_CHECKING:
    from hansa.jobs.job import Job  # brings NumPy, which a table of jobs needs not

STATE = "state.json"
LAST = ".last"
"""Keeps the highest number that was given, once jobs were removed."""
FORMAT_VERSION = 1

_REMOVED, _MOST_REMOVED = ".removed", 10_000
_MAX_SLUG = 60
_ID = re.compile(r"(\d{4,})-[A-Za-z0-9_.-]+")

_log = logging.getLogger("hansa.server")


@dataclass(frozen=True)
class JobRecord:
    """A job as the server knows it.

    Attributes:
        id: Its name on this server: number and name, such as `0001-digits`.
        number: The server's own count, FLARE's run number.
        name: What people call it.
        submitter: Who submitted it, from the certificate.
        submitted_at: When, in seconds since 1970.
        changes: Every state it had, the first one SUBMITTED.
        sites: The sites that take part, once chosen.
        gpus: The GPUs that it was given at some of them.
        priority: The higher, the earlier.
        abort: Why it is to be stopped, once somebody has said so: it never goes on, whatever happens meanwhile.
        round: The round it is in, where the job says so.
        num_rounds: How many rounds it will have, where the job says so.
    """

    id: str
    number: int
    name: str
    submitter: str
    submitted_at: float
    changes: tuple[StateChange, ...]
    sites: tuple[str, ...] = ()
    gpus: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    priority: int = 0
    abort: str | None = None
    round: int | None = None
    num_rounds: int | None = None

    @property
    def state(self) -> JobState:
        """How it stands."""
        return self.changes[-1].state

    @property
    def reason(self) -> str | None:
        """Why it stands so: what it waits for, or what went wrong."""
        return self.changes[-1].reason

    @property
    def stamp(self) -> str:
        """What tells it from a job of the same id on another server."""
        return f"{self.id}@{self.submitted_at!r}"

    @property
    def started_at(self) -> float | None:
        """When its workflows began."""
        return next((change.at for change in self.changes if change.state is JobState.RUNNING), None)

    @property
    def ended_at(self) -> float | None:
        """When it was over."""
        return self.changes[-1].at if self.state.is_over else None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data, with what follows from it, for readers that are no Python."""
        return {
            "id": self.id,
            "number": self.number,
            "name": self.name,
            "submitter": self.submitter,
            "submitted_at": self.submitted_at,
            "state": self.state.value,
            "reason": self.reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "sites": list(self.sites),
            "gpus": {site: list(own) for site, own in self.gpus.items()},
            "priority": self.priority,
            "abort": self.abort,
            "round": self.round,
            "num_rounds": self.num_rounds,
            "changes": [change.as_dict() for change in self.changes],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> JobRecord:  # Any: JSON
        """The record that plain data describe; what a newer version adds is left out.

        Raises:
            KeyError, ValueError, TypeError: They describe none.
        """
        changes = tuple(StateChange.from_dict(change) for change in content["changes"])
        if not changes:
            raise ValueError("a job without a state")
        return cls(
            id=str(content["id"]),
            number=int(content["number"]),
            name=str(content["name"]),
            submitter=str(content["submitter"]),
            submitted_at=float(content["submitted_at"]),
            changes=changes,
            sites=tuple(content.get("sites", ())),
            gpus={str(site): tuple(own) for site, own in content.get("gpus", {}).items()},
            priority=int(content.get("priority", 0)),
            abort=content.get("abort"),
            round=content.get("round"),
            num_rounds=content.get("num_rounds"),
        )


class JobStore:
    """Keeps the records of all jobs, in memory and on disk. One thread uses it; one process at a time may own it.

    Args:
        home: The shelf; made by `open` if need be.
        now: Seconds since 1970.
    """

    def __init__(self, home: Path, *, now: Callable[[], float] = wall_time) -> None:
        self.home = home
        self.damaged: dict[str, str] = {}
        """Folders that hold no readable job, and why; they are left as they are."""
        self.on_keep: Callable[[JobRecord], None] = lambda record: None
        """Told of each record that was made durable."""
        self._now = now
        self._records: dict[str, JobRecord] = {}
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Take possession, read what is there, and sweep away what a crash left half made.

        Raises:
            ConfigError: Another server owns the shelf, or it cannot be read.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.home / ".lock").open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot keep jobs here: {error.strerror}", file=str(self.home)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise ConfigError("another server that runs keeps its jobs here", file=str(self.home)) from None
        self._lock = lock
        for path in sorted(self.home.iterdir()):
            if path.name.startswith(".new-"):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                self._read(path)

    def close(self) -> None:
        """Let go of the shelf."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def new_job(self, submitted: Path, job: Job, *, submitter: str, begun: Path | None = None) -> JobRecord:
        """Put a job on the shelf.

        Args:
            submitted: Its folder, checked; it is moved, so it must lie on the same file system.
            job: What lies there.
            submitter: Who submitted it.
            begun: The folder of the round that it begins from; it is moved, too.

        Returns:
            Its record; durable.

        Raises:
            ConfigError: The disk takes nothing; nothing is left behind.
        """
        number = self._next_number()
        now = self._now()
        record = JobRecord(
            id=f"{number:04d}-{_slug(job.name)}",
            number=number,
            name=job.name,
            submitter=submitter,
            submitted_at=now,
            changes=(StateChange(JobState.SUBMITTED, now),),
            priority=int(job.meta.get("priority", 0)),
        )
        fresh = self.home / f".new-{record.id}"
        try:
            for part in ("run", "deploy"):
                (fresh / part).mkdir(parents=True)
            submitted.rename(fresh / "job")
            if begun is not None:
                begun.rename(fresh / "begun")
            _write(fresh, record)
            fresh.rename(self.home / record.id)
            _sync(self.home)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise ConfigError(f"the job cannot be kept: {error.strerror}", file=str(self.home)) from None
        self._records[record.id] = record
        self.on_keep(record)
        return record

    def put_back(self, record: JobRecord) -> None:
        """Have a record again that could not be read."""
        self.damaged.pop(record.id, None)
        self._records[record.id] = record
        self._keep(record)

    def remove(self, job: str) -> JobRecord:
        """Take a job that is over off the shelf, with all that lies in its folder; its number is never given again.

        Raises:
            ConfigError: There is no such job, it is not over, or its folder cannot be removed.
        """
        record = self.get(job)
        if not record.state.is_over:
            raise ConfigError(f"job {record.id} is not over: it is {record.state.value}")
        leaving = self.home / f".new-removed-{record.id}"  # what `open` sweeps away, should this end halfway
        try:
            (self.home / LAST).write_text(f"{self._next_number() - 1}\n", encoding="ascii")
            self._note_removed(record)
            _sync(self.home)
            (self.home / record.id).rename(leaving)
            _sync(self.home)
        except OSError as error:
            raise ConfigError(f"job {record.id} cannot be removed: {error.strerror}", file=str(self.home)) from None
        del self._records[record.id]
        shutil.rmtree(leaving, ignore_errors=True)
        return record

    def _note_removed(self, record: JobRecord) -> None:
        file = self.home / _REMOVED
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        lines = [*lines, f"{record.number} {record.stamp}"][-_MOST_REMOVED:]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def removed(self) -> dict[str, int]:
        """The numbers of the jobs that were removed last, by stamp."""
        try:
            lines = (self.home / _REMOVED).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found = (line.partition(" ") for line in lines)
        return {stamp: int(number) for number, _, stamp in found if number.isdecimal()}

    def folder(self, job: str) -> Path:
        """The folder of a job.

        Raises:
            ConfigError: There is no such job.
        """
        return self.home / self.get(job).id

    def get(self, job: str) -> JobRecord:
        """The record of a job, by its whole id.

        Raises:
            ConfigError: There is no such job.
        """
        try:
            return self._records[job]
        except KeyError:
            raise ConfigError(f"there is no job {job!r}", key="job") from None

    def goes_on(self, job: str) -> bool:
        """Whether there is such a job, and it is not over."""
        record = self._records.get(job)
        return record is not None and not record.state.is_over

    def list(self) -> list[JobRecord]:
        """All jobs, oldest first."""
        return sorted(self._records.values(), key=lambda record: record.number)

    def update(
        self,
        job: str,
        state: JobState,
        *,
        reason: str | None = None,
        sites: Sequence[str] | None = None,
        gpus: Mapping[str, Sequence[int]] | None = None,
    ) -> JobRecord:
        """Bring a job to another state, or give its state another reason; note who takes part, with which GPUs.

        Returns:
            Its record; durable, but for a new reason alone: what a job waits for changes often.

        Raises:
            RunError: This state may not follow (an aborted job never revives).
            ConfigError: There is no such job.
        """
        record = self.get(job)
        check_step(job, record.state, state)
        if state is record.state:
            # A new reason takes the place of the old one: a job may wait long, and for many things in turn.
            changes = (*record.changes[:-1], replace(record.changes[-1], reason=reason))
        else:
            changes = (*record.changes, StateChange(state, self._now(), reason))
        fresh = replace(
            record,
            changes=changes,
            sites=record.sites if sites is None else tuple(sites),
            gpus=record.gpus if gpus is None else {site: tuple(own) for site, own in gpus.items()},
        )
        if state is not record.state or fresh.sites != record.sites:
            self._keep(fresh)
        self._records[job] = fresh
        return fresh

    def abort(self, job: str, reason: str) -> JobRecord:
        """Note that a job is to be stopped; durable.

        Raises:
            ConfigError: There is no such job.
        """
        fresh = self._records[job] = replace(self.get(job), abort=reason)
        self._keep(fresh)
        return fresh

    def progress(self, job: str, round_number: int | None, *, num_rounds: int | None) -> JobRecord:
        """Note how far a job is, in memory: it changes often, and its run keeps it.

        Raises:
            ConfigError: There is no such job.
        """
        self._records[job] = replace(self.get(job), round=round_number, num_rounds=num_rounds)
        return self._records[job]

    def _keep(self, record: JobRecord) -> None:
        self.on_keep(record)
        try:
            _write(self.home / record.id, record)
        except OSError as error:
            # The federation goes on by what it knows; a server that starts again sees the last state that was kept.
            _log.error("job %s: its state %s cannot be kept: %s", record.id, record.state.value, error.strerror)

    def _next_number(self) -> int:
        # Also past folders that cannot be read: a number is never given twice.
        taken = [int(found[1]) for path in self.home.iterdir() if (found := _ID.fullmatch(path.name))]
        return max([*taken, self._last_removed()]) + 1

    def _last_removed(self) -> int:
        try:
            return int((self.home / LAST).read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise ConfigError(f"the last job's number cannot be read: {error}", file=str(self.home / LAST)) from None

    def _read(self, path: Path) -> None:
        try:
            content = json.loads((path / STATE).read_text(encoding="utf-8"))
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(f"of another version: {content['format_version']!r}")
            record = JobRecord.from_dict(content)
            if record.id != path.name:
                raise ValueError(f"it is of job {record.id!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.damaged[path.name] = f"{STATE} cannot be used: {error!r}"
            _log.error("job %s is set aside: %s", path.name, self.damaged[path.name])
            return
        self._records[record.id] = record


def find_job(records: Sequence[JobRecord], name: str) -> JobRecord:
    """A job by its id, the beginning of it, its number, its name where one job bears it, or `last`.

    Args:
        records: All jobs, oldest first.
        name: What somebody typed.

    Raises:
        ConfigError: No such job, or several.
    """
    if not name:
        raise ConfigError("give a job's id, the beginning of it, or 'last'", key="job")
    if name == "last":
        if not records:
            raise ConfigError("no job was ever submitted here", key="job")
        return records[-1]
    ways: tuple[Callable[[JobRecord], bool], ...] = (
        lambda record: record.id == name,
        lambda record: name.isdecimal() and record.number == int(name),
        lambda record: record.name == name,
        lambda record: record.id.startswith(name),
    )
    for fits in ways:
        found = [record for record in records if fits(record)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(record.id for record in found[-5:])
            raise ConfigError(f"{name!r} fits {len(found)} jobs: {ids}", key="job")
    raise ConfigError(f"there is no job {name!r}", key="job")


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:_MAX_SLUG] or "job"


def _write(folder: Path, record: JobRecord) -> None:
    text = json.dumps({"format_version": FORMAT_VERSION, **record.as_dict()}, indent=1, ensure_ascii=False) + "\n"
    temporary = folder / f".{STATE}.new"
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / STATE)
    _sync(folder)


def _sync(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
