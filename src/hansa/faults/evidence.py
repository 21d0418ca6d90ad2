"""What is left after a job that was disturbed: its journal, its record, its traces on disk and among the processes."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, create_engine, select

from hansa.faults.arena import SERVER, Arena, facts_of, pause, working_below
from hansa.faults.nemesis import Happened
from hansa.faults.plan import FaultKind
from hansa.jobs.incident import Incident
from hansa.jobs.journal_rows import CommitRow, EventRow, ResultRow
from hansa.jobs.journal_tables import TABLES
from hansa.jobs.store import STATE, JobRecord
from hansa.runtime.history import RoundRecord
from hansa.runtime.run import Run
from hansa.wire.net_options import Tls

LEAVE_S = 10.0
"""How long what belongs to a job may last beyond its end."""
_LOOK_S = 0.05
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@dataclass(frozen=True)
class Received:
    """A result that was made durable, and so may have been acknowledged.

    Attributes:
        task: The key of its task: workflow, name, posting.
        site: Who sent it.
        digest: Of all of it.
        epoch: Which server wrote it down, from 1.
        place: When, in the order of writing.
        at: When by the server's wall clock, for figures.
    """

    task: str
    site: str
    digest: str
    epoch: int
    place: int
    at: float = 0.0


@dataclass(frozen=True)
class Committed:
    """A version of the model that was made durable."""

    version: int
    digest: str
    epoch: int
    place: int


@dataclass(frozen=True)
class Evidence:
    """What a checker needs to know of one job.

    Attributes:
        happened: The faults, and whom they have hit.
        record: The job as the server knows it.
        rounds: Its history.
        received: Its results in the journal.
        commits: Its commits there.
        incidents: What the server has noted since the job was submitted.
        model: The digest of its final model.
        expected: The digest of an undisturbed run; None: the job is not the same each time.
        bystander: The digest of the job beside it, and what it must be.
        leftovers: Processes and files that should be gone.
        uses: What the server's program uses: memory in bytes, open files, threads.
        lets_strangers_in: Whether somebody without a certificate is answered.
    """

    happened: Sequence[Happened]
    record: JobRecord
    rounds: Sequence[RoundRecord] = ()
    received: Sequence[Received] = ()
    commits: Sequence[Committed] = ()
    incidents: Sequence[Incident] = ()
    model: str | None = None
    expected: str | None = None
    bystander: tuple[str | None, str | None] | None = None
    leftovers: Sequence[str] = ()
    uses: Mapping[str, int] = field(default_factory=dict)
    lets_strangers_in: bool = False


def gather(arena: Arena, job: str, *, happened: Sequence[Happened], expected: str | None, since: int = 0) -> Evidence:
    """Look at what is left of a job.

    Args:
        arena: The federation.
        job: The job's id; it is over, or wedged.
        happened: What was done to it.
        expected: The digest of an undisturbed run.
        since: The number of the last incident before it.
    """
    folder = arena.kit(SERVER) / "jobs" / job
    record = read_record(folder)
    run = Run.load(folder / "run") if (folder / "run" / "run.json").exists() else None
    journal = create_engine(journal_url(arena))
    with journal.connect() as connection:
        received, commits = _received(connection, job), _commits(connection, job)
        incidents = _incidents(connection, since)
    journal.dispose()
    return Evidence(
        happened,
        record,
        [] if run is None else run.history.rounds,
        received,
        commits,
        incidents,
        None if run is None else run.model_digest,
        expected,
        leftovers=leftovers(arena) if record.state.is_over else (),
        uses=facts_of(arena.processes[SERVER].pid),
        lets_strangers_in=lets_strangers_in(arena),
    )


def recoveries(evidence: Evidence) -> list[float]:
    """For each death that was followed by a result: seconds until it, from when nothing was in its way."""
    if any(each.fault.kind is FaultKind.CLOCK for each in evidence.happened):
        return []  # the server's own times say nothing
    times = sorted(each.at for each in evidence.received)
    deaths = [each.mended_at for each in evidence.happened if each.came_about and each.mended_at]
    return [next(at for at in times if at > death) - death for death in deaths if times and times[-1] > death]


def journal_url(arena: Arena) -> str:
    """Where an arena's journal lies."""
    if arena.journal is None:
        return f"sqlite:///file:{arena.kit(SERVER) / 'jobs' / 'journal.db'}?mode=ro&uri=true"
    return arena.journal.replace("postgresql://", "postgresql+psycopg://", 1)


def read_record(folder: Path) -> JobRecord:
    """A job as the server has kept it."""
    return JobRecord.from_dict(json.loads((folder / STATE).read_text(encoding="utf-8")))


def last_incident(arena: Arena) -> int:
    """The number of the last incident."""
    return max((each.number for each in arena.session.incidents()), default=0)


def _received(connection: Connection, job: str) -> list[Received]:
    table = TABLES[ResultRow]
    query = select(table).where(table.c.job == job).order_by(table.c.epoch, table.c.place)
    return [
        Received(row["task"], row["site"], row["digest"], row["epoch"], row["place"], row["received_at"])
        for row in connection.execute(query).mappings()
    ]


def _commits(connection: Connection, job: str) -> list[Committed]:
    table = TABLES[CommitRow]
    query = select(table).where(table.c.job == job).order_by(table.c.epoch, table.c.place)
    return [
        Committed(row["version"], row["digest"], row["epoch"], row["place"])
        for row in connection.execute(query).mappings()
    ]


def _incidents(connection: Connection, since: int) -> list[Incident]:
    table = TABLES[EventRow]
    query = select(table).where(table.c.seq > since).order_by(table.c.seq)
    return [
        Incident(row["seq"], row["at"], row["code"], row["text"], job=row["job"], site=row["site"])
        for row in connection.execute(query).mappings()
    ]


def leftovers(arena: Arena, patience_s: float = LEAVE_S) -> list[str]:
    """What should be gone now that no job runs, and is not after a while."""
    until = time.monotonic() + patience_s
    while (found := _leftovers(arena)) and time.monotonic() < until:
        pause(_LOOK_S)
    return found


def _leftovers(arena: Arena) -> list[str]:
    found = []
    for name in (SERVER, *arena.sites):
        kit = arena.kit(name)
        found += [f"process {pid} of {name}" for pid in working_below(kit)]
        paths = [*kit.glob("run_*/kept"), *kit.glob("run_*/blobs"), *kit.glob("run_*/*.new")]
        paths += [*kit.glob("uploads/*"), *kit.glob("jobs/.new-*"), *kit.glob("jobs/*/.*.new")]
        found += [str(path.relative_to(arena.folder)) for path in paths]
    return found


def lets_strangers_in(arena: Arena) -> bool:
    """Whether the server says anything to somebody who has no certificate."""
    from hansa.provision.kit import Kit

    kit = Kit.load(arena.kit("admin"))
    tls = Tls(kit.ca, kit.certificate, kit.key)
    context = ssl.create_default_context(cadata=tls.ca.decode())
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(("127.0.0.1", arena.port), timeout=5.0) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(_PREFACE)
            return bool(secure.recv(1))
    except (OSError, ssl.SSLError):
        return False
