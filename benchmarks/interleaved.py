"""A run of Hansa and a plain NumPy loop, round by round in turn, each in a process of its own.

When a round is about to start, the run stands still until the plain loop has done one. The time of a round is that from
there to the start of the next, so everything between rounds is in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tree_memory import Peak, tree_bytes

import hansa
from job_parts import Metronome, Work

_HERE = Path(__file__).resolve().parent


@dataclass
class Rounds:
    """What was measured.

    Attributes:
        hansa_s: Seconds of each round.
        bare_s: Likewise of the plain loop.
        phases_s: Where the time of all rounds went, as Hansa's own clock has it.
        hansa_peak: The most memory that a round took, in bytes, if that was asked for.
        bare_peak: Likewise.
        calm: Memory before each round.
    """

    hansa_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    phases_s: dict[str, float] = field(default_factory=dict)
    hansa_peak: int = 0
    bare_peak: int = 0
    calm: list[int] = field(default_factory=list)


def measure(work: Work, *, workers: int, bare: bool = True, memory: bool = False) -> Rounds:
    """Run it.

    Args:
        work: What the sites do.
        workers: How many processes hold them.
        bare: Whether the plain loop takes its turns.
        memory: Whether to look at memory all the time, which takes some.
    """
    rounds = Rounds()
    sizes = map(str, (work.num_sites, work.num_bytes, work.num_tensors))
    with (
        tempfile.TemporaryDirectory() as home,
        _started([str(_HERE / "interleaved.py"), json.dumps(asdict(work)), str(workers), home]) as run,
        _started([str(_HERE / "bare_loop.py"), work.kind, *sizes]) as loop,
    ):
        watch, bare_watch = Peak(run.pid), Peak(loop.pid)
        while (line := _ask(run, watch if memory else None))[0] == "round":
            if memory:
                rounds.calm.append(tree_bytes(run.pid))
            if bare:
                rounds.bare_s.append(float(_ask(loop, bare_watch if memory else None)[0]))
        rounds.hansa_s, rounds.phases_s = line[1]
        rounds.hansa_peak, rounds.bare_peak = watch.num_bytes, bare_watch.num_bytes
    return rounds


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _ask(process: subprocess.Popen[str], watch: Peak | None) -> list[Any]:
    """Have a process go on to its next stop; returns what it says there."""
    print(file=_pipe(process.stdin), flush=True)
    if watch is None:
        said = _pipe(process.stdout).readline()
    else:
        with watch:
            said = _pipe(process.stdout).readline()
    if not said:
        raise RuntimeError(f"ended with exit code {process.wait()}")
    answer = json.loads(said)
    return answer if isinstance(answer, list) else [answer]


def _drive(work: Work, workers: int, home: str) -> None:
    """In the process of the run."""
    stops: list[float] = []
    goes: list[float] = []

    def stop() -> None:
        stops.append(time.perf_counter())
        print(json.dumps(["round"]), flush=True)
        input()
        goes.append(time.perf_counter())

    Metronome.between = stop
    input()
    run = hansa.simulate(work.job(), work.num_sites, workers=workers, home=home, progress=False)
    assert all((value == work.num_rounds + 1).all() for value in run.model.values())
    seconds = [end - begin for begin, end in zip(goes, stops[1:], strict=False)]
    print(json.dumps(["done", [seconds, dict(run.timings.phases)]]), flush=True)


if __name__ == "__main__":
    _drive(Work(**json.loads(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
