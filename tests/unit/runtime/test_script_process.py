"""One script's process: how often things are copied, and whom it listens to."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.apis.script import FromScript, ScriptSaid
from hansa.apis.signal import Signal
from hansa.errors import RunError
from hansa.runtime.script_host import Scripts
from hansa.runtime.script_process import ScriptProcess
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import connect
from hansa.wire.slots import SlotPool

pytestmark = pytest.mark.slow

SIZE = 1 << 20
ECHO = """
import hansa.client as flare
flare.init()
session = flare._session
while flare.is_running():
    incoming = flare.receive()
    flare.send(flare.FLModel(incoming.params, metrics={
        "copies": session._link.num_copies, "slots": session._pool.num_slots, "mapped": session._link.num_mapped}))
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SlotPool]:
    pool = SlotPool(tmp_path)
    yield pool
    pool.close()


@pytest.fixture
def scripts(tmp_path: Path, pool: SlotPool) -> Iterator[Scripts]:
    scripts = Scripts(tmp_path, threads=1, pool=pool)
    yield scripts
    scripts.close()


def started(scripts: Scripts, folder: Path, text: str) -> ScriptProcess:
    (folder / "train.py").write_text(text)
    return scripts.start("site-1", folder / "train.py", args=[], folder=folder, seed=1)


def heard(script: ScriptProcess, word: FromScript) -> ScriptSaid:
    said = script.hear(Signal(), 20)
    assert said is not None
    assert said.word is word
    return said


def is_shared(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array lies in a memory file of Hansa's."""
    spans = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:hansa" in line
    ]
    address = array.__array_interface__["data"][0]
    return any(int(begin, 16) <= address < int(end, 16) for begin, end in spans)


def task(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "asked": "train", "params": params, "params_type": "full", "meta": {}, "current_round": 0, "total_rounds": 1,
        "seed": 1,
    }  # fmt: skip


def test_tensors_are_copied_once_each_way_into_memory_that_is_used_again(
    tmp_path: Path, scripts: Scripts, pool: SlotPool
) -> None:
    script = started(scripts, tmp_path, ECHO)
    heard(script, FromScript.HELLO)
    heard(script, FromScript.READY)
    params = {"w": np.arange(SIZE, dtype=np.float32), "v": np.ones((SIZE, 2), np.float16)}
    slots = []
    for _ in range(5):
        script.give(task(params))
        said = heard(script, FromScript.RESULT)
        heard(script, FromScript.READY)
        back = said.value["params"]
        assert all(np.array_equal(back[name], value) for name, value in params.items())
        assert all(map(is_shared, back.values()))  # the very memory that the script wrote to
        assert script.num_copies == 0  # encoded into the slot: nothing was copied on its way out
        assert said.value["metrics"]["copies"] == 0
        slots.append((pool.num_slots, said.value["metrics"]["slots"], said.value["metrics"]["mapped"]))
        del said, back
        gc.collect()
    # The script still holds what it received before when the next comes: two slots there, one for the way back.
    assert slots[-1] == slots[-2] == (2, 1, 2)
    assert script.end(20) is None
    assert script.exit_code == 0


def test_who_does_not_know_the_token_is_not_heard(tmp_path: Path, scripts: Scripts) -> None:
    text = """
import os, sys
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import connect
from hansa.wire.slots import SlotPool
for head in ({"k": "hello", "token": "guessed"}, {"k": "ready"}, [1]):
    link = LocalLink(connect(os.environ["HANSA_SCRIPT_ADDRESS"]), SlotPool())
    link.send(head)
    assert link.receive() is None
print("refused")
"""
    script = started(scripts, tmp_path, text)
    with pytest.raises(RunError, match="ended with exit code 0: refused"):
        script.hear(Signal(), 20)


def test_what_cannot_be_read_ends_the_script(tmp_path: Path, scripts: Scripts) -> None:
    text = """
import hansa.client as flare
flare.init()
flare._session._link.send({"k": "nonsense"})
import select
select.select([], [], [])
"""
    script = started(scripts, tmp_path, text)
    heard(script, FromScript.HELLO)
    with pytest.raises(RunError, match="has sent what cannot be read"):
        script.hear(Signal(), 20)


def test_a_wait_ends_with_its_time_and_with_an_abort(tmp_path: Path, scripts: Scripts) -> None:
    script = started(scripts, tmp_path, "import select\nselect.select([], [], [])\n")
    with pytest.raises(TimeoutError):
        script.hear(Signal(), 0.01)
    abort = Signal()
    abort.trigger("stop")
    assert script.hear(abort) is None
    script.kill()
    script.kill()
    with pytest.raises(RunError, match="was killed by SIGKILL"):
        script.hear(Signal())
    with pytest.raises(RunError, match="was killed by SIGKILL"):  # it stays dead
        script.hear(Signal())


def test_a_missing_script_is_no_process(tmp_path: Path, scripts: Scripts) -> None:
    with pytest.raises(RunError, match=r"there is no script 'nosuch.py' in the folder custom/ of the app"):
        scripts.start("site-1", tmp_path / "nosuch.py", args=[], folder=tmp_path, seed=1)


def test_connections_of_strangers_leave_the_link_usable(tmp_path: Path, scripts: Scripts, pool: SlotPool) -> None:
    script = started(scripts, tmp_path, "input() if False else None\nimport time\n" + ECHO)
    link = LocalLink(connect(script._listener.address), pool)
    link.send({"k": "hello", "token": "guessed"})
    assert link.receive() is None
    link.close()
    heard(script, FromScript.HELLO)
    heard(script, FromScript.READY)
    assert script.end(20) is None
