"""A proof of concept: a server and sites on this machine, as real processes with real mutual TLS.

::

    poc/
      poc.json            what was started: port, sites, processes
      server/ site-1/ ... admin/    the startup kits, and what their owners write there
      logs/               what the server's program and the agents say
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from hansa.errors import ConfigError, RunError
from hansa.provision.provisioner import make_kits
from hansa.runtime.other_process import OtherProcess, wait_for_ends

RECORD = "poc.json"
SERVER = "server"
ADMIN = "admin"
START_S = 60.0
DOWN_S = 12.0
_FORMAT = 1
_PORT_TRIES = 3


@dataclass(frozen=True)
class PocProcess:
    """One program of a POC.

    Attributes:
        name: `server`, or the site's.
        process: Its process.
    """

    name: str
    process: OtherProcess

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.is_alive


class Poc:
    """A proof of concept in a folder.

    Args:
        folder: Where it lies, or shall lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    @property
    def admin_kit(self) -> Path:
        """The kit with which to submit jobs."""
        return self.folder / ADMIN

    def log_of(self, name: str) -> Path:
        """What a program says."""
        return self.folder / "logs" / f"{name}.txt"

    # -- up ----------------------------------------------------------------------------------------------------

    def up(self, sites: Sequence[str], *, on_ready: Callable[[str], None] = lambda name: None) -> int:
        """Make kits, start server and sites, and wait until all sites are connected.

        Args:
            sites: Their names.
            on_ready: Called with each program's name when it is up.

        Returns:
            The port.

        Raises:
            ConfigError: It runs already, or the folder holds something else.
            RunError: A program does not start; nothing is left running.
        """
        self._check_free()
        for attempt in range(_PORT_TRIES):
            port = free_port()
            self._make(sites, port)
            try:
                self._start(sites, port, on_ready)
            except _PortTaken as error:
                if attempt == _PORT_TRIES - 1:
                    raise RunError(str(error)) from None
            else:
                return port
        raise AssertionError

    def _check_free(self) -> None:
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        record = self._record()
        if any(each.is_alive for each in self._processes(record)):
            raise ConfigError("runs already; `hansa poc down` ends it", file=str(self.folder))

    def _make(self, sites: Sequence[str], port: int) -> None:
        for name in (SERVER, ADMIN, *sites, "logs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "logs").mkdir(parents=True)
        make_kits(
            self.folder,
            project="poc",
            server_host="localhost",
            server_port=port,
            sites=sites,
            settings={
                "server": {"poc": True, "allow_custom_code": True, "listen": "127.0.0.1"},
                "client": {"poc": True, "allow_custom_code": True},
            },
        )

    def _start(self, sites: Sequence[str], port: int, on_ready: Callable[[str], None]) -> None:
        started: dict[str, OtherProcess] = {}
        is_up = False
        try:
            with DefaultSelector() as waiting:
                for name in (SERVER, *sites):
                    with _uninterrupted():  # else there could be a process that nobody knows of
                        started[name], ready = self._launch(name)
                    waiting.register(ready, EVENT_READ, name)
                    self._write(port, sites, started)
                self._await(waiting, on_ready)
            is_up = True
        finally:
            if not is_up:
                end_all(started.values())

    def _launch(self, name: str) -> tuple[OtherProcess, int]:
        return launch("server" if name == SERVER else "site", self.folder / name, log=self.log_of(name))

    def _await(self, waiting: DefaultSelector, on_ready: Callable[[str], None]) -> None:
        deadline = time.monotonic() + START_S
        said: dict[str, str] = {}
        while waiting.get_map():
            left = deadline - time.monotonic()
            ready = waiting.select(max(0.0, left))
            if not ready:
                names = ", ".join(sorted(key.data for key in waiting.get_map().values()))
                raise RunError(f"not up within {START_S:g} s: {names}; see {self.folder / 'logs'}")
            for key, _ in ready:
                assert isinstance(key.fileobj, int)
                text = os.read(key.fileobj, 4096).decode(errors="replace")
                said[key.data] = said.get(key.data, "") + text
                if text and not said[key.data].endswith("\n"):
                    continue
                waiting.unregister(key.fileobj)
                os.close(key.fileobj)
                self._check_word(key.data, said[key.data].strip())
                on_ready(key.data)

    def _check_word(self, name: str, word: str) -> None:
        if word == "ready":
            return
        if "cannot be used: another program" in word:
            raise _PortTaken(word.removeprefix("error: "))
        reason = word.removeprefix("error: ") or f"it has ended: {self._last_line(name)}"
        raise RunError(f"{name} does not start: {reason}")

    def _last_line(self, name: str) -> str:
        with suppress(OSError):
            lines = self.log_of(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "it has said nothing"

    # -- what there is -----------------------------------------------------------------------------------------

    def status(self) -> list[PocProcess]:
        """The programs that were started.

        Raises:
            ConfigError: There is no POC.
        """
        return self._processes(self._record())

    @property
    def sites(self) -> list[str]:
        """Its sites' names.

        Raises:
            ConfigError: There is no POC.
        """
        return list(self._record()["sites"])

    @property
    def port(self) -> int:
        """The server's port.

        Raises:
            ConfigError: There is no POC.
        """
        return int(self._record()["port"])

    def _write(self, port: int, sites: Sequence[str], started: dict[str, OtherProcess]) -> None:
        record = {
            "format_version": _FORMAT,
            "port": port,
            "sites": list(sites),
            "admin": ADMIN,
            "processes": {name: [each.pid, each.started] for name, each in started.items()},
        }
        temporary = self.folder / f".{RECORD}.new"
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.folder / RECORD)

    def _record(self) -> dict[str, Any]:  # Any: JSON
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError("holds no proof of concept (`hansa poc up` makes one)", file=str(self.folder)) from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot be read: {error}", file=str(self.folder / RECORD)) from None
        if not isinstance(record, dict) or record.get("format_version") != _FORMAT:
            raise ConfigError("is of another version of Hansa", file=str(self.folder / RECORD))
        return record

    def _processes(self, record: dict[str, Any]) -> list[PocProcess]:  # Any: JSON
        return [PocProcess(name, OtherProcess(*known)) for name, known in record["processes"].items()]

    # -- down --------------------------------------------------------------------------------------------------

    def down(self) -> list[str]:
        """End everything; returns the names of what ran.

        Raises:
            ConfigError: There is no POC.
        """
        alive = [each for each in self.status() if each.is_alive]
        end_all(each.process for each in alive)
        return [each.name for each in alive]

    def clean(self) -> None:
        """End everything and delete the folder.

        Raises:
            ConfigError: There is no POC.
        """
        self.down()
        shutil.rmtree(self.folder)


class _PortTaken(RunError):
    """Somebody was faster."""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a Ctrl-C wait until the end of this block."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def launch(
    verb: str, kit: Path, *, log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> tuple[OtherProcess, int]:
    """Start a participant's program, in a session of its own; it outlives this one.

    Args:
        verb: `server` or `site`.
        kit: Its kit.
        log: Where what it says is added.
        environment: What it is started with; None: what this program has.
        folder: Where it works; None: in its kit.

    Returns:
        Its process, and a descriptor from which a line comes once it is up, or cannot be.
    """
    ready, theirs = os.pipe()
    command = [sys.executable, "-P", "-m", "hansa.cli.main", verb, "start", str(kit)]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(theirs)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=folder or kit,
            env=environment,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    os.close(theirs)
    process.returncode = 0  # nobody here waits for it
    return OtherProcess.of(process.pid), ready


def end_all(processes: Iterable[OtherProcess]) -> None:
    """Ask processes to end, and make those that do not."""
    left = list(processes)
    for each in left:
        each.send(signal.SIGTERM)
    left = wait_for_ends(left, DOWN_S)
    for each in left:
        each.send(signal.SIGKILL)
    wait_for_ends(left, DOWN_S)


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
