"""Rounds of a job that are kept beyond its end: which, how they are found, and that damage is noticed and named."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.errors import ConfigError, RunError
from hansa.jobs.journal import Journal
from hansa.runtime.file_blobs import BlobFolder, Packing
from hansa.runtime.job_journal import JobJournal
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.kept_rounds import KeptRound, KeptRounds
from hansa.runtime.recall import read_recall
from hansa.runtime.run_paths import RunPaths
from hansa.runtime.workflow_progress import Progress
from hansa.wire.codec import Encoder
from hansa.wire.pipe import pack_frame


def saved(rounds: KeptRounds, folder: Path, version: int, *, content: bytes = b"tensors") -> None:
    file = folder / "blob"
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    blobs = [{"name": "x", "path": "", "size": len(content), "digest": digest}]
    rounds.save(pack_frame({"version": version, "first_round": version + 10, "blobs": blobs}, [b"abc"]), [file])


@pytest.mark.parametrize(("most", "left"), [(1, [5]), (3, [3, 4, 5]), (None, [1, 2, 3, 4, 5])])
def test_the_last_ones_are_kept(tmp_path: Path, most: int | None, left: Sequence[int]) -> None:
    rounds = KeptRounds(tmp_path / "rounds", "0001-x", most=most)
    assert rounds.all() == []
    assert rounds.choose(None) is None
    for version in range(1, 6):
        saved(rounds, tmp_path, version)
    assert [kept.version for kept in rounds.all()] == list(left)
    chosen = rounds.choose(None)
    assert chosen is not None
    assert chosen.first_round == 15
    head, parts, files = chosen.frame()
    assert (head["version"], list(parts), [file.read_bytes() for file in files]) == (5, [b"abc"], [b"tensors"])


def test_a_round_that_is_not_there(tmp_path: Path) -> None:
    rounds = KeptRounds(tmp_path / "rounds", "0001-x", most=2)
    with pytest.raises(ConfigError, match="nothing from which round 3 could begin; rounds that could: none"):
        rounds.choose(3)
    for version in (1, 2, 3):
        saved(rounds, tmp_path, version)
    with pytest.raises(ConfigError, match="rounds that could: 12, 13"):
        rounds.choose(11)


def test_the_same_commit_again_after_a_crash(tmp_path: Path) -> None:
    rounds = KeptRounds(tmp_path / "rounds", "0001-x")
    saved(rounds, tmp_path, 1)
    saved(rounds, tmp_path, 1)
    saved(rounds, tmp_path, 1, content=b"other")
    (kept,) = rounds.all()
    assert kept.frame()[2][0].read_bytes() == b"other"


@pytest.mark.parametrize("name", ["commit.bin", "blob-0", "about.json"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_damage_is_noticed_and_named(tmp_path: Path, name: str, how: str) -> None:
    rounds = KeptRounds(tmp_path / "rounds", "0001-x")
    saved(rounds, tmp_path, 1)
    file = tmp_path / "rounds" / "1" / name
    content = file.read_bytes()
    file.unlink()
    if how == "flipped":
        file.write_bytes(bytes([content[0] ^ 0x40]) + content[1:])
    with pytest.raises(RunError, match=f"is damaged: .*{name}"):
        rounds.all()[0].check()


def play(folder: Path, story: Callable[[JournalWriter], Coroutine[Any, Any, None]]) -> None:
    async def played() -> None:
        writer = JournalWriter(Journal.open(folder / "journal.db", project="p"), lambda job, cause: pytest.fail(cause))
        try:
            await asyncio.wait_for(story(writer), 30)
        finally:
            await writer.close()

    asyncio.run(played())


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("size", [3, 100_000], ids=["in a row", "in files"])
def test_a_job_begins_where_another_has_ended(tmp_path: Path, most: int, size: int) -> None:
    async def story(writer: JournalWriter) -> None:
        paths = RunPaths(tmp_path, 7, "server")
        paths.make()
        rounds = KeptRounds(tmp_path / "rounds", "0007-x", most=most)
        journal = JobJournal("0007-x", writer=writer, paths=paths, rounds=rounds)
        out = BlobFolder(paths.incoming, "blob")
        for version in (1, 2, 3):
            private = {name: np.full(size, version, np.float32) for name in "mn"}
            progress = Progress(version, 0, {"next_round": version}, private=private)
            said, parts = Packing(out).pack(Encoder().encode(vars(progress)), [set()])
            head = {"k": "commit", "version": version, "workflow": 0, "history_lines": version * 10, **said}
            durable = asyncio.Event()
            journal.commit({**head, "first_round": version}, parts, then=durable.set)
            await durable.wait()
        await journal.close()
        assert not paths.kept.exists()
        assert [kept.first_round for kept in rounds.all()] == [1, 2, 3][-most:]

        rounds.all()[0].copy_to(tmp_path / "begun")
        theirs = RunPaths(tmp_path, 8, "server")
        theirs.make()
        other = JobJournal("0008-x", writer=writer, paths=theirs, begun=tmp_path / "begun")
        for _ in range(2):  # again, if a process dies before its first commit
            recall = read_recall(await other.recall(1))
            assert recall.progress.state == {"next_round": 4 - most}
            assert float(recall.progress.private["m"][size - 1]) == 4 - most
            assert recall.history_lines == 0
            assert recall.results == {}
        assert KeptRound.of(tmp_path / "begun").job == "0007-x"

    play(tmp_path, story)
