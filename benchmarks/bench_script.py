"""A model of 100 MB to a training script and back, beside a plain copy of it.

    python benchmarks/bench_script.py [--quick] [--json]

The script sends back what it receives and does nothing else, so the time of a turn is that of the hand-over: from the
task that its executor gets to the result that it returns. The copy goes into memory that is there already. Both are the
median of 5, the first two turns apart, in which memory is set up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import numpy as np

from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContextManager
from hansa.apis.signal import Signal
from hansa.components.executors.script_executor import ScriptExecutor
from hansa.runtime.script_host import Scripts
from hansa.runtime.script_process import ScriptProcess

GOAL = 3.0
NUM_TURNS = 5
NUM_APART = 2
NUM_TENSORS = 20
KINDS = ("NumPy", "torch")
SCRIPT = """
import hansa.client as flare

flare.init()
while flare.is_running():
    incoming = flare.receive()
    flare.send(flare.FLModel(params=incoming.params))
"""


class Engine:
    """What the executor needs of a site's engine."""

    def __init__(self, folder: Path, scripts: Scripts) -> None:
        self._folder = folder
        self._scripts = scripts

    def start_script(self, script: str, args: Sequence[str], *, seed: int) -> ScriptProcess:
        return self._scripts.start("site-1", self._folder / script, args=args, folder=self._folder, seed=seed)

    def fire_event(self, event_type: str, fl_ctx: object) -> None:
        """Nobody hears."""


def turns(num_bytes: int, kind: str) -> tuple[list[float], list[float]]:
    """Seconds of each turn of the script and of each plain copy, one after the other."""
    rng = np.random.default_rng(0)
    size = num_bytes // 4 // NUM_TENSORS
    model = {f"layer{index}.weight": rng.random(size, dtype=np.float32) for index in range(NUM_TENSORS)}
    target = {name: np.zeros_like(value) for name, value in model.items()}
    seconds, bare_seconds = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT if kind == "NumPy" else f"import torch\n{SCRIPT}")
        scripts = Scripts(folder, threads=1)
        executor = ScriptExecutor("train.py")
        with FLContextManager(Engine(folder, scripts), "site-1", 1, {}, {}).new_context() as fl_ctx:
            for _ in range(NUM_APART + NUM_TURNS):
                task = DXO(DataKind.WEIGHTS, model).to_shareable()
                began = time.perf_counter()
                result = executor.execute("train", task, fl_ctx, Signal())
                seconds.append(time.perf_counter() - began)
                back = from_shareable(result).data
                assert all(np.array_equal(back[key], value) for key, value in model.items())
                del result, back
                began = time.perf_counter()
                for key, value in model.items():
                    np.copyto(target[key], value)
                bare_seconds.append(time.perf_counter() - began)
            executor.handle_event(EventType.END_RUN, fl_ctx)
        scripts.close()
    return seconds, bare_seconds


def figure(num_bytes: int, kind: str) -> dict[str, Any]:
    seconds, bare_seconds = turns(num_bytes, kind)
    own, bare = (statistics.median(each[NUM_APART:]) for each in (seconds, bare_seconds))
    return {
        "what": f"{num_bytes // 10**6} MB to a {kind} script and back",
        "seconds": own,
        "bare_seconds": bare,
        "ratio": own / bare,
        "goal": GOAL,
        "first_seconds": seconds[0],
        "all_seconds": seconds,
        "all_bare_seconds": bare_seconds,
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['what']:36} {found['seconds'] * 1e3:7.1f} ms, memcpy {found['bare_seconds'] * 1e3:7.1f} ms: "
        f"{found['ratio']:.2f} x memcpy (goal {found['goal']}); first turn {found['first_seconds']:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="small and NumPy only, to see that it runs; the figures mean little"
    )
    options = parser.parse_args()
    found = []
    for kind in KINDS[:1] if options.quick else KINDS:
        found.append(figure(4_000_000 if options.quick else 100_000_000, kind))
        if not options.json:
            show(found[-1])
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
