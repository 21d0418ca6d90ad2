"""The shelf's records in the journal, too: every state that a job had; a damaged `state.json` is mended from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from hansa.jobs.incident import IncidentCode
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import JobRow, TransitionRow
from hansa.jobs.life import JobState, StateChange
from hansa.jobs.store import JobRecord, JobStore
from hansa.runtime.incidents import Incidents
from hansa.runtime.journal_writer import JournalWriter

_logger = logging.getLogger("hansa.server")


def mirror(record: JobRecord, writer: JournalWriter) -> None:
    """Write a record down; nothing waits for it, as the shelf has it already."""
    last = record.changes[-1]
    row = JobRow(
        record.id,
        record.number,
        record.name,
        record.submitter,
        record.submitted_at,
        priority=record.priority,
        sites=record.sites,
        state=last.state.value,
        reason=last.reason,
        abort=record.abort,
    )
    writer.write(row, job=record.id)
    seq = len(record.changes) - 1
    writer.write(TransitionRow(record.id, seq, last.state.value, last.at, last.reason), job=record.id)


def record_of(row: JobRow, transitions: Sequence[TransitionRow]) -> JobRecord:
    """The record that rows describe.

    Raises:
        ValueError: They describe none.
    """
    changes = tuple(StateChange(JobState(each.state), each.at, each.reason) for each in transitions)
    if not changes:
        raise ValueError("a job without a state")
    return JobRecord(
        row.id,
        row.number,
        row.name,
        row.submitter,
        row.submitted_at,
        changes,
        sites=row.sites,
        priority=row.priority,
        abort=row.abort,
    )


async def mirror_all(store: JobStore, writer: JournalWriter | None, incidents: Incidents) -> None:
    """Have the journal follow the shelf from now on, and put records that cannot be read back onto it.

    Args:
        store: The shelf.
        writer: Writes the journal; None: there is none.
        incidents: Where damage is noted.
    """
    if writer is None:
        return
    store.on_keep = partial(mirror, writer=writer)
    for job in list(store.damaged):
        record = await writer.call(partial(_found, job=job))
        text = f"{store.home / job}: {store.damaged[job]}"
        if record is None:
            incidents.note(IncidentCode.FILE_DAMAGED, f"{text}; the job is set aside")
        else:
            incidents.note(IncidentCode.FILE_DAMAGED, f"{text}; it is mended from the journal", job=job)
            store.put_back(record)


def _found(journal: Journal, *, job: str) -> JobRecord | None:
    row = next((each for each in journal.jobs() if each.id == job), None)
    if row is None:
        return None
    try:
        return record_of(row, journal.transitions(job))
    except ValueError as error:
        _logger.error("job %s cannot be mended from the journal: %s", job, error)
        return None
