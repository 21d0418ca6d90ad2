"""How long `import hansa` and a whole command take, beside a bare interpreter with and without NumPy."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPEATS = 5
IN_PROCESS = "hansa simulate, 8 sites x 5 rounds, in process"
WITH_WORKERS = "hansa simulate, 8 sites x 5 rounds, 2 workers"
GOALS_S = {IN_PROCESS: 0.6, WITH_WORKERS: 0.9}
GOAL_IMPORT_S = 0.15
EXECUTOR = """
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor


class AddOne(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        data = {name: value + 1 for name, value in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHTS, data).to_shareable()
"""


def seconds(command: list[str], folder: Path) -> float:
    """How long a command takes from start to exit."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HANSA_HOME": "."})
    return time.perf_counter() - began


def make_job(folder: Path) -> None:
    """A job folder whose sites add one, 5 rounds."""
    from hansa.jobs import Component, fed_avg

    (folder / "adder.py").write_text(EXECUTOR, encoding="utf-8")
    sys.path.insert(0, str(folder))
    job = fed_avg({"w": np.zeros(10, np.float32)}, executor=Component("adder.AddOne"), rounds=5, name="add")
    job.save(folder / "job")
    (folder / "job" / "app" / "custom").mkdir(exist_ok=True)
    (folder / "job" / "app" / "custom" / "adder.py").write_text(EXECUTOR, encoding="utf-8")


def main() -> None:
    """Measure and print."""
    python = sys.executable
    hansa_command = [python, "-m", "hansa.cli.main"]
    commands = {
        "bare interpreter": [python, "-c", "pass"],
        "import numpy": [python, "-c", "import numpy"],
        "import hansa": [python, "-c", "import hansa"],
        IN_PROCESS: [*hansa_command, "simulate", "job", "-n", "8", "--workers", "0"],
        WITH_WORKERS: [*hansa_command, "simulate", "job", "-n", "8", "--workers", "2"],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_job(folder)
        taken: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(REPEATS):
            for what, command in commands.items():
                taken[what].append(seconds(command, folder))
    medians = {what: statistics.median(times) for what, times in taken.items()}
    own = medians["import hansa"] - medians["bare interpreter"]
    if "--json" in sys.argv:
        goals = {"import_hansa_s": GOAL_IMPORT_S, **GOALS_S}
        print(json.dumps({"seconds": medians, "import_hansa_s": own, "goals": goals}))
        return
    for what, median in medians.items():
        goal = f" (goal {GOALS_S[what]})" if what in GOALS_S else ""
        print(f"{median:6.3f} s  {what}{goal}")
    print(f"{own:6.3f} s  import hansa without the interpreter (goal {GOAL_IMPORT_S}); medians of {REPEATS}")


if __name__ == "__main__":
    main()
