"""What a machine gives jobs of its disk: so much for each, and for so long after its end."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hansa.failpoints import wall_time
from hansa.runtime.run_paths import RunPaths, owner_of

_DAY_S = 86400.0
_LOOK_S = 1.0
_MB = 1_000_000

_logger = logging.getLogger("hansa.disk")


@dataclass(frozen=True)
class Housekeeping:
    """What a kit, or the machine itself, says of the disk.

    Attributes:
        job_bytes: The most that one job may take; None: whatever the disk has.
        keep_s: After how long, in seconds, a job that is over is deleted; None: never.
    """

    job_bytes: int | None = None
    keep_s: float | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:  # Any: JSON
        """As settings say it: `job_disk_mb` and `keep_jobs_days`."""
        most_mb, days = settings.get("job_disk_mb"), settings.get("keep_jobs_days")
        return cls(None if most_mb is None else int(most_mb * _MB), None if days is None else float(days) * _DAY_S)

    def is_too_old(self, ended_at: float, now: float) -> bool:
        """Whether a job that ended then is to be deleted; both in seconds since 1970."""
        return self.keep_s is not None and now - ended_at > self.keep_s


class DiskWatch:
    """Looks once a second how much a job takes of the disk, and says so once, if that is more than it may.

    Whatever writes is other processes; there is nothing to hear it from. Without a limit it does not look at all.

    Args:
        folders: What the job has.
        most_bytes: The limit; None: none.
        exceeded: Told in words, on the event loop's thread.
    """

    def __init__(self, folders: Sequence[Path], most_bytes: int | None, *, exceeded: Callable[[str], None]) -> None:
        self._folders = folders
        self._most = most_bytes
        self._exceeded = exceeded
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on, until `stop` or the end."""
        if self._most is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch(self._most))

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self, most: int) -> None:
        while True:
            taken = await asyncio.to_thread(bytes_in, self._folders)
            if taken > most:
                self._task = None
                self._exceeded(f"it takes {taken / _MB:.1f} MB of the disk, and may take {most / _MB:g} (job_disk_mb)")
                return
            await _in_a_while()


async def _in_a_while() -> None:
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    handle = loop.call_later(_LOOK_S, later.set_result, None)
    try:
        await later
    finally:
        handle.cancel()


def bytes_in(folders: Iterable[Path]) -> int:
    """What folders take of the disk, in bytes; a file with several names counts once, what vanishes meanwhile not."""
    seen: set[tuple[int, int]] = set()
    total, ahead = 0, [str(folder) for folder in folders]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    found = _status(entry)
                    if found is None or (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
        except OSError:
            continue
    return total


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def sweep_runs(root: Path, participant: str, *, rules: Housekeeping, busy: Collection[str]) -> list[str]:
    """Delete a site's run folders that are too old; a thread's work.

    Args:
        root: The site's workspace root.
        participant: Its name.
        rules: How old is too old, by when anything was last written there.
        busy: Jobs that run or may go on.

    Returns:
        The jobs whose folders are gone.
    """
    gone = []
    for paths in run_folders(root, participant):
        job = owner_of(paths)
        try:
            written_at = max(found.stat().st_mtime for found in (paths.folder, paths.log) if found.exists())
        except (OSError, ValueError):
            continue
        if job not in busy and rules.is_too_old(written_at, wall_time()):
            shutil.rmtree(paths.folder, ignore_errors=True)
            gone.append(job or paths.folder.name)
    if gone:
        _logger.info("deleted, as keep_jobs_days says: %s", ", ".join(gone))
    return gone


def run_folders(root: Path, participant: str) -> list[RunPaths]:
    """The run folders at a participant, oldest job first."""
    numbers = [int(name) for folder in root.glob("run_*") if (name := folder.name[4:]).isdecimal()]
    return [RunPaths(root, number, participant) for number in sorted(numbers)]
