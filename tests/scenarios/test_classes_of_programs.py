"""Executors that a script or a notebook defines, in worker processes that never see its work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hansa
from hansa.apis.executor import Executor
from hansa.errors import ConfigError
from hansa.jobs import fed_avg
from source_code import PACKAGE

DEFINES = """
import numpy as np
import hansa
from hansa.apis.dxo import from_shareable
from hansa.apis.executor import Executor
from hansa.jobs import fed_avg
print("begin")
STEP = 2

class Trainer(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        from_shareable(shareable).data["w"][:] += STEP
        return shareable
"""
WORKS = """
run = hansa.simulate(fed_avg({"w": np.zeros(3)}, executor=Trainer, rounds=5), sites=4, workers=WORKERS)
print(run.model["w"], run.problems)
"""
NOTEBOOK = """
import sys
main = sys.modules["__main__"].__dict__
main["_ih"] = [""]
for number, cell in enumerate({cells!r}):
    main["_ih"].append(cell)
    exec(compile(cell, f"<ipython-input-{{number}}>", "exec"), main)
"""


def printed(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_a_script_without_a_guard(workers: int, tmp_path: Path) -> None:
    # Every site adds 2 in each of 5 rounds.
    (tmp_path / "train.py").write_text(DEFINES + WORKS.replace("WORKERS", str(workers)))
    assert printed(tmp_path, "train.py") == "begin\n[10. 10. 10.] []\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_notebook(workers: int, tmp_path: Path) -> None:
    program = NOTEBOOK.format(cells=[DEFINES, WORKS.replace("WORKERS", str(workers))])
    assert printed(tmp_path, "-c", program) == "begin\n[10. 10. 10.] []\n"


def test_a_class_in_a_function_runs_here_unless_workers_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("HANSA_WORKERS")

    class Inside(Executor):
        def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
            return shareable

    job = fed_avg({"w": [1.0]}, executor=Inside, rounds=1)
    run = hansa.simulate(job, 2, home=tmp_path, progress=False)
    assert run.config["workers"] == 0
    assert "Inside is defined inside a function" in caplog.text
    with pytest.raises(ConfigError, match="workers=0"):
        hansa.simulate(job, 2, home=tmp_path, workers=1, progress=False)
