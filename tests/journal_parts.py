"""Where tests keep journals, and rows to write there."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Any

from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import (
    CommitRow,
    DecisionRow,
    JobRow,
    KeptBlob,
    OfferRow,
    ResultRow,
)
from postgres import Postgres

JOB = "0001-digits"


@dataclass
class Shelf:
    """Where journals of one test lie; those that it opens are closed with it."""

    place: str
    postgres: Postgres | None = None
    opened: list[Journal] = field(default_factory=list)

    def open(self, project: str = "default", **options: Any) -> Journal:
        journal = Journal.open(self.place, project=project, now=lambda: 1000.0, **options)
        self.opened.append(journal)
        return journal

    def tell(self, query: str) -> list[tuple[Any, ...]]:
        """Run a statement behind the journal's back."""
        if self.postgres is not None:
            return self.postgres.tell(query, url=self.place)
        connection = sqlite3.connect(self.place)
        try:
            with connection:
                return connection.execute(query).fetchall()
        finally:
            connection.close()

    def close(self) -> None:
        for journal in self.opened:
            journal.close()
        self.opened.clear()


def job_row(job: str = JOB, **changes: Any) -> JobRow:
    fields = {"id": job, "number": int(job[:4]), "name": job[5:], "submitter": "lead@oslo", "submitted_at": 12.25}
    return JobRow(**{**fields, **changes})


def part(posting: int, site: str = "site-1", visit: int = 0) -> str:
    return f"0/train/{posting}/{site}/{visit}"


def decision(posting: int, value: bytes = b"site-1 site-2", *, job: str = JOB) -> DecisionRow:
    return DecisionRow(job, f"0/train/{posting}/targets", value)


def offer(posting: int, site: str = "site-1", *, job: str = JOB) -> OfferRow:
    return OfferRow(job, part(posting, site), "train", site, posting)


def result(posting: int, site: str = "site-1", *, job: str = JOB, **changes: Any) -> ResultRow:
    fields = {
        "digest": f"sha256:{posting}{site}",
        "head": '{"task_id": "\\u0000å"}',
        "parts": (b"envelope", b"", bytes(range(256))),
        "blobs": (KeptBlob(f"{site}-{posting}.blob", 2**40, "sha256:ff"),),
        "received_at": 100.5 + posting,
    }
    return ResultRow(job, part(posting, site), "train", site, **{**fields, **changes})


def commit(version: int, *, job: str = JOB, **changes: Any) -> CommitRow:
    fields = {"state": f"after {version}".encode(), "digest": f"sha256:{version}", "at": 200.0}
    return CommitRow(job, version, 0, **{**fields, **changes})
