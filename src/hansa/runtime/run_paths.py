"""Where a job's files lie at a participant, and which names a peer may give to a file.

::

    K/                         the kit: the participant's workspace root, and its job processes' working directory
      startup/                 config, certificate, key
      run_7/                   the job with number 7
        app_site-1/            the app as it is run (APP_ROOT)
        job                    whose folder this is: the job's id, and a stamp
        log.txt                what its process here printed
        blobs/in, blobs/out    tensors on their way
        kept/                  what a restart of the job would need
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from hansa.errors import DecodeError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class RunPaths:
    """The folder of one job at one participant.

    Attributes:
        root: The participant's workspace root.
        number: The job's number.
        participant: Its name.
    """

    root: Path
    number: int
    participant: str

    @property
    def folder(self) -> Path:
        """All of it."""
        return self.root / f"run_{self.number}"

    @property
    def app(self) -> Path:
        """The app as it is run."""
        return self.folder / f"app_{self.participant}"

    @property
    def log(self) -> Path:
        """What the job's process printed here."""
        return self.folder / "log.txt"

    @property
    def incoming(self) -> Path:
        """Blobs that came."""
        return self.folder / "blobs" / "in"

    @property
    def outgoing(self) -> Path:
        """Blobs that the job's process has written for others."""
        return self.folder / "blobs" / "out"

    @property
    def kept(self) -> Path:
        """What a restart of the job would need."""
        return self.folder / "kept"

    def make(self) -> None:
        """Make the folders; only this user may look into those of the blobs."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.incoming, self.outgoing):
            folder.mkdir(parents=True, exist_ok=True)

    def claim(self, job_id: str, stamp: str = "") -> None:
        """Write down whose folder it is; what another job has left there under the same number is put aside.

        Args:
            job_id: The job.
            stamp: What tells it from one of the same id that another server has given.
        """
        owner, before = owner_of(self), stamp_of(self)
        if owner is not None and (owner != job_id or (stamp and before and before != stamp)):
            self.folder.rename(_free_name(self.folder))
            self.make()
        (self.folder / "job").write_text(f"{job_id}\n{stamp}\n", encoding="utf-8")

    def drop_blobs(self) -> None:
        """The job is over: nobody wants its blobs any more, and nobody goes on with it."""
        for name in ("blobs", "kept"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def left_behind(root: Path, participant: str) -> dict[str, RunPaths]:
    """The folders of jobs that may go on, by job: those with something that a restart would need."""
    found = {}
    for folder in sorted(root.glob("run_*")):
        paths = RunPaths(root, int(number), participant) if (number := folder.name[4:]).isdecimal() else None
        if paths is not None and (paths.kept.is_dir() or paths.incoming.is_dir()):
            owner = owner_of(paths)
            if owner is not None:
                found[owner] = paths
    return found


def owner_of(paths: RunPaths) -> str | None:
    """The job that has the folder; None if nobody has said so."""
    return _lines(paths)[0] or None


def stamp_of(paths: RunPaths) -> str | None:
    """What tells the job from others of its id; None if nothing does."""
    return _lines(paths)[1] or None


def _lines(paths: RunPaths) -> tuple[str, str]:
    try:
        owner, _, stamp = (paths.folder / "job").read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return "", ""
    return owner.strip(), stamp.strip()


def _free_name(folder: Path) -> Path:
    number = 1
    while (name := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return name


def file_name(name: str) -> str:
    """A name that a peer gave to a blob, if it is nothing but a name.

    Raises:
        DecodeError: It could be a path, is hidden, or is too long.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise DecodeError(f"{name[:80]!r} is no name for a blob")
    return name
