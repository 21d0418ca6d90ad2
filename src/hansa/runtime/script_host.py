"""Starts the training scripts of the sites in this process, and leaves none of them behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hansa.apis.script import ScriptVariable
from hansa.errors import RunError
from hansa.runtime.guarded_process import environment_of
from hansa.runtime.script_process import ScriptProcess, ScriptStart
from hansa.wire.slots import SlotPool


class Scripts:
    """The scripts of one process; a site's engine offers them as `hansa.apis.engine.ScriptHost`.

    Args:
        folder: Where a socket, and what does not fit into memory, may lie.
        threads: How many threads a script's libraries may use.
        pool: Memory for what scripts are given; None: some of its own.
    """

    def __init__(self, folder: Path, *, threads: int, pool: SlotPool | None = None) -> None:
        self._folder = folder
        self._threads = threads
        self._pool = pool
        self._owns_pool = pool is None
        self._started: list[ScriptProcess] = []

    def start(self, site: str, file: Path, *, args: Sequence[str], folder: Path, seed: int) -> ScriptProcess:
        """Start a script.

        Args:
            site: Whose it is.
            file: The script.
            args: Its command line.
            folder: Where it works.
            seed: The seed of what it draws before its first task.

        Raises:
            RunError: There is no such file, or the system cannot start it.
        """
        if not file.is_file():
            raise RunError(f"there is no script {file.name!r} in the folder custom/ of the app")
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**environment_of(self._threads), ScriptVariable.SEED: str(seed)}
        if self._pool is None:
            self._pool = SlotPool(self._folder)
        for gone in [script for script in self._started if script.exit_code is not None]:
            gone.kill()  # what is left of it
            self._started.remove(gone)
        start = ScriptStart(file, args, site, folder, environment)
        self._started.append(ScriptProcess(start, self._pool, folder=self._folder))
        return self._started[-1]

    def close(self) -> None:
        """End whatever runs still."""
        for script in self._started:
            script.kill()
        self._started.clear()
        if self._owns_pool and self._pool is not None:
            self._pool.close()
            self._pool = None
