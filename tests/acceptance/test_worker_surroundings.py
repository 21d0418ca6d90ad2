"""What a site finds around it in a worker: its working directory, its threads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hansa
from hansa.errors import ConfigError
from hansa.jobs import fed_avg
from hansa.runtime.options import SimulatorOptions
from hansa.runtime.simulator import num_workers
from scenarios.federations import Adds

LOOKS = """
import json
import os
import resource
from pathlib import Path

import numpy
from threadpoolctl import threadpool_info

from hansa.apis.executor import Executor


class Looks(Executor):
    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            [b"x" * (6 << 20) for _ in range(4)]
        seen = {
            "faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before,
            "cwd": os.getcwd(),
            "threads": max(pool["num_threads"] for pool in threadpool_info()),
            "variable": os.environ.get("OMP_NUM_THREADS"),
        }
        (self.folder / f"{fl_ctx.get_identity_name()}.json").write_text(json.dumps(seen))
        return shareable
"""


def look(folder: Path, workers: int, meta: dict[str, Any], **options: Any) -> tuple[hansa.Run, dict[str, Any]]:
    """What site-2 has seen, in a job folder made of fed_avg's configs and an executor of its own."""
    fed_avg({"w": [0.0]}, executor=Adds, rounds=1).save(folder)
    client = folder / "app" / "config" / "config_fed_client.json"
    config = json.loads(client.read_text())
    config["executors"][0]["executor"] = {"path": "looks.Looks", "args": {"folder": str(folder)}}
    client.write_text(json.dumps(config))
    (folder / "app" / "custom" / "looks.py").write_text(LOOKS)
    known = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**known, **meta}))
    run = hansa.simulate(
        folder, 2, workers=workers, home=folder / "runs", progress=False, options=SimulatorOptions(**options)
    )
    return run, json.loads((folder / "site-2.json").read_text())


@pytest.mark.slow
def test_the_working_directory_of_a_site_of_a_job_folder_is_its_workspace(tmp_path: Path) -> None:
    run, seen = look(tmp_path / "job", 1, {})
    assert Path(seen["cwd"]) == (run.folder / "workspace" / "site-2").resolve()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(
    ("meta", "options", "threads"),
    [({}, {}, 1), ({"threads_per_site": 2}, {}, 2), ({"threads_per_site": 2}, {"threads_per_site": 1}, 1)],
)
def test_threads_belong_to_the_job_whatever_the_number_of_workers(
    tmp_path: Path, workers: int, meta: dict[str, Any], options: dict[str, Any], threads: int
) -> None:
    run, seen = look(tmp_path / "job", workers, meta, **options)
    assert seen["threads"] == threads
    assert run.config["threads_per_site"] == threads
    if workers:
        assert seen["variable"] == str(threads)


def test_the_job_may_say_the_tags_of_sites(tmp_path: Path) -> None:
    job = fed_avg({"w": [0.0]}, executor=Adds, rounds=1, sampling={"tag": "icu"})
    job = replace(job, meta={"site_tags": {"site-2": ["icu"], "site-3": ["icu", "day"]}})
    run = hansa.simulate(job, 4, home=tmp_path, progress=False)
    assert run.history.rounds[0].targets == ["site-2", "site-3"]


def test_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_workers(3) == 3
    monkeypatch.setenv("HANSA_WORKERS", "2")
    assert (num_workers(None), num_workers(0)) == (2, 0)
    monkeypatch.setenv("HANSA_WORKERS", "many")
    with pytest.raises(ConfigError, match="HANSA_WORKERS: must be an integer >= 0, not 'many'"):
        num_workers(None)
    monkeypatch.delenv("HANSA_WORKERS")
    assert num_workers(None) >= 1


@pytest.mark.slow
def test_memory_that_is_freed_and_taken_again_stays_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 20 times 4 times 6 MB are 122,880 pages, of which 6,144 must come from the system once.
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, seen = look(tmp_path / "a", 1, {})
    assert seen["faults"] < 15_000
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")  # what the user says counts
    _, seen = look(tmp_path / "b", 1, {})
    assert seen["faults"] > 60_000
