"""What a round costs, as the codec and the threads count it: encodes, copies, threads."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.wire.blobs import Blob
from hansa.wire.encoder import Encoder
from scenarios.federations import (
    Adds,
    Flow,
    ask,
    averaging,
    executor,
    flow,
    make_job,
    simulate,
    weights,
)


def alive() -> dict[int, Encoder | Blob]:
    return {id(each): each for each in gc.get_objects() if type(each) in (Encoder, Blob)}


class Counts:
    """The codec's own counters: whoever looks while a task stands finds its encoder and its blobs among all objects."""

    def __init__(self) -> None:
        self._earlier = alive()  # of other tests, kept so that their ids stay theirs
        self._found: dict[int, Encoder | Blob] = {}

    def look(self) -> None:
        """Keep every encoder and blob that is alive now, to read its counters at the end."""
        self._found.update({key: each for key, each in alive().items() if key not in self._earlier})

    @property
    def tensors_encoded(self) -> int:
        return sum(each.num_tensors_encoded for each in self._found.values() if isinstance(each, Encoder))

    @property
    def copies(self) -> int:
        return sum(each.num_copies for each in self._found.values() if isinstance(each, Blob))


BIG = {"w": np.zeros(50_000, np.float32), "v": np.ones(50_000, np.float32)}  # too big for the envelope
SMALL = {"w": np.zeros(2, np.float32), "v": np.ones(3, np.float32)}


@pytest.mark.parametrize("model", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("num_sites", [1, 8, 40])
def test_the_global_model_is_encoded_once_a_round(tmp_path: Path, num_sites: int, model: dict[str, Any]) -> None:
    run = simulate(averaging(Adds, rounds=3, model=model), num_sites, home=tmp_path)
    assert [len(record.counted) for record in run.history.rounds] == [num_sites] * 3
    sent = json.loads((run.folder / "run.json").read_text())["outboxes"]
    assert sent["server"]["tensors_encoded"] == 3 * len(model)  # not 3 rounds x sites x tensors
    assert sent["server"]["messages"] == 3 * num_sites
    # and at the sites none at all: the results are folded where they come from
    assert {sent[name]["tensors_encoded"] for name in sent if name != "server"} == {0}


@pytest.mark.parametrize(("writes_input", "expected"), [(True, 3), (False, 0)])
def test_a_tensor_is_copied_once_on_its_way_to_an_executor_and_not_at_all_for_one_that_only_reads(
    tmp_path: Path, writes_input: bool, expected: int
) -> None:
    counts = Counts()
    writable: list[bool] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        counts.look()
        writable.append(from_shareable(data).data["w"].flags.writeable)
        return Shareable()

    part = executor(work, writes_input=writes_input)
    simulate(make_job([flow(lambda c, s, ctx: ask(c, ctx, weights(**BIG)))], part), 3, home=tmp_path)
    assert counts.tensors_encoded == 2
    assert counts.copies == expected  # one blob, copied for each of three sites, or read where it lies
    assert writable == [writes_input] * 3


def test_no_thread_is_started_during_the_rounds(tmp_path: Path) -> None:
    seen: list[set[int | None]] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        seen.append({each.ident for each in threading.enumerate()} - {None})
        return data

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for _ in range(5):
            ask(controller, ctx)

    before = threading.active_count()
    simulate(make_job([flow(rounds)], executor(work)), 4, home=tmp_path)
    assert len(seen) == 20
    assert all(each == seen[0] for each in seen)
    assert threading.active_count() == before


def test_a_whole_fed_avg_has_two_threads_beside_the_callers_at_most(tmp_path: Path) -> None:
    # the workflow's, and the one that writes models beside the rounds
    names: set[str] = set()

    class Counting(Adds):
        def execute(self, *args: Any) -> Shareable:  # type: ignore[override]
            names.update(each.name for each in threading.enumerate())
            return super().execute(*args)

    before = {each.name for each in threading.enumerate()}
    simulate(averaging(Counting, rounds=5), 4, home=tmp_path)
    assert names - before <= {"hansa-workflows", "hansa-writer"}
    assert {each.name for each in threading.enumerate()} == before
