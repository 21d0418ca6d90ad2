"""Where a job's files lie at a participant, and which names a peer may give to a file.

::

    K/                         the kit: the participant's workspace root, and its job processes' working directory
      startup/                 config, certificate, key
      run_7/                   the job with number 7
        app_site-1/            the app as it is run (APP_ROOT)
        log.txt                what its process here printed
        blobs/in, blobs/out    tensors on their way
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

    def make(self) -> None:
        """Make the folders; only this user may look into those of the blobs."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.incoming, self.outgoing):
            folder.mkdir(parents=True, exist_ok=True)

    def drop_blobs(self) -> None:
        """The job is over: nobody wants its blobs any more."""
        shutil.rmtree(self.folder / "blobs", ignore_errors=True)


def file_name(name: str) -> str:
    """A name that a peer gave to a blob, if it is nothing but a name.

    Raises:
        DecodeError: It could be a path, is hidden, or is too long.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise DecodeError(f"{name[:80]!r} is no name for a blob")
    return name
