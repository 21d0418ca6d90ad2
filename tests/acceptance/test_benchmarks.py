"""The benchmarks run; what they measure is for people to read."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from source_code import ROOT


def figures(name: str) -> list[dict[str, Any]]:
    script = ROOT / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_round_of_few_sites_is_measured_in_process_and_with_workers() -> None:
    found = figures("bench_round")
    rounds, checkpoints = found[:2], found[2:]
    assert [figure["goal_ms"] for figure in rounds] == [2.0, 3.0]
    assert all(figure["ms"] > figure["bare_ms"] > 0 for figure in rounds)
    assert all(figure["phases_ms"] for figure in rounds)
    assert [figure["goal_ms"] - figure["without_ms"] for figure in checkpoints] == pytest.approx([5.0, 5.0])
    assert all(figure["ms"] > 0 and figure["without_ms"] > 0 for figure in checkpoints)


@pytest.mark.slow
def test_many_sites_are_measured_beside_a_bare_loop() -> None:
    found = figures("bench_many_sites")
    assert [figure["goal_ms"] for figure in found[:3]] == [0.18, 0.18, 0.6]
    assert all(figure["ms_per_site"] > 0 and figure["bare_ms"] > 0 for figure in found[:3])
    assert all(len(figure["all_ms"]) == 2 for figure in found[:3])  # the first round, and one more
    assert [figure["goal"] for figure in found[3:]] == [2048, 2048]


@pytest.mark.slow
def test_the_way_to_a_script_and_back_is_measured_beside_a_copy() -> None:
    [found] = figures("bench_script")
    assert found["goal"] == 3.0
    assert found["seconds"] > found["bare_seconds"] > 0
    assert len(found["all_seconds"]) == len(found["all_bare_seconds"]) == 7  # two apart, and five


@pytest.mark.slow
def test_a_large_model_is_measured_in_time_and_memory() -> None:
    found = figures("bench_large_model")
    assert [figure["goal"] for figure in found] == [1.8, 1.6, 2.4, None]
    assert all(figure["ratio"] > 0 for figure in found)
    # Three interpreters and a model of 4 MB take more than one interpreter and three such arrays.
    assert all(figure["bytes"] > figure["bare_bytes"] > 20_000_000 for figure in found[1:])


@pytest.mark.slow
def test_training_is_measured_beside_a_plain_torch_loop() -> None:
    found = figures("bench_training")
    assert [figure["goal"] for figure in found] == [1.07, 1.15]
    assert all(figure["ratio"] > 0 and figure["bare_s"] > 0 for figure in found)
    assert all(figure["phases_s"]["execute"] > 0 for figure in found)


@pytest.mark.slow
def test_a_federation_of_processes_is_measured_beside_a_bare_ping() -> None:
    found = figures("bench_federation")
    *others, journal = found
    assert [figure["goal_s"] for figure in others] == [4.0, 1.0, 0.3, 0.010, 1.0, 6.0]
    assert journal["goal_s"] == 1.3 * journal["without_seconds"]
    assert all(figure["seconds"] > 0 for figure in found)
    assert 0 < found[3]["bare_seconds"] < found[3]["seconds"]


@pytest.mark.slow
def test_a_large_model_over_the_network_is_measured_beside_bare_streams() -> None:
    timed, memory = figures("bench_federation_blobs")
    assert timed["goal"] == 0.7
    assert timed["ratio"] == timed["bare_seconds"] / timed["seconds"] > 0
    assert memory["bytes_with_files"] > memory["bytes"] > 20_000_000  # three interpreters and a model of 4 MB


@pytest.mark.slow
def test_connected_sites_are_measured() -> None:
    found = {figure["what"].partition(",")[0]: figure for figure in figures("bench_thousand_sites")}
    assert [figure["goal"] for figure in found.values()] == [60_000_000, None, 1_000_000, 0.2, 3.0, 64]
    assert found["broadcast to 8 sites and back"]["bare_seconds"] > 0
    assert found["threads of the server"]["count"] > 0


@pytest.mark.slow
def test_the_journal_is_measured_beside_bare_sqlite() -> None:
    found = figures("bench_journal")
    assert [figure["rows"] for figure in found] == [1, 8, 64]
    assert all(figure[name]["ms"] > 0 for figure in found for name in ("journal", "bare sqlite3", "fsync"))


@pytest.mark.slow
def test_a_long_run_is_looked_at() -> None:
    script = ROOT / "benchmarks" / "bench_long_run.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["what"]: row["verdict"] for row in json.loads(done.stdout)["figures"]}
    assert rows["history.jsonl, MB"] == "by design"
    assert len(rows) == 17


@pytest.mark.slow
def test_a_hand_over_is_measured() -> None:
    [found] = figures("bench_cyclic")
    assert found["goal_s"] == 0.005
    assert found["seconds"] > 0
    assert len(found["all_seconds"]) == 1


@pytest.mark.slow
def test_statistics_are_measured_beside_a_pass_with_numpy() -> None:
    [found] = figures("bench_statistics")
    assert (found["goal"], found["sites"], found["columns"]) == (1.3, 8, 30)
    assert min(found[key] for key in ("numpy_one_site_s", "numpy_all_sites_s", "federated_s")) > 0
