"""Application folders for FLARE 2.0 that use its PyTorch parts, run as they are, with results worked by hand."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import hansa
from hansa.errors import HansaError
from hansa.runtime.run import Run, RunStatus
from source_code import ROOT

FOLDER = ROOT / "tests" / "scenarios" / "torch_folders" / "fed_opt"


def server_folder(run: Run) -> Path:
    return next(path for path in run.folder.rglob("app_server") if path.is_dir())


def saved(run: Run, name: str) -> dict[str, Any]:
    content = torch.load(server_folder(run) / name, weights_only=True)
    return {key: value.tolist() for key, value in content["model"].items()}


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "job"))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_fed_opt_with_momentum_and_a_schedule(workers: int, tmp_path: Path) -> None:
    run = hansa.simulate(FOLDER, 3, workers=workers, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert run.problems == []
    # The mean difference of the weight is (1 + 2 + 3) / 3 = 2, so the gradient is -2. Momentum 0.5, rates 1, 1, 0.5:
    # v = -2, w = 2; v = -3, w = 5; v = -3.5, w = 5 + 1.75 = 6.75. The rest moves by the mean: 3 * 0.5 and 3 * 2.
    expected = {
        "weight": [6.75, 6.75],
        "frozen": [0.0],
        "norm.running_mean": [1.5],
        "norm.running_var": [1.0],
        "norm.num_batches_tracked": 6,
    }
    assert {name: value.tolist() for name, value in run.model.items()} == expected
    assert saved(run, "FL_global_model.pt") == expected
    # Sites report the weight that they received: 0, 2, 5. The last is the best, and belongs to the model of round 1.
    assert dict(run.history.series("initial_metrics")) == {0: 0.0, 1: 2.0, 2: 5.0}
    assert saved(run, "best_FL_global_model.pt")["weight"] == [5.0, 5.0]


def test_a_run_goes_on_from_the_checkpoint_of_another(tmp_path: Path) -> None:
    first = hansa.simulate(FOLDER, 3, home=tmp_path / "home")
    job = copied(tmp_path)
    shutil.copy(server_folder(first) / "FL_global_model.pt", job / "config" / "start.pt")
    (job / "config" / "environment.json").write_text(
        json.dumps({"APP_CKPT": "config/start.pt", "APP_CKPT_DIR": "checkpoints"})
    )
    second = hansa.simulate(job, 3, home=tmp_path / "home")
    # A new optimizer makes the same steps, from 6.75.
    assert second.model["weight"].tolist() == [13.5, 13.5]
    assert second.model["norm.num_batches_tracked"] == 12
    content = torch.load(server_folder(second) / "checkpoints" / "FL_global_model.pt", weights_only=True)
    assert content["model"]["weight"].tolist() == [13.5, 13.5]
    assert content["train_conf"] == {"train": {"model": "LineNet"}}


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weight": torch.zeros(2), "extra": RunsCode()}, "holds code or objects (posix.mkdir), which are not loaded"),
        ({"weight": torch.zeros(3)}, "layer 'weight' has shape (3,) in the checkpoint and (2,) in the model"),
    ],
)
def test_a_bad_checkpoint_ends_the_run_with_one_line(tmp_path: Path, content: Any, words: str) -> None:
    job = copied(tmp_path)
    torch.save(content, job / "config" / "start.pt")
    (job / "config" / "environment.json").write_text('{"APP_CKPT": "config/start.pt"}')
    with pytest.raises(HansaError) as caught:
        hansa.simulate(job, 3, home=tmp_path / "home")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("executed"))


def test_an_unknown_optimizer_ends_the_run_with_one_line(tmp_path: Path) -> None:
    job = copied(tmp_path)
    config = json.loads((job / "config" / "config_fed_server.json").read_text())
    config["components"][3]["args"]["optimizer_args"]["path"] = "torch.optim.SDG"
    (job / "config" / "config_fed_server.json").write_text(json.dumps(config))
    with pytest.raises(
        HansaError, match=r"optimizer_args: torch has no optimizer 'torch\.optim\.SDG'; did you mean 'SGD'\?$"
    ):
        hansa.simulate(job, 3, home=tmp_path / "home")
