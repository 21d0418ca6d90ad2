"""What a site keeps on its disk: results until they are sent, the newest state, and nothing that is damaged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.runtime.file_blobs import BlobFolder, Packing
from hansa.runtime.kept_results import KeptResults
from hansa.wire.codec import Encoder, decode

BIG = 100_000


def state(number: int, size: int = 3) -> Any:
    return Encoder().encode({"momentum": np.full(size, number, np.float32)})


def head(number: int) -> dict[str, Any]:
    return {"k": "result", "task_id": f"0/train/{number}/a/1", "number": number}


def known(kept: KeptResults) -> float | None:
    return None if kept.state is None else float(decode(kept.state, arrays="own")["momentum"][0])


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    assert (kept.results, kept.state) == ({}, None)
    kept.keep(head(1), [b"one"], state=state(1))
    kept.keep(head(2), [b"two"], state=state(2))
    again = KeptResults(tmp_path / "kept")
    assert again.results == {head(n)["task_id"]: (head(n), [text]) for n, text in ((1, b"one"), (2, b"two"))}
    assert known(again) == 2


def test_what_was_sent_goes_but_its_state_stays(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    for number in range(1, 6):
        kept.keep(head(number), [b"x"], state=state(number, BIG))
        kept.sent(head(number)["task_id"])
    again = KeptResults(tmp_path / "kept")
    assert again.results == {}
    assert known(again) == 5
    assert len(list((tmp_path / "kept").glob("*.task"))) == 1
    assert len(list((tmp_path / "kept").glob("state-*"))) == 1
    again.keep(head(6), [], state=state(6, BIG))
    assert known(KeptResults(tmp_path / "kept")) == 6


def test_no_state_is_no_state(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    kept.keep(head(1), [b"x"], state=None)
    assert KeptResults(tmp_path / "kept").state is None


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty"])
def test_a_damaged_file_is_a_task_that_was_not_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    kept = KeptResults(tmp_path / "kept")
    kept.keep(head(1), [b"one"], state=state(1))
    kept.sent(head(1)["task_id"])
    kept.keep(head(2), [b"two" * 100], state=state(2))
    (_, newest) = sorted((tmp_path / "kept").glob("*.task"))
    content = bytearray(newest.read_bytes())
    content[200] ^= 1
    newest.write_bytes({"cut": content[:-7], "flip": content, "empty": b""}[spoil])
    with caplog.at_level(logging.ERROR):
        again = KeptResults(tmp_path / "kept")
    assert (again.results, known(again)) == ({}, 1)  # the task runs again from the state before it
    assert "the task is run again" in caplog.text


def test_a_state_that_is_lost_is_noticed_when_the_server_asks_for_the_next_task(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    for number in (1, 2, 3):
        kept.keep(head(number), [b"x"], state=state(number))
    kept.sent(head(1)["task_id"])
    spoil(sorted((tmp_path / "kept").glob("*.task"))[1])
    KeptResults(tmp_path / "kept")
    again = KeptResults(tmp_path / "kept")  # also after another death
    assert (again.problem, known(again)) == (None, 1)
    assert again.problem_with(head(2)["task_id"]) is None
    again.keep(head(2), [b"x"], state=state(2))
    last = KeptResults(tmp_path / "kept")
    assert last.problem_with(head(3)["task_id"]) is None
    assert "the state of this site is damaged" in str(last.problem_with(head(4)["task_id"]))


def test_without_a_state_nothing_is_lost(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    kept.keep(head(1), [b"x"], state=None)
    kept.sent(head(1)["task_id"])
    kept.keep(head(2), [b"x"], state=None)
    for path in (tmp_path / "kept").glob("*.task"):
        spoil(path)
    again = KeptResults(tmp_path / "kept")
    assert (again.problem, again.problem_with(head(3)["task_id"]), again.results) == (None, None, {})


def test_a_result_whose_file_is_damaged_is_not_sent(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    said, parts = Packing(BlobFolder(folder, "r")).pack(Encoder().encode({"w": np.zeros(BIG)}), [set()])
    kept = KeptResults(tmp_path / "kept")
    kept.keep(head(1), [b"x"], state=state(1))
    kept.sent(head(1)["task_id"])
    kept.keep({**head(2), **said}, parts, state=state(2))
    assert list(KeptResults(tmp_path / "kept").results) == [head(2)["task_id"]]
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    again = KeptResults(tmp_path / "kept")
    assert (again.results, known(again)) == ({}, 1)


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")


def test_what_came_after_a_damaged_file_is_run_again_too(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    for number in (1, 2, 3):
        kept.keep(head(number), [b"x"], state=state(number))
    kept.sent(head(1)["task_id"])
    spoil(sorted((tmp_path / "kept").glob("*.task"))[1])
    again = KeptResults(tmp_path / "kept")
    assert (again.results, known(again), again.problem) == ({}, 1, None)
    again.keep(head(2), [b"y"], state=state(2))
    assert list(KeptResults(tmp_path / "kept").results) == [head(2)["task_id"]]


def test_a_damaged_state_that_the_server_counts_on_ends_the_sites_part(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    kept.keep(head(1), [b"x"], state=state(1))
    kept.sent(head(1)["task_id"])
    (file,) = (tmp_path / "kept").glob("*.task")
    spoil(file)
    again = KeptResults(tmp_path / "kept")
    assert again.problem == (
        f"{file}: the state of this site is damaged, and the job cannot go on here (its digest is another one)"
    )
    assert KeptResults(tmp_path / "kept").problem == again.problem
