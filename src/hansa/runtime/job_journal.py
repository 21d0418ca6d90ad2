"""What is kept of one job while it runs, so that it goes on after any process has died.

A result is durable before its site hears that it was received; a commit is durable before anything that follows from it
leaves. Nothing else waits for the disk: results go on to the job's process at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hansa.errors import MAY_PASS, HansaError, StoreError
from hansa.failpoints import reach, wall_time
from hansa.jobs.incident import IncidentCode
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import (
    CommitRow,
    DecisionRow,
    EventRow,
    ForgetRow,
    KeptBlob,
    Outcome,
    PurgeRow,
    Replay,
    ResultRow,
    SiteRow,
    TableRow,
)
from hansa.runtime.background import Background
from hansa.runtime.file_blobs import Head, Packing
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.kept_rounds import KeptRound, KeptRounds
from hansa.runtime.recall import write_recall
from hansa.runtime.run_folder import what_failed
from hansa.runtime.run_paths import RunPaths
from hansa.wire.pipe import FrameReader, pack_frame

_logger = logging.getLogger("hansa.server")
_NAME_DIGITS = 24
_FORGET_EVERY_S = 1.0
_MOST_STARTS = 1000
"""Of a job's process, while one server lives."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 4.0
"""Between two tries to write again."""

Note = Callable[[IncidentCode, str, str | None], None]
"""Notes an incident of a job: its code, what happened, and at which site."""


