"""What a round costs with workers, counted: encodes, copies, threads; and what a site costs that does nothing."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import worker_parts
from hansa.jobs import Component, Job, fed_avg
from hansa.runtime.run import Run
from worker_jobs import BIG, MODEL, job, simulate

pytestmark = pytest.mark.slow


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def outboxes(run: Run) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((run.folder / "run.json").read_text())["outboxes"]
    return found


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("model", [{"w": MODEL["w"]}, BIG], ids=["small", "big"])
def test_the_global_model_is_encoded_once_a_round(tmp_path: Path, workers: int, model: dict[str, Any]) -> None:
    run = simulate(job(worker_parts.Noisy, rounds=3, model=model), 6, workers, tmp_path)
    sent = outboxes(run)
    assert sorted(sent) == ["server", *(f"site-{number}" for number in range(1, 7))]
    assert sent["server"]["tensors_encoded"] == 3 * len(model)  # not 3 rounds x workers x tensors
    assert sent["server"]["messages"] == 3 * 6
    # and at the sites none at all: the results are folded where they come from
    assert {sent[name]["tensors_encoded"] for name in sent if name != "server"} == {0}
    assert {sent[name]["messages"] for name in sent if name != "server"} == {3}


def test_who_sends_what_is_counted_the_same_with_workers(tmp_path: Path) -> None:
    counts = [outboxes(simulate(job(worker_parts.Noisy, model=BIG), 5, workers, tmp_path)) for workers in (0, 2)]
    assert counts[1] == counts[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tensor_is_copied_once_on_its_way_to_an_executor(tmp_path: Path, workers: int) -> None:
    simulate(job(worker_parts.Watches, model=BIG, file=str(tmp_path / "facts")), 6, workers, tmp_path / "home")
    facts = lines(tmp_path / "facts")
    assert len(facts) == 3 * 6
    for process in {each["process"] for each in facts}:
        for number in range(3):
            mine = [each["copies"] for each in facts if (each["process"], each["round"]) == (process, number)]
            assert mine == list(range(1, len(mine) + 1))  # the blob came as shared memory; each site copied it once
    assert {(each["is_shared"], each["is_writable"]) for each in facts} == {(False, True)}


@pytest.mark.parametrize("workers", [1, 2])
def test_and_not_at_all_to_one_that_only_reads(tmp_path: Path, workers: int) -> None:
    simulate(job(worker_parts.WatchesOnly, model=BIG, file=str(tmp_path / "facts")), 6, workers, tmp_path / "home")
    facts = lines(tmp_path / "facts")
    assert len(facts) == 3 * 6
    assert {each["copies"] for each in facts} == {0}
    # it reads where the server wrote
    assert {(each["is_shared"], each["is_writable"]) for each in facts} == {(True, False)}


def test_no_thread_is_started_during_the_rounds(tmp_path: Path) -> None:
    made = fed_avg(
        MODEL,
        executor=Component(worker_parts.Watches, file=str(tmp_path / "sites")),
        rounds=5,
        server_components=[Component(worker_parts.RoundsDone, file=str(tmp_path / "server"))],
    )
    simulate(made, 6, 2, tmp_path / "home")
    facts = lines(tmp_path / "sites")
    by_process = {
        process: [each["threads"] for each in facts if each["process"] == process]
        for process in {each["process"] for each in facts}
    }
    assert [len(seen) for seen in by_process.values()] == [15, 15]
    for seen in by_process.values():
        assert all(threads == seen[0] for threads in seen)
    rounds = [each["threads"] for each in lines(tmp_path / "server")]
    assert len(rounds) == 5
    assert all(threads == rounds[1] for threads in rounds[1:])  # the writer of models begins with the first one


# -- memory -----------------------------------------------------------------------------------------------------------


def in_use(folder: Path, num_sites: int, made: Job) -> list[int]:
    """Bytes in use after each round, in this process, which holds the sites, too."""
    tracemalloc.start()
    try:
        simulate(made, num_sites, 0, folder / "home")
    finally:
        tracemalloc.stop()
    return [each["memory"] for each in lines(folder / "server")]


def sampled(folder: Path, part: type, *, count: int, rounds: int, **arguments: Any) -> Job:
    return fed_avg(
        MODEL,
        executor=Component(part, **arguments),
        rounds=rounds,
        sampling={"count": count},
        server_components=[Component(worker_parts.RoundsDone, file=str(folder / "server"))],
    )


def test_a_site_that_was_never_asked_takes_2_kb_at_most(tmp_path: Path) -> None:
    used = []
    for num_sites in (1_000, 10_000):
        folder = tmp_path / str(num_sites)
        folder.mkdir()
        used.append(in_use(folder, num_sites, sampled(folder, worker_parts.Adds, count=10, rounds=2))[0])
    assert (used[1] - used[0]) / 9_000 <= 2048


def test_a_site_that_was_put_away_takes_2_kb_at_most(tmp_path: Path) -> None:
    made = sampled(tmp_path, worker_parts.ReportsStateless, count=150, rounds=6, file=str(tmp_path / "made"))
    used = in_use(tmp_path, 10_000, made)
    # Of 10,000 nearly all that are drawn in a round are drawn for the first time; the record of the rounds is in it.
    assert (used[-1] - used[0]) / (5 * 150) <= 2048
