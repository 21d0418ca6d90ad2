"""A federation on this machine for the benchmarks: real processes, real mutual TLS."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tree_memory import processes_of

_EVERY_S = 0.02
_LOOK_S = 0.005


def hansa_command(*arguments: str) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "hansa.cli.main", *arguments]


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Look again and again until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s: {what}")
        select.select([], [], [], _LOOK_S)


@dataclass(frozen=True)
class Poc:
    """A federation that runs.

    Attributes:
        folder: Where its kits are.
        up_s: How long `hansa poc up` took, until all sites were connected.
    """

    folder: Path
    up_s: float

    @property
    def admin_kit(self) -> Path:
        """The kit of somebody who may submit jobs."""
        return next(self.folder.rglob("fed_admin.json")).parents[1]

    @property
    def server_pid(self) -> int:
        """The server's process, on top of its tree."""
        return self._pids("server.json")[0]

    @property
    def site_pids(self) -> list[int]:
        """The sites' agents."""
        return self._pids("agent.json")

    def processes(self) -> set[int]:
        """All processes of the federation, those of jobs too."""
        return {pid for root in (self.server_pid, *self.site_pids) for pid in processes_of(root)}

    def _pids(self, name: str) -> list[int]:
        return [int(json.loads(file.read_text())["pid"]) for file in sorted(self.folder.rglob(name))]


@contextmanager
def poc(num_sites: int) -> Iterator[Poc]:
    """A federation with so many sites; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "poc"
        began = time.perf_counter()
        try:
            _call("poc", "up", "--sites", str(num_sites), "--dir", str(folder))
            yield Poc(folder, time.perf_counter() - began)
        finally:
            _call("poc", "down", "--dir", str(folder))


def _call(*arguments: str) -> None:
    done = subprocess.run(hansa_command(*arguments), capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"hansa {' '.join(arguments)}: {done.stderr[-2000:]}")


class TreePeak:
    """Looks at the memory of processes and all that descend from them again and again while it is entered.

    Args:
        roots: The processes at the top.

    Attributes:
        num_bytes: The most PSS at any time, mapped files included.
        without_files: The most PSS of anonymous and shared memory alone.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self.num_bytes = self.without_files = 0
        self._roots = roots
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._over.clear()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            found = [pss(pid) for root in self._roots for pid in processes_of(root)]
            self.num_bytes = max(self.num_bytes, sum(whole for whole, _ in found))
            self.without_files = max(self.without_files, sum(own for _, own in found))
            if self._over.wait(_EVERY_S):
                return


def pss(pid: int) -> tuple[int, int]:
    """PSS of a process in bytes, with mapped files and without; nothing of one that is over."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split()[0]: int(line.split()[1]) << 10 for line in lines}
        return sizes["Pss:"], sizes["Pss:"] - sizes["Pss_File:"]
    return 0, 0


def cpu_s(pid: int) -> float:
    """The processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def num_threads(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def tree_pss(root: int) -> int:
    """PSS of a process and all that descend from it, mapped files included."""
    return sum(pss(pid)[0] for pid in processes_of(root))
