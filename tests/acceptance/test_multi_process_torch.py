"""A FLARE application whose trainer runs on two processes of `torch.distributed`, as it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hansa
from hansa.runtime.run import Run, RunStatus
from script_jobs import MARK, processes_of
from source_code import PACKAGE, ROOT

pytestmark = pytest.mark.slow

APP = ROOT / "tests" / "scenarios" / "flare_ranks" / "app"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder, by which its processes are known."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield tmp_path
    left = processes_of(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def trained_alone(steps: int) -> dict[str, Any]:  # Any: arrays
    """What one process makes of all samples: gradients are averaged over the ranks, each of which has half of them."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(3))
    y = x @ torch.tensor([[2.0], [-1.0]]) + 0.5
    weight, bias = torch.ones(1, 2, requires_grad=True), torch.zeros(1, requires_grad=True)
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(torch.nn.functional.linear(x, weight, bias), y)
        for tensor, gradient in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
            tensor.data -= 0.05 * gradient
    return {"fc.weight": weight.detach().numpy(), "fc.bias": bias.detach().numpy()}


def test_a_flare_application_on_two_ranks_of_torch(folder: Path) -> None:
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "hansa.cli.main", "simulate", str(APP), "-n", "1", "--workers", "1"]
    done = subprocess.run(
        [*command, "--home", str(folder / "home"), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = Run.load(folder / "home" / json.loads(done.stdout)["id"])
    assert (run.status, run.problems) == (RunStatus.COMPLETED, [])
    assert run.history.series("num_ranks") == [(0, 2.0), (1, 2.0)]
    assert run.model.keys() == {"fc.weight", "fc.bias"}
    for name, value in trained_alone(steps=4).items():
        np.testing.assert_allclose(run.model[name], value, rtol=1e-5)
    log = (run.folder / "workspace" / "site-1" / "log.txt").read_text()
    assert "Traceback" not in log
    assert not processes_of(folder)
    assert not list(temporary.glob("torchelastic*"))


def test_a_rank_of_torch_that_dies_is_named_and_none_is_left(folder: Path) -> None:
    app = folder / "dies"
    shutil.copytree(APP, app)
    trainer = app / "custom" / "ddp_trainer.py"
    trouble = """        if self.rank == 1:
            import os, subprocess
            subprocess.Popen(["sleep", "600"])
            print("the last word", flush=True)
            os.abort()
"""
    head = "        dxo = from_shareable(shareable)\n"
    trainer.write_text(trainer.read_text().replace(head, trouble + head))
    config = app / "config" / "config_fed_server.json"
    config.write_text(config.read_text().replace('"num_rounds": 2', '"num_rounds": 1'))
    run = hansa.simulate(app, 1, workers=0, home=folder / "home", progress=False)
    [problem] = run.problems
    assert problem.cause.endswith("rank 1 of 2 was killed by SIGABRT: the last word")
    assert not processes_of(folder)
