"""Executors that a script or a notebook defines, in worker processes that never see its work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
