"""The table of commands: what an admin can have done, who may, with which arguments; and the one way in.

Whatever comes from outside goes through `dispatch` (an answer) or `watch` (a stream): the name is looked up, the
permission is checked, then the arguments, and only then is anything done.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hansa.admin.permissions import Caller, Permission, check_permission
from hansa.errors import ConfigError
from hansa.jobs.config import validate
from hansa.jobs.incident import Incident
from hansa.jobs.place import Place, suggestion
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord, find_job

if TYPE_CHECKING:
    from hansa.admin.arguments import Arguments
    from hansa.wire.frames import Peer

Json = dict[str, Any]  # Any: JSON


class Federation(Protocol):
    """What commands act on: the server's program."""

    async def submit(self, peer: Peer, blob: str) -> str:
        """Take a job whose archive was uploaded; returns its id.

        Raises:
            ConfigError: The archive or the job is not as it should be; nothing is kept.
        """
        ...

    async def resubmit(self, peer: Peer, job_id: str, *, first_round: int | None) -> tuple[str, int | None]:
        """Take a job that is over once more, as a new one; returns its id, and the round it begins with.

        Raises:
            ConfigError: It is not over, or nothing is kept from which that round could begin.
            RunError: What was kept is damaged.
        """
        ...

    def jobs(self) -> list[JobRecord]:
        """All jobs, oldest first."""
        ...

    def job(self, job_id: str) -> JobRecord:
        """A job by its whole id."""
        ...

    def view(self, record: JobRecord) -> Json:
        """A job as people see it: its record, and how far it is."""
        ...

    def abort(self, job_id: str, reason: str, *, by: str) -> None:
        """Stop a job.

        Raises:
            ConfigError: It is over.
        """
        ...

    def pause(self, job_id: str, *, by: str) -> None:
        """Have a job rest.

        Raises:
            ConfigError: It does not run.
        """
        ...

    def resume(self, job_id: str) -> None:
        """Let a job that rests go on.

        Raises:
            ConfigError: It does not rest.
        """
        ...

    async def remove(self, job_id: str, *, by: str) -> None:
        """Delete a job that is over, with all that is kept of it.

        Raises:
            ConfigError: It is not over.
        """
        ...

    def sites(self) -> list[SiteView]:
        """The sites that are known, by name."""
        ...

    async def incidents(self, *, since: int, job: str | None) -> list[Incident]:
        """What went wrong, after a number.

        Raises:
            ConfigError: The server keeps no journal.
        """
        ...

    async def logs(self, job_id: str, site: str, *, lines: int) -> str:
        """The end of a participant's log of a job.

        Raises:
            ConfigError: There is no such log, or the site does not answer.
        """
        ...

    async def results(self, job_id: str) -> Path:
        """The record of a job's run as an archive, which its submitter may then download.

        Raises:
            ConfigError: There is none yet.
        """
        ...

    def follow(self, job_id: str, offsets: Mapping[str, int]) -> AsyncIterator[Json]:
        """All that happens to a job from now on, and its record beyond the offsets; ends with the job."""
        ...


Handler = Callable[[Federation, "Peer", Any], Awaitable[Json]]  # Any: the command's own arguments


@dataclass(frozen=True)
class Command:
    """One thing that can be asked for.

    Attributes:
        name: What it is called.
        help: What it does, in one line.
        permission: What the caller must have been granted.
        arguments: The name of its model in `hansa.admin.arguments`; pydantic is loaded at the first call.
        handler: Does it.
        is_stream: Whether it is for `watch`, and answers with `follow` of the federation.
    """

    name: str
    help: str
    permission: Permission
    arguments: str
    handler: Handler
    is_stream: bool = False

    @property
    def model(self) -> type[Arguments]:
        """The model of its arguments."""
        from hansa.admin import arguments

        found: type[Arguments] = getattr(arguments, self.arguments)
        return found


async def dispatch(federation: Federation, peer: Peer, name: str, args: Mapping[str, Any]) -> Json:  # Any: JSON
    """Carry out a command.

    Args:
        federation: What it acts on.
        peer: Who gives it, from the certificate.
        name: Which.
        args: Its arguments as plain data.

    Returns:
        The answer as plain data.

    Raises:
        NotPermitted: The caller may not.
        ConfigError: There is no such command, an argument is wrong, or what it is about is not there.
        HansaError: It could not be done.
    """
    command = _looked_up(peer, name, is_stream=False)
    return await command.handler(federation, peer, _checked(command, args))


async def watch(
    federation: Federation,
    peer: Peer,
    name: str,
    args: Mapping[str, Any],  # Any: JSON
) -> AsyncIterator[Json]:
    """Carry out a command that answers with a stream; refuses as `dispatch` does.

    Yields:
        `{"k": "state", ...}`: the job; `{"k": "lines", "file", "lines", "offset"}`: lines of its record.
    """
    command = _looked_up(peer, name, is_stream=True)
    found = await command.handler(federation, peer, _checked(command, args))
    async for message in federation.follow(found["job"], found["offsets"]):
        yield message


