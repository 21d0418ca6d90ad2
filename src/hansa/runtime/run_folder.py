"""The folder that a run leaves behind, and the shelf on which these folders stand.

::

    runs/20261122-153045-digits/
        run.json           what was run, with what, how it ended, where the time went
        history.jsonl      one line per round, refused result and reported number
        problems.jsonl     one line per failure of user code
        log.txt            the log of server and sites
        model.safetensors  the global model
        statistics.json    federated statistics, where a workflow made some; statistics.html shows them
        workspace/         one folder per participant, with the app as it was run
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError
from hansa.tensors import OnRefusal

RECORD = "run.json"
HISTORY = "history.jsonl"
PROBLEMS = "problems.jsonl"
LOG = "log.txt"
MODEL = "model.safetensors"
STATISTICS = "statistics.json"
REPORT = "statistics.html"
FORMAT_VERSION = 1

_MAX_SLUG = 80  # file systems take names of 255 bytes


def runs_home(home: str | os.PathLike[str] | None = None) -> Path:
    """Where runs are kept: the folder given, else `$HANSA_HOME/runs`, else `./runs`."""
    if home is not None:
        return Path(home)
    from_environment = os.environ.get("HANSA_HOME")
    return Path(from_environment, "runs") if from_environment else Path("runs")


class RunFolder:
    """Writes one run's folder; on disk means in the page cache, not synced. Any thread may use it.

    Args:
        path: The folder; must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made_home = False
        self.on_refusal: OnRefusal = _raise
        """Called when the disk refuses lines; returns for another try, or raises."""
        self.on_taken: Callable[[], None] = lambda: None
        """Called when it has taken them."""
        self._open: dict[str, FileIO] = {}
        self._later: dict[str, bytearray] = {}
        self._lock = threading.Lock()

    @classmethod
    def create(cls, home: Path, name: str, *, now: datetime | None = None) -> RunFolder:
        """A new folder below `home`, named by the time and the job.

        Raises:
            ConfigError: The folder cannot be written.
        """
        stamp = (now or datetime.now().astimezone()).strftime("%Y%m%d-%H%M%S")
        is_new = not home.exists()
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:_MAX_SLUG] or "job"
        for attempt in range(1, 1000):
            path = home / (f"{stamp}-{slug}" if attempt == 1 else f"{stamp}-{slug}-{attempt}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if home.is_dir():
                    continue
                raise ConfigError(f"{home} is not a folder", key="HANSA_HOME") from None
            except OSError as error:
                raise ConfigError(f"cannot write runs to {home}: {error.strerror}", key="HANSA_HOME") from None
            folder = cls(path)
            folder._made_home = is_new
            return folder
        raise ConfigError(f"too many runs named {stamp}-{slug} in {home}", key="HANSA_HOME")

    def append(self, file_name: str, line: dict[str, Any]) -> None:
        """Add a JSON line to one of the folder's files; it is on disk when this returns."""
        self.append_later(file_name, line)
        self.flush()

    def append_later(self, file_name: str, line: dict[str, Any]) -> None:
        """Add a JSON line that is on disk after the next `flush` at the latest."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with self._lock:
            self._later.setdefault(file_name, bytearray()).extend(text.encode())

    def mend(self, file_name: str) -> None:
        """Cut off a last line that a crash has left unfinished; before anything is added to the file."""
        with suppress(FileNotFoundError), (self.path / file_name).open("r+b") as stream:
            content = stream.read()
            stream.truncate(content.rfind(b"\n") + 1)

    def flush(self) -> None:
        """Bring all lines to disk."""
        with self._lock:
            for file_name, later in self._later.items():
                while later:
                    try:
                        del later[: self._stream(file_name).write(later)]
                    except OSError as error:
                        self.on_refusal(error)
        self.on_taken()

    def _stream(self, file_name: str) -> FileIO:
        stream = self._open.get(file_name)
        if stream is None:
            stream = self._open[file_name] = FileIO(self.path / file_name, "a")
        return stream

    def write_record(self, record: dict[str, Any]) -> None:
        """Write `run.json`, whole or not at all."""
        text = json.dumps({"format_version": FORMAT_VERSION, **record}, indent=1, ensure_ascii=False)
        temporary = self.path / f".{RECORD}.new"
        try:
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self.path / RECORD)
        finally:
            temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the folder: the run never began."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)
        if self._made_home:
            with suppress(OSError):  # another run has come meanwhile
                self.path.parent.rmdir()

    def close(self) -> None:
        """Close the files."""
        with suppress(OSError):  # a full disk; `flush` has said so
            self.flush()
        with self._lock:
            for stream in self._open.values():
                stream.close()
            self._open.clear()


def _raise(error: OSError) -> None:
    raise error


def read_record(path: Path) -> dict[str, Any]:
    """The contents of a run's `run.json`.

    Raises:
        ConfigError: It is missing or cannot be read.
    """
    file = path / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such run: it has no run.json", file=str(path)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(file)) from None
    if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
        raise ConfigError("was written by another version of Hansa", file=str(file), key="format_version")
    return record


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last line that was cut short is left out."""
    if not path.exists():
        return []
    lines = []
    # Only at "\n": splitlines would also break at what a text may hold. A cut may go through a character.
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def list_runs(home: Path) -> list[Path]:
    """The folders of all runs, oldest first."""
    if not home.is_dir():
        return []
    return sorted(p for p in home.iterdir() if (p / RECORD).is_file())


def find_run(name: str, home: Path) -> Path:
    """A run by its path, its name, the beginning of its name, or `last`.

    Raises:
        ConfigError: No such run, or several.
    """
    if (Path(name) / RECORD).is_file():
        return Path(name)
    runs = list_runs(home)
    if name == "last" and runs:
        return max(runs, key=lambda p: (p / RECORD).stat().st_mtime)
    exact = [p for p in runs if p.name == name]
    if not name:  # an unset variable of a shell: not the one run that there is
        raise ConfigError("give a run's name, the beginning of it, its path, or 'last'", key="run")
    found = exact or [p for p in runs if p.name.startswith(name) or p.name.partition("-")[2].startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"no run {name!r} in {home}", key="run")
    raise ConfigError(f"{name!r} fits {len(found)} runs: {', '.join(p.name for p in found[:5])}", key="run")


def what_failed(error: OSError) -> str:
    """What the system could not do, in one line."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of a whole tree: the first file
        return str(error.args[0][0][2])
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)


def remove_run(path: Path) -> None:
    """Delete a run's folder.

    Raises:
        ConfigError: It is no run's folder, or cannot be deleted.
    """
    if not (path / RECORD).is_file():
        raise ConfigError("no such run: it has no run.json", file=str(path))
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise ConfigError(f"cannot be deleted: {error.strerror}", file=str(error.filename or path)) from None