class JobJournal:
    """Writes a job's part of the journal; on the event loop's thread.

    Args:
        job_id: The job.
        writer: Writes rows.
        paths: Where the job's files lie on the server.
        rounds: Where its last rounds are kept.
        begun: Where the round lies that it was begun from, until it has one of its own.
    """

    def __init__(
        self,
        job_id: str,
        *,
        writer: JournalWriter,
        paths: RunPaths,
        rounds: KeptRounds | None = None,
        begun: Path | None = None,
    ) -> None:
        self._job = job_id
        self._writer = writer
        self._paths = paths
        self._rounds = rounds
        self._begun = begun
        self.acknowledge: Callable[[str, list[int]], None] = lambda site, numbers: None
        """Tells a site that results of these numbers need not be kept there any more."""
        self.note: Note = lambda code, text, site: None
        """Notes an incident."""
        self.failed: Callable[[StoreError], None] = lambda error: None
        """Told that something cannot be kept: what follows from it must not leave."""
        # Results that are not durable, by site and number: whether to acknowledge them once they are.
        self._waiting: dict[tuple[str, int], bool] = {}
        self._tables: dict[str, set[str]] = {}
        self._alarmed: set[str] = set()
        self.deaths: dict[str, int] = {}
        """How often the job's process at a site has died, as far as `recall` has found."""
        self._background = Background()
        self._forgot_at = 0.0

    # -- what comes from sites ---------------------------------------------------------------------------------

    def tables(self, site: str, head: Head, *, parts: Sequence[bytes]) -> None:
        """Keep the layouts of tensors that a site sends once only."""
        said = head.get("m") or {}
        known = self._tables.setdefault(site, set())
        for digest, content in zip(said.get("with", ()), parts[1:], strict=False):
            is_counted_on = len(content) <= Packing.MOST_KNOWN_BYTES and len(known) < Packing.MOST_KNOWN
            if digest in known or not is_counted_on:
                continue
            known.add(digest)
            self._writer.write(TableRow(self._job, site, digest, content), job=self._job)

    def result(self, site: str, head: Head, *, parts: Sequence[bytes]) -> None:
        """Keep a site's result; its files, as `head` names them, may be deleted afterwards."""
        part, number = str(head["task_id"]), int(head["number"])
        try:
            kept, files = self._link(part, head.get("blobs") or ())
        except OSError as error:
            self.failed(_refusal(error))
            return
        said = {**head, "blobs": [{**blob, "path": ""} for blob in head.get("blobs") or ()]}
        row = ResultRow(
            self._job,
            part,
            part.rpartition("/")[0].rpartition("/")[0],
            site,
            _digest(said, parts),
            json.dumps(said),
            tuple(parts),
            kept,
            wall_time(),
        )
        self._waiting[site, number] = False
        if not files:
            self._write(row, number)
            return
        self._background.begin(self._sync_and_write(row, number, files))

    async def _sync_and_write(self, row: ResultRow, number: int, files: Sequence[Path]) -> None:
        try:
            await asyncio.to_thread(_sync, files)
        except OSError as error:
            self.failed(_refusal(error))
        else:
            self._write(row, number)

    def _write(self, row: ResultRow, number: int) -> None:
        def written(outcome: Outcome) -> None:
            reach("result.after_write_before_ack")
            is_wanted = self._waiting.pop((row.site, number), False)
            if outcome is Outcome.ALTERED:
                self._alarm(row)
            elif is_wanted:
                self.acknowledge(row.site, [number])

        self._writer.write(row, written, job=self._job)

    def _alarm(self, row: ResultRow) -> None:
        """A site has answered a task twice, and not with the same bytes: the first answer stands; said once."""
        if row.part in self._alarmed:
            return
        self._alarmed.add(row.part)
        text = f"{row.site} has sent another result for {row.part} than before; it is refused"
        self.note(IncidentCode.RESULT_ALTERED, text, row.site)

    def durable(self, site: str, numbers: Sequence[int]) -> list[int]:
        """Those results that are durable; the others are acknowledged once they are."""
        late = [number for number in numbers if (site, number) in self._waiting]
        self._waiting |= {(site, number): True for number in late}
        return [number for number in numbers if number not in late]

    def _link(self, part: str, blobs: Sequence[Head]) -> tuple[tuple[KeptBlob, ...], list[Path]]:
        if not blobs:
            return (), []
        self._paths.kept.mkdir(exist_ok=True)
        stem = hashlib.sha256(part.encode()).hexdigest()[:_NAME_DIGITS]
        kept, files = [], []
        for index, blob in enumerate(blobs):
            target = self._paths.kept / f"{stem}-{index}"
            target.unlink(missing_ok=True)
            os.link(blob["path"], target)
            kept.append(KeptBlob(target.name, blob["size"], blob["digest"]))
            files.append(target)
        return tuple(kept), files

    # -- what comes from the job's process ---------------------------------------------------------------------

    def decision(self, head: Head) -> None:
        """Keep what a workflow has decided."""
        value = json.dumps(head["value"]).encode()
        self._writer.write(DecisionRow(self._job, str(head["key"]), value), job=self._job)

    def commit(self, head: Head, parts: Sequence[bytes], *, then: Callable[[], None]) -> None:
        """Keep a commit; `then` is called once it is durable."""
        if head.get("blobs") or self._rounds_to_keep is not None:
            self._background.begin(self._commit_files(head, parts, then))
        else:
            self._write_commit(head, parts, then=then)

    @property
    def _rounds_to_keep(self) -> KeptRounds | None:
        """Where commits go while the job runs, if more than the last one is wanted."""
        return self._rounds if self._rounds is not None and self._rounds.along_the_way else None

    async def _commit_files(self, head: Head, parts: Sequence[bytes], then: Callable[[], None]) -> None:
        blobs = head.get("blobs") or ()
        try:
            files = await asyncio.to_thread(self._take_over, int(head["version"]), blobs)
        except OSError as error:
            self.failed(_refusal(error))
            return
        said = {**head, "blobs": [{**blob, "path": ""} for blob in blobs]} if blobs else head
        if self._rounds_to_keep is not None:
            await asyncio.to_thread(_save, self._rounds_to_keep, pack_frame(said, parts), files)
        self._write_commit(said, parts, then=then, files=files)

    def _write_commit(
        self, head: Head, parts: Sequence[bytes], *, then: Callable[[], None], files: Sequence[Path] = ()
    ) -> None:
        version = int(head["version"])
        row = CommitRow(
            self._job,
            version,
            int(head["workflow"]),
            pack_frame(head, parts),
            _digest(head, parts),
            wall_time(),
            "\n".join(file.name for file in files) or None,
        )

        def written(_: Outcome) -> None:
            then()
            self._forget(version)

        self._writer.write(row, written, job=self._job, linger_s=0.0)

    def _forget(self, version: int) -> None:
        """Delete what commits have made superfluous: now and then, or at once where it has files."""
        has_files = self._paths.kept.is_dir()
        if has_files or time.monotonic() - self._forgot_at > _FORGET_EVERY_S:
            self._forgot_at = time.monotonic()
            self._writer.write(ForgetRow(self._job, version), job=self._job)
        if has_files:
            self._background.begin(self.sweep())

    def _take_over(self, version: int, blobs: Sequence[Head]) -> list[Path]:
        files = []
        for index, blob in enumerate(blobs):
            self._paths.kept.mkdir(exist_ok=True)
            target = self._paths.kept / f"commit-{version}-{index}"
            Path(blob["path"]).replace(target)
            files.append(target)
        _sync(files)
        return files

    async def sweep(self) -> None:
        """Delete files that no row refers to."""
        there = {path.name: path for path in self._paths.kept.iterdir()}
        used = await self._writer.call(lambda journal: journal.blobs_in_use(self._job))
        for name in there.keys() - used:
            there[name].unlink(missing_ok=True)

    # -- going on ----------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Until all that came so far is handed to the writer."""
        await self._background.settled()

    async def recall(self, start: int) -> Path:
        """Write down where a new process of the job goes on; returns the file.

        Args:
            start: Which start of the process it is, since the server was started.
        """
        await self.settled()
        replay = await self._writer.call(lambda journal: journal.replay(self._job))
        self.deaths = {site: row.deaths for site, row in replay.sites.items()}
        epoch = await self._writer.call(lambda journal: journal.epoch)
        return await asyncio.to_thread(self._write_recall, epoch * _MOST_STARTS + start, replay)

    def _write_recall(self, start: int, replay: Replay) -> Path:
        frames: list[tuple[Head, Sequence[bytes]]] = []
        decisions = {key: json.loads(value) for key, value in replay.decisions.items()}
        frames.append(({"k": "recall", "start": start, "decisions": decisions}, ()))
        frames += [
            ({"k": "tables", "site": row.site, "digests": [row.digest]}, (row.content,)) for row in replay.tables
        ]
        if replay.commit is not None:
            ((head, parts),) = FrameReader().feed(replay.commit.state)
            frames.append((self._with_files(head, _files_of(replay.commit, self._paths)), parts))
        elif self._begun is not None:
            head, parts, files = KeptRound.of(self._begun).frame()
            frames.append((self._with_files({**head, "history_lines": 0}, files), parts))
        for row in replay.results:
            head = {**json.loads(row.head), "k": "result", "site": row.site}
            frames.append((self._with_files(head, [self._paths.kept / blob.name for blob in row.blobs]), row.parts))
        path = self._paths.folder / "recall.bin"
        write_recall(path, frames)
        return path

    def _with_files(self, head: Head, files: Sequence[Path]) -> Head:
        """A head that names files which its reader may delete.

        Raises:
            StoreError: One is not what was kept.
        """
        blobs = []
        for blob, file in zip(head.get("blobs") or (), files, strict=False):
            self._check(file, digest=blob["digest"])
            target = self._paths.incoming / f"again-{file.name}"
            target.unlink(missing_ok=True)
            os.link(file, target)
            blobs.append({**blob, "path": str(target)})
        return {**head, "blobs": blobs} if blobs else {key: value for key, value in head.items() if key != "blobs"}

    def _check(self, file: Path, *, digest: str) -> None:
        try:
            with file.open("rb") as stream:
                found = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        except FileNotFoundError:
            raise StoreError(f"{file} is missing", job=self._job) from None
        if found != digest:
            raise StoreError(f"{file} is damaged: its digest is another one", job=self._job)

    async def writable(self, text: str, *, is_wanted: Callable[[], bool]) -> None:
        """Until the journal can be written again, which is tried now and then; the first thing written is the cause.

        Args:
            text: What has kept it from being written.
            is_wanted: Whether somebody still waits for it.
        """
        pause = asyncio.Event()
        pause_s = _FIRST_PAUSE_S
        row = EventRow(wall_time(), IncidentCode.JOURNAL_UNWRITABLE.value, text, self._job)
        while is_wanted():
            with suppress(StoreError):
                await self._writer.call(lambda journal: _probe(journal, row))
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(pause.wait(), pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def site_died(self, site: str, how: str, *, deaths: int) -> None:
        """Keep how often a job's process at a site has died."""
        self._writer.write(SiteRow(self._job, site, "died", how, deaths, wall_time()), job=self._job)

    async def close(self) -> None:
        """The job is over: its last commit is kept, and nobody goes on with the rest."""
        await self.settled()
        await close_books(self._job, self._paths, rounds=self._rounds, writer=self._writer)


async def close_books(job_id: str, paths: RunPaths, *, rounds: KeptRounds | None, writer: JournalWriter) -> None:
    """Keep the last commit of a job that is over, and throw away what else it would have gone on with."""
    try:
        commit = await writer.call(lambda journal: journal.last_commit(job_id))
        if commit is not None and rounds is not None:
            await asyncio.to_thread(_save, rounds, commit.state, _files_of(commit, paths))
    except HansaError as error:
        _logger.error("job %s: its last round cannot be kept: %s", job_id, error)
    paths.drop_blobs()
    writer.write(PurgeRow(job_id, keeps_record=True), job=job_id)


async def sweep_up(job_id: str, paths: RunPaths, *, rounds: Path, writer: JournalWriter | None) -> None:
    """Do what a job that is over did not come to do at its end, since a crash came before."""
    if not (paths.kept.is_dir() or paths.incoming.is_dir()):
        return
    if writer is None:
        paths.drop_blobs()
    else:
        await close_books(job_id, paths, rounds=KeptRounds(rounds, job_id, most=None), writer=writer)


def _save(rounds: KeptRounds, frame: bytes, files: Sequence[Path]) -> None:
    """Keep a commit for other jobs; the job itself needs it not, so it does not fail where that cannot be."""
    try:
        rounds.save(frame, files)
    except (HansaError, OSError) as error:
        _logger.error("a round of a job cannot be kept: %s", error)


def _files_of(commit: CommitRow, paths: RunPaths) -> list[Path]:
    return [paths.kept / name for name in (commit.file or "").split("\n") if name]


def _refusal(error: OSError) -> StoreError:
    return StoreError(what_failed(error), disk_full=error.errno in MAY_PASS)


def _probe(journal: Journal, row: EventRow) -> None:
    try:
        reach("disk.journal")
    except OSError as error:
        raise StoreError(str(error.strerror)) from error
    journal.write([row])


def _sync(files: Sequence[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _digest(head: Head, parts: Sequence[bytes]) -> str:
    """Of a message, whatever it was numbered, and whichever tables came along."""
    said = head.get("m") or {}
    blobs = [blob["digest"] for blob in head.get("blobs") or ()]
    told = hashlib.sha256(json.dumps([said.get("tables"), blobs, head.get("ended")]).encode())
    for part in (*parts[:1], *parts[1 + len(said.get("with", ())) :]):
        told.update(hashlib.sha256(part).digest())
    return f"sha256:{told.hexdigest()}"
