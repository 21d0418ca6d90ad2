"""Jobs whose sites run training scripts, and how the processes of a run are found."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from hansa.jobs import Job, fed_avg
from worker_jobs import MODEL

HEAD = """
import os, random, select, signal, sys
import numpy as np
import hansa.client as flare

def wait(seconds=None):
    select.select([], [], [], seconds)

def plus(params, step=1.0):
    return {name: value + value.dtype.type(step) for name, value in params.items()}

def mark(folder, name):
    open(os.path.join(folder, name), "w").close()

flare.init()
site = flare.system_info()["site_name"]
"""
LOOP = """
while flare.is_running():
    incoming = flare.receive()
    params = incoming.params
"""
PLUS_ONE = "flare.send(flare.FLModel(plus(params)))"


def script(body: str = PLUS_ONE, *, head: str = HEAD) -> str:
    """A script that does this with every model it receives."""
    return head + LOOP + textwrap.indent(textwrap.dedent(f"{body}\n"), "    ")


def scripted(
    folder: Path,
    text: str,
    *,
    rounds: int = 1,
    model: Any = MODEL,
    executor: dict[str, Any] | None = None,
    **options: Any,
) -> Job:
    """FedAvg with a script; `executor` are arguments of ScriptExecutor."""
    file = folder / "train.py"
    file.write_text(text)
    made = fed_avg(model, script=file, rounds=rounds, **options)
    made.apps["app"].client["executors"][0]["executor"]["args"].update(executor or {})
    return made


MARK = "SCRIPT_TEST_FOLDER"
"""A variable that a test puts into the environment, and every process of its run inherits."""


def processes_of(folder: Path) -> dict[int, str]:
    """All processes of runs under this mark, and what each of them runs."""
    found = {}
    wanted = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone meanwhile
            continue
    return found
