"""A log that has a cap while somebody else writes to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hansa.runtime.capped_log import CappedLog


def lines(begin: int, end: int) -> bytes:
    """Lines of ten bytes."""
    return b"".join(b"%09d\n" % number for number in range(begin, end))


def test_a_short_log_is_left_alone_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"before\n")
    log = CappedLog(path, max_bytes=1000)
    os.write(log.descriptor, lines(0, 99))
    assert log.check() < 1.0  # it grows fast
    assert log.check() == 1.0
    assert path.read_bytes() == b"before\n" + lines(0, 99)
    log.close()


def test_the_middle_of_a_long_log_is_taken_out_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = CappedLog(path, max_bytes=1000)
    os.write(log.descriptor, lines(0, 200))
    log.check()
    # The first and last 250 bytes, each up to the end of a line; 26 and 24 lines, and 150 of 200 are gone.
    said = b"[hansa] 1500 bytes were taken out here: a log may have 1000\n"
    assert path.read_bytes() == lines(0, 26) + said + lines(176, 200)
    os.write(log.descriptor, lines(200, 300))
    log.check()
    found = path.read_bytes()
    assert found.startswith(lines(0, 26) + b"[hansa] ")
    assert found.endswith(lines(276, 300))
    assert found.count(b"[hansa]") == 1
    assert len(found) < 1000
    log.close()


def test_a_line_without_end_is_cut_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = CappedLog(path, max_bytes=100_000)
    os.write(log.descriptor, b"x" * 300_000)
    log.check()
    assert path.stat().st_size < 60_000
    log.close()


def test_a_log_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CappedLog(tmp_path / "nowhere" / "log.txt")
