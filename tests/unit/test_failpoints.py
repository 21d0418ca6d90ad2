"""Failpoints: nothing unless armed, what is armed at the right time, and one line for a mistake."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import timeit
from pathlib import Path

import pytest

from hansa import failpoints
from hansa.errors import ConfigError
from hansa.failpoints import ACTIONS, DISKS, NAMES, VARIABLE, Failpoints, read
from source_code import PACKAGE, ROOT

PLACED = re.compile(r'\breach(?:\(|, )"([a-z_.]+)"\)')


def test_each_failpoint_is_somewhere_and_none_is_unknown() -> None:
    placed = {
        name
        for path in PACKAGE.rglob("*.py")
        if path.name != "failpoints.py"
        for name in PLACED.findall(path.read_text(encoding="utf-8"))
    }
    assert placed == {*NAMES, *DISKS}
    assert len(NAMES) == 19


def test_the_page_on_what_survives_has_each_with_its_meaning() -> None:
    page = (ROOT / "docs" / "what-survives-what.md").read_text(encoding="utf-8")
    rows = re.findall(r"^`([a-z_.]+)` +(.+)$", failpoints.__doc__ or "", re.MULTILINE)
    assert [name for name, _ in rows] == list(NAMES)
    for name, meaning in rows:
        assert f"| `{name}` | {meaning} |" in page


def test_nothing_happens_unless_it_is_armed() -> None:
    points = Failpoints("")
    assert not points.is_armed
    for name in NAMES:
        points.reach(name)
    seconds = min(timeit.repeat("reach('train.mid')", "from hansa.failpoints import reach", number=10_000, repeat=5))
    assert seconds / 10_000 < 1e-6


def test_a_time_is_counted_and_others_pass() -> None:
    points = Failpoints("train.mid=eio@3")
    points.reach("train.mid")
    points.reach("send.after_ack")
    points.reach("train.mid")
    with pytest.raises(OSError) as caught:
        points.reach("train.mid")
    assert caught.value.errno == errno.EIO
    points.reach("train.mid")


def test_without_a_time_it_is_each_time() -> None:
    points = Failpoints(" train.mid=enospc ;")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            points.reach("train.mid")


def test_once_is_once_for_all_processes(tmp_path: Path) -> None:
    once = tmp_path / "once"
    first, second = (Failpoints(f"train.mid=eio!{once}") for _ in range(2))
    with pytest.raises(OSError):
        first.reach("train.mid")
    first.reach("train.mid")
    second.reach("train.mid")
    assert once.read_text() == f"{os.getpid()}\n"


def test_a_file_arms_while_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "armed"
    points = Failpoints(f"@{file}")
    points.reach("train.mid")
    file.write_text("train.mid=eio@1\n")
    with pytest.raises(OSError):
        points.reach("train.mid")
    file.unlink()
    points.reach("train.mid")


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("exit", 0)])
def test_a_process_is_ended(action: str, code: int) -> None:
    program = "from hansa.failpoints import reach; reach('train.mid'); print('on')"
    environment = {**os.environ, VARIABLE: f"train.mid={action}", "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.parametrize("text", ["train.mid", "train.mid=boil", "here=kill", "train.mid=kill@x", "train.mid=kill@1 2"])
def test_a_mistake_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="is no failpoint: give NAME=ACTION") as caught:
        read(text)
    assert VARIABLE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(action in str(caught.value) for action in ACTIONS)
