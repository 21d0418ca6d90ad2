"""Sums in files: their content stays, their pages need not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hansa.runtime.file_memory import FileMemory

SIZE = 8 << 20


def resident_bytes(array: np.ndarray) -> int:
    """How much of an array's memory is in this process."""
    address = array.__array_interface__["data"][0]
    is_it = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            begin, end = (int(each, 16) for each in first.split("-"))
            is_it = begin <= address < end
        elif is_it and first == "Rss:":
            return int(line.split()[1]) << 10
    raise LookupError(hex(address))


def test_what_is_let_go_takes_no_memory_and_keeps_its_content(tmp_path: Path) -> None:
    memory = FileMemory(tmp_path)
    array = memory.allocate(SIZE).view(np.float32)
    array[:] = np.arange(len(array))
    assert resident_bytes(array) >= SIZE * 0.9
    memory.let_go()
    assert resident_bytes(array) < SIZE // 4
    array += 1
    memory.let_go()
    assert np.array_equal(array, np.arange(len(array), dtype=np.float32) + 1)


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    memory = FileMemory(tmp_path)
    array = memory.allocate(SIZE)
    assert list(tmp_path.iterdir()) == []
    del array
    memory.let_go()


def test_little_and_what_the_disk_does_not_hold_is_common_memory(tmp_path: Path) -> None:
    assert len(FileMemory(tmp_path).allocate(10)) == 10
    array = FileMemory(tmp_path / "missing").allocate(SIZE)
    array[:] = 1
    assert array.sum() == SIZE