def _looked_up(peer: Caller, name: str, *, is_stream: bool) -> Command:
    command = COMMANDS.get(name)
    if command is None or command.is_stream is not is_stream:
        known = [each.name for each in COMMANDS.values() if each.is_stream is is_stream]
        raise ConfigError(f"there is no command {name[:40]!r}{suggestion(name[:40], known)}", key="command")
    check_permission(peer, command.permission, command=command.name)
    return command


def _checked(command: Command, args: Mapping[str, Any]) -> Arguments:  # Any: JSON
    model = command.model
    validate(model, args, Place(command.name))
    return model.model_validate(args)


# -- the handlers -----------------------------------------------------------------------------------------------------


async def _submit(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: SubmitArguments
    return {"job": await federation.submit(peer, args.blob)}


async def _resubmit(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: ResubmitArguments
    old = _found(federation, args.job).id
    new, begins = await federation.resubmit(peer, old, first_round=args.from_round)
    return {"job": new, "of": old, "from_round": begins}


async def _jobs(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: Nothing
    return {"jobs": [federation.view(record) for record in federation.jobs()]}


async def _job(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: JobArguments
    return {"job": federation.view(_found(federation, args.job))}


async def _abort(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: AbortArguments
    record = _found(federation, args.job)
    federation.abort(record.id, args.reason, by=peer.name)
    return {"job": federation.view(federation.job(record.id))}


async def _pause(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: JobArguments
    record = _found(federation, args.job)
    federation.pause(record.id, by=peer.name)
    return {"job": federation.view(federation.job(record.id))}


async def _resume(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: JobArguments
    record = _found(federation, args.job)
    federation.resume(record.id)
    return {"job": federation.view(federation.job(record.id))}


async def _remove(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: JobArguments
    job_id = _found(federation, args.job).id
    await federation.remove(job_id, by=peer.name)
    return {"job": job_id}


async def _sites(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: Nothing
    return {"sites": [view.as_dict() for view in federation.sites()]}


async def _incidents(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: IncidentsArguments
    job = None if args.job is None else _found(federation, args.job).id
    return {"incidents": [each.as_dict() for each in await federation.incidents(since=args.since, job=job)]}


async def _logs(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: LogsArguments
    record = _found(federation, args.job)
    return {"job": record.id, "text": await federation.logs(record.id, args.site, lines=args.lines)}


async def _results(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: JobArguments
    record = _found(federation, args.job)
    path = await federation.results(record.id)
    size, digest = await asyncio.to_thread(_size_and_digest, path)
    return {"job": record.id, "blob": {"name": path.name, "size": size, "digest": digest}}


async def _follow(federation: Federation, peer: Peer, args: Any) -> Json:  # Any: FollowArguments
    return {"job": _found(federation, args.job).id, "offsets": args.offsets}


def _found(federation: Federation, name: str) -> JobRecord:
    return find_job(federation.jobs(), name)


def _size_and_digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), f"sha256:{digest}"


# -- the table --------------------------------------------------------------------------------------------------------


def _table(*commands: Command) -> Mapping[str, Command]:
    return {command.name: command for command in commands}


COMMANDS = _table(
    Command(
        "submit",
        "Take a job whose archive was uploaded, and put it into the queue.",
        Permission.SUBMIT,
        "SubmitArguments",
        _submit,
    ),
    Command(
        "resubmit",
        "Submit a job that is over once more, as a new one that begins from a round of the old one.",
        Permission.SUBMIT,
        "ResubmitArguments",
        _resubmit,
    ),
    Command("jobs", "List all jobs, oldest first.", Permission.VIEW, "Nothing", _jobs),
    Command("job", "Show one job.", Permission.VIEW, "JobArguments", _job),
    Command(
        "follow",
        "Send what happens to a job, and its record as it is written, until the job is over.",
        Permission.VIEW,
        "FollowArguments",
        _follow,
        is_stream=True,
    ),
    Command("abort", "Stop a job.", Permission.STEER, "AbortArguments", _abort),
    Command(
        "pause", "Have a job rest: its processes end, its progress is kept.", Permission.STEER, "JobArguments", _pause
    ),
    Command("resume", "Let a job that rests go on where it was.", Permission.STEER, "JobArguments", _resume),
    Command(
        "remove",
        "Delete a job that is over, with its results, at the server and at its sites.",
        Permission.STEER,
        "JobArguments",
        _remove,
    ),
    Command("sites", "List the sites that are known, and how they stand.", Permission.VIEW, "Nothing", _sites),
    Command(
        "incidents",
        "List what went wrong on the federation, oldest first.",
        Permission.VIEW,
        "IncidentsArguments",
        _incidents,
    ),
    Command("logs", "Read the end of a participant's log of a job.", Permission.FETCH, "LogsArguments", _logs),
    Command(
        "results",
        "Pack the record of a job's run, for a download: history, problems, log, model.",
        Permission.FETCH,
        "JobArguments",
        _results,
    ),
)
"""Every command there is."""
