"""What is kept of a job, and what its next process is given: results, tables, decisions, the last commit, and files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.errors import RunError
from hansa.jobs.incident import IncidentCode
from hansa.jobs.journal import Journal
from hansa.runtime.file_blobs import BlobFolder, Head, Packing
from hansa.runtime.job_journal import JobJournal
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.recall import Recall, read_recall
from hansa.runtime.run_paths import RunPaths
from hansa.runtime.workflow_progress import Progress
from hansa.wire.codec import Encoder, decode

BIG = 100_000


class Stage:
    """A job's journal, and a site and a process that have something to keep."""

    def __init__(self, folder: Path, writer: JournalWriter) -> None:
        self.paths = RunPaths(folder, 7, "server")
        self.paths.make()
        self.journal = JobJournal("0007-x", writer=writer, paths=self.paths)
        self.acknowledged: list[tuple[str, list[int]]] = []
        self.journal.acknowledge = lambda site, numbers: self.acknowledged.append((site, numbers))
        self.known: set[str] = set()
        self._out = BlobFolder(self.paths.incoming, "blob")

    def comes(self, number: int, *, size: int = 3, posting: int = 1, value: float | None = None) -> None:
        """A result of site a comes, and its file is taken by the job's process."""
        weights = {f"w{index}": np.full(size, value or number, np.float32) for index in range(20)}
        said, parts = Packing(self._out).pack(Encoder().encode(weights), [self.known])
        head = {"k": "result", "task_id": f"0/train/{posting}/a/1", "number": number, "site": "a", **said}
        self.journal.tables("a", head, parts=parts)
        self.journal.result("a", head, parts=parts)
        for blob in head.get("blobs") or ():
            Path(blob["path"]).unlink()

    async def commits(self, version: int, *, size: int = 3) -> None:
        progress = Progress(
            version, 0, {"next_round": version}, postings={"train": version}, private={"m": np.ones(size)}
        )
        said, parts = Packing(self._out).pack(Encoder().encode(vars(progress)), [set()])
        head: Head = {"k": "commit", "version": version, "workflow": 0, "history_lines": version * 10, **said}
        durable = asyncio.Event()
        self.journal.commit(head, parts, then=durable.set)
        await asyncio.wait_for(durable.wait(), 10)

    async def recalled(self) -> Recall:
        return read_recall(await self.journal.recall(2))

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in self.paths.kept.iterdir()) if self.paths.kept.is_dir() else []


def play(folder: Path, story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def played() -> None:
        writer = JournalWriter(Journal.open(folder / "journal.db", project="p"), lambda job, cause: pytest.fail(cause))
        try:
            await asyncio.wait_for(story(Stage(folder, writer)), 30)
        finally:
            await writer.close()

    asyncio.run(played())


def values(recall: Recall) -> dict[str, float]:
    return {part: float(decode(m, arrays="own")["w3"][0]) for part, (_, m) in recall.results.items()}


@pytest.mark.parametrize("size", [3, BIG])
def test_a_process_goes_on_with_the_last_commit_and_what_came_since(tmp_path: Path, size: int) -> None:
    async def story(stage: Stage) -> None:
        stage.journal.decision({"key": "0/sites/0", "value": ["a", "b"]})
        stage.comes(1, size=size)
        first = await stage.recalled()
        assert (first.progress.version, first.history_lines) == (0, 0)
        assert first.decisions == {"0/sites/0": ["a", "b"]}
        assert values(first) == {"0/train/1/a/1": 1.0}
        await stage.commits(1, size=size)
        stage.comes(2, size=size, posting=2)
        stage.journal.decision({"key": "0/sites/1", "value": None})
        for _ in range(2):  # a process that is started may die again
            again = await stage.recalled()
            assert again.start > first.start - 1
            assert (again.progress.version, again.progress.state) == (1, {"next_round": 1})
            assert again.progress.postings == {"train": 1}
            assert again.progress.private["m"].tolist() == [1.0] * size
            assert again.history_lines == 10
            assert again.decisions == {"0/sites/1": None}
            assert values(again) == {"0/train/2/a/1": 2.0}

    play(tmp_path, story)


def test_files_go_when_nothing_needs_them(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        for version in range(1, 6):
            stage.comes(version, size=BIG, posting=version)
            await stage.journal.settled()
            await stage.commits(version, size=BIG)
        await stage.journal.settled()
        await stage.journal.sweep()
        assert stage.kept == ["commit-5-0"]
        await stage.journal.close()
        assert not stage.paths.kept.exists()

    play(tmp_path, story)


def test_a_result_is_acknowledged_when_it_is_durable(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.comes(1)
        assert stage.journal.durable("a", [1]) == []  # not yet: it is said later
        await stage.recalled()
        assert stage.acknowledged == [("a", [1])]
        assert stage.journal.durable("a", [1]) == [1]

    play(tmp_path, story)


def test_the_same_result_again_counts_once_and_another_one_not_at_all(tmp_path: Path) -> None:
    noted: list[tuple[IncidentCode, str, str | None]] = []

    async def story(stage: Stage) -> None:
        stage.journal.note = lambda *said: noted.append(said)
        stage.comes(1)
        stage.comes(2, value=1.0)  # another number, as a process after the first one gives
        assert stage.journal.durable("a", [2]) == []
        await stage.recalled()
        stage.comes(3, value=666.0)
        assert stage.journal.durable("a", [3]) == []
        recall = await stage.recalled()
        assert values(recall) == {"0/train/1/a/1": 1.0}
        assert stage.acknowledged == [("a", [2])]

    play(tmp_path, story)
    text = "a has sent another result for 0/train/1/a/1 than before; it is refused"
    assert noted == [(IncidentCode.RESULT_ALTERED, text, "a")]


def test_a_result_that_cannot_be_read_is_asked_for_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.comes(1)
        broken = {"k": "result", "task_id": "0/train/9/a/1", "number": 2, "site": "a", "m": {"tables": ["sha256:none"]}}
        stage.journal.result("a", broken, parts=[b"x"])
        assert values(await stage.recalled()) == {"0/train/1/a/1": 1.0}

    play(tmp_path, story)


def test_a_recall_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.commits(1)
        file = await stage.journal.recall(2)
        file.write_bytes(b"HP\x02" + file.read_bytes()[3:])
        with pytest.raises(RunError, match="what was kept of the run cannot be read: no frame of version 1"):
            read_recall(file)

    play(tmp_path, story)
