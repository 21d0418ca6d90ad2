"""Workers that share a device: who sees which, and what happens when memory runs out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hansa
from hansa.runtime.devices import FakeDevices
from hansa.runtime.options import SimulatorOptions

TRAINER = '''
import os
from pathlib import Path

import numpy as np
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor


class Greedy(Executor):
    """Takes a whole device: whoever comes while it is taken finds no memory."""

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        site, device = fl_ctx.get_identity_name(), os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        with (self.folder / "seen.txt").open("a") as seen:
            seen.write(f"{site} {device}\\n")
        lock = self.folder / f"{device}.taken"
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB") from None
        data = from_shareable(shareable).data
        for _ in range(40):  # long enough for the other worker to come
            np.linalg.svd(np.random.standard_normal((60, 60)))
        lock.unlink()
        return DXO(DataKind.WEIGHTS, {name: value + 1 for name, value in data.items()}).to_shareable()
'''


def job_folder(folder: Path, rounds: int) -> Path:
    (folder / "config").mkdir(parents=True)
    (folder / "custom").mkdir()
    (folder / "custom" / "greedy.py").write_text(TRAINER)
    np.savez(folder / "config" / "start.npz", w=np.zeros(3, np.float32))
    server = {
        "format_version": 2,
        "components": [
            {"id": "persistor", "path": "hansa.components.np_model.NPModelPersistor", "args": {"source": "start.npz"}},
            {"id": "aggregator", "name": "InTimeAccumulateWeightedAggregator",
             "args": {"expected_data_kind": "WEIGHTS"}},
            {"id": "shareable_generator", "name": "FullModelShareableGenerator"},
        ],
        "workflows": [{"name": "ScatterAndGather",
                       "args": {"num_rounds": rounds, "min_clients": "{num_sites}", "min_counted": "{num_sites}"}}],
    }  # fmt: skip
    client = {
        "format_version": 2,
        "executors": [{"tasks": ["train"], "executor": {"path": "greedy.Greedy", "args": {"folder": str(folder)}}}],
    }
    (folder / "config" / "config_fed_server.json").write_text(json.dumps(server))
    (folder / "config" / "config_fed_client.json").write_text(json.dumps(client))
    return folder


@pytest.mark.slow
def test_tasks_that_do_not_fit_side_by_side_run_one_after_the_other(tmp_path: Path) -> None:
    devices = FakeDevices({"gpu-a": 8 << 30})
    run = hansa.simulate(
        job_folder(tmp_path / "job", rounds=3), 4, workers=2, home=tmp_path, options=SimulatorOptions(devices=devices)
    )
    assert run.model["w"].tolist() == [3.0] * 3  # nobody was left out
    assert [len(record.counted) for record in run.history.rounds] == [4] * 3
    seen = (tmp_path / "job" / "seen.txt").read_text().split("\n")[:-1]
    assert {line.split()[1] for line in seen} == {"gpu-a"}
    assert len(seen) >= 12


@pytest.mark.slow
def test_each_worker_sees_its_own_device(tmp_path: Path) -> None:
    devices = FakeDevices({"gpu-a": 8 << 30, "gpu-b": 8 << 30})
    hansa.simulate(
        job_folder(tmp_path / "job", rounds=1), 4, workers=2, home=tmp_path, options=SimulatorOptions(devices=devices)
    )
    seen = sorted(set((tmp_path / "job" / "seen.txt").read_text().split("\n")[:-1]))
    assert seen == ["site-1 gpu-a", "site-2 gpu-a", "site-3 gpu-b", "site-4 gpu-b"]


@pytest.mark.slow
def test_nobody_gets_a_device_where_none_is_wanted(tmp_path: Path) -> None:
    options = SimulatorOptions(devices=FakeDevices({"gpu-a": 8 << 30}), gpus=False)
    hansa.simulate(job_folder(tmp_path / "job", rounds=1), 1, workers=1, home=tmp_path, options=options)
    assert (tmp_path / "job" / "seen.txt").read_text() == "site-1 none\n"
