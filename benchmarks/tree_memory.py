"""How much memory a tree of processes takes (Linux)."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")
_EVERY_S = 0.02


def processes_of(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def tree_bytes(root: int) -> int:
    """The memory of a process and its descendants, every page once.

    Their PSS without shared memory, and of the memory files that they have open every page, mapped or not; or their
    PSS as a whole, where that is more.
    """
    whole = private = 0
    files: dict[tuple[int, int], int] = {}
    for pid in processes_of(root):
        with suppress(OSError):  # it is over
            pss, shared = _pss(pid)
            whole += pss
            private += pss - shared
            files |= _memory_files(pid)
    return max(whole, private + sum(files.values()))


def _pss(pid: int) -> tuple[int, int]:
    """PSS of a process, and how much of it is shared memory."""
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split()[0]: int(line.split()[1]) << 10 for line in lines}
    return sizes["Pss:"], sizes["Pss_Shmem:"]


def _memory_files(pid: int) -> dict[tuple[int, int], int]:
    files = {}
    for entry in (_PROC / str(pid) / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if str(entry.readlink()).startswith("/memfd:"):
                found = entry.stat()
                files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return files


class Peak:
    """Looks at a tree of processes again and again while it is entered.

    Args:
        root: The process at the top.
    """

    def __init__(self, root: int) -> None:
        self.num_bytes = 0
        self._root = root
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
            self.num_bytes = max(self.num_bytes, tree_bytes(self._root))
            if self._over.wait(_EVERY_S):
                return
