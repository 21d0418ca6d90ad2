"""A job folder that is in order, and the ways to spoil it; the real command over it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hansa import tensors
from hansa.tensors import Array
from source_code import PACKAGE

META = "meta.json"
SERVER = "app/config/config_fed_server.json"
CLIENT = "app/config/config_fed_client.json"
WEIGHTS = "app/config/initial.safetensors"
CODE = "app/custom/trainer.py"
ROUNDS = 2
SITE_CODE = "SITE_CODE"  # in a case's environment: what every Python of it runs when it starts

_COMPONENTS = "hansa.components"
_PATIENCE_S = 30
_MARK = "HANSA_TEST_CASE"  # in the environment of every process of a case
_RECORD = {"run.json", "history.jsonl", "problems.jsonl", "log.txt", "model.safetensors", "workspace", "job", "workers"}

Json = dict[str, Any]


class Spoiled(NamedTuple):
    """A job folder in memory: JSON files as objects that may be changed, others as bytes."""

    files: dict[str, Any]
    folder: Path

    @property
    def meta(self) -> Json:
        return self._json(META)

    @property
    def server(self) -> Json:
        return self._json(SERVER)

    @property
    def client(self) -> Json:
        return self._json(CLIENT)

    def _json(self, file: str) -> Json:
        content: Json = self.files[file]
        return content


Change = Callable[[Spoiled], object]


def good_job(folder: Path, troubles: Mapping[str, str]) -> Spoiled:
    """FedAvg over sites that add 1 to each weight, and that all must count."""
    path = f"{_COMPONENTS}.%s"
    server = {
        "format_version": 2,
        "components": [
            {"id": "persistor", "path": path % "np_model.NPModelPersistor", "args": {"source": Path(WEIGHTS).name}},
            {"id": "shareable_generator", "name": "FullModelShareableGenerator"},
            {
                "id": "aggregator",
                "name": "InTimeAccumulateWeightedAggregator",
                "args": {"expected_data_kind": "WEIGHTS", "names": "exact"},
            },
        ],
        "workflows": [
            {
                "id": "fed_avg",
                "path": path % "workflows.scatter_and_gather.ScatterAndGather",
                "args": {"min_clients": 2, "num_rounds": ROUNDS, "min_counted": 2},
            }
        ],
    }
    executor = {"path": "trainer.Trainer", "args": {"troubles": dict(troubles)}}
    client = {"format_version": 2, "executors": [{"tasks": ["train"], "executor": executor}]}
    files = {
        META: {"name": "job", "deploy_map": {"app": ["@ALL"]}},
        SERVER: server,
        CLIENT: client,
        CODE: Path(__file__).with_name("bad_trainer.py").read_bytes(),
        WEIGHTS: write_tensors(folder, {"w": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)}),
    }
    return Spoiled(files, folder)


def write_tensors(folder: Path, content: Mapping[str, Array]) -> bytes:
    """A file of tensors, as bytes; it is written beside the folder for a moment."""
    file = folder.with_suffix(".safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors.write(file, content)
    data = file.read_bytes()
    file.unlink()
    return data


def write_job(job: Spoiled) -> None:
    for name, content in job.files.items():
        file = job.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=1).encode())


@dataclass
class Outcome:
    """What a command said, and what it left.

    Attributes:
        stderr: One line, if all is well.
        code: The exit code.
        stdout: The rest.
        home: Where runs are kept.
        left: What is there that should not be: files, processes.
    """

    stderr: str
    code: int
    stdout: str
    home: Path
    left: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The one run folder."""
        (folder,) = self.home.iterdir()
        return folder

    def record(self) -> Json:
        """The run's `run.json`."""
        facts: Json = json.loads((self.run / "run.json").read_text())
        return facts


class Workshop:
    """Runs commands, each with a folder for temporary files of its own, whose processes can be told.

    Args:
        folder: Where everything happens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)

    def hansa(
        self, *arguments: str, environment: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()
    ) -> Outcome:
        """The real command, and whatever is left when it has ended."""
        given = {name: value.replace("FOLDER", str(self.folder)) for name, value in (environment or {}).items()}
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(PACKAGE.parent), str(self._site(given.pop(SITE_CODE, ""))))),
            "TMPDIR": str(self.temporary),
            "HANSA_HOME": str(self.folder / "nowhere"),
            "COLUMNS": "200",
            _MARK: str(self.folder),
            **given,
        }
        for name in ("FORCE_COLOR", "HANSA_WORKERS"):
            if name not in given:
                environ.pop(name, None)
        before = [word.replace("FOLDER", str(self.folder)) for word in prefix]
        try:
            done = subprocess.run(
                [*before, sys.executable, "-m", "hansa.cli.main", *arguments],
                cwd=self.folder, env=environ, capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            for process in self._living():
                os.kill(process, signal.SIGKILL)
            raise
        return Outcome(done.stderr, done.returncode, done.stdout, self.home, self._left())

    def _site(self, code: str) -> Path:
        folder = self.folder / "site"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(code)
        return folder

    def _left(self) -> list[str]:
        found = [str(path) for path in self.temporary.rglob("*")]
        found += [str(path) for path in self.folder.glob("nowhere")]
        if self.home.exists():
            found += [
                str(path)
                for run in self.home.iterdir()
                for path in run.iterdir()
                if path.name not in _RECORD or path.is_socket()
            ]
        return found + self._processes()

    def _processes(self) -> list[str]:
        """The processes of the case that live on, after a moment for those that were killed."""
        deadline = time.monotonic() + 5
        while living := self._living():
            if time.monotonic() > deadline:
                break
            threading.Event().wait(0.02)
        return list(living.values())

    def _living(self) -> dict[int, str]:
        """The processes of the case, with their command lines."""
        mark = f"{_MARK}={self.folder}".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    words = (process / "cmdline").read_bytes().split(b"\0")
                    found[int(process.name)] = b" ".join(words).decode(errors="replace")
            except OSError:  # it has ended, or is somebody else's
                continue
        return found
