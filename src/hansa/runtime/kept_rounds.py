"""The rounds of a job that is over, or of one that another job begins from: each is a commit, in a folder of its own.

::

    jobs/0001-digits/
      rounds/5/             the fifth commit, by its version
        about.json          which round a job that begins from it does first, and the digests of the files here
        commit.bin          the commit, as it went over the process's pipe
        blob-0, ...         its tensors that lie in files
      begun/                the same, of the job that this one was begun from
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hansa.errors import ConfigError, DecodeError, RunError
from hansa.runtime.file_blobs import Head
from hansa.wire.pipe import FrameReader

ROUNDS = "rounds"
BEGUN = "begun"
_ABOUT, _COMMIT, _BLOB = "about.json", "commit.bin", "blob-"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class KeptRound:
    """A commit that was kept.

    Attributes:
        folder: Where.
        job: Whose it is.
        version: The number of the model version.
        first_round: The round that a job which begins from it does first.
        digests: File name to digest.
    """

    folder: Path
    job: str
    version: int
    first_round: int
    digests: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> KeptRound:
        """What lies in a folder.

        Raises:
            RunError: It cannot be read.
        """
        file = folder / _ABOUT
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            if about["format_version"] != _FORMAT_VERSION:
                raise ValueError(f"of another version: {about['format_version']!r}")
            digests = {str(name): str(digest) for name, digest in about["digests"].items()}
            return cls(folder, str(about["job"]), int(about["version"]), int(about["first_round"]), digests)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunError(f"what was kept of a round is damaged: {file}: {error!r}") from None

    def check(self) -> None:
        """Hold its files to their digests.

        Raises:
            RunError: One of them is not what was written; the error names it.
        """
        for name, digest in self.digests.items():
            try:
                found = _digest(self.folder / name)
            except OSError as error:
                raise RunError(f"what was kept of a round is damaged: {self.folder / name}: {error.strerror}") from None
            if found != digest:
                raise RunError(f"what was kept of a round is damaged: {self.folder / name} is not what was written")

    def frame(self) -> tuple[Head, list[bytes], list[Path]]:
        """The commit, and the files of its blobs.

        Raises:
            RunError: It is damaged.
        """
        self.check()
        try:
            ((head, parts),) = FrameReader().feed((self.folder / _COMMIT).read_bytes())
        except (OSError, DecodeError, ValueError) as error:
            raise RunError(f"what was kept of a round is damaged: {self.folder / _COMMIT}: {error}") from None
        return head, parts, [self.folder / f"{_BLOB}{index}" for index in range(len(head.get("blobs") or ()))]

    def copy_to(self, folder: Path) -> None:
        """Give another job a folder like this: the same files under names of its own, durable."""
        folder.mkdir()
        for name in (_ABOUT, *self.digests):
            os.link(self.folder / name, folder / name)
        _sync(folder)


class KeptRounds:
    """The rounds of one job that are kept.

    Args:
        folder: Where; made when there is one.
        job: Whose.
        most: How many; None: all. The last one is kept once the job is over, those before while it runs.
    """

    def __init__(self, folder: Path, job: str, *, most: int | None = 1) -> None:
        self._folder = folder
        self._job = job
        self._most = most

    @property
    def along_the_way(self) -> bool:
        """Whether more than the last one is wanted."""
        return self._most != 1

    def all(self) -> list[KeptRound]:
        """Those that are there, oldest first.

        Raises:
            RunError: One cannot be read.
        """
        return [KeptRound.of(self._folder / str(version)) for version in self._versions()]

    def _versions(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    def choose(self, first_round: int | None) -> KeptRound | None:
        """The one that a new job begins from.

        Args:
            first_round: What the new job does first; None: what comes after the last one that is kept.

        Returns:
            It; None if none is asked for, and none is there.

        Raises:
            ConfigError: There is no such one; the error names those that are there.
            RunError: What was kept is damaged.
        """
        found = self.all()
        if first_round is None:
            return found[-1] if found else None
        for kept in reversed(found):
            if kept.first_round == first_round:
                return kept
        there = ", ".join(dict.fromkeys(str(kept.first_round) for kept in found)) or "none"
        raise ConfigError(
            f"job {self._job} has nothing from which round {first_round} could begin; rounds that could: {there} "
            "(see keep_rounds in meta.json)",
            key="from_round",
        )

    def save(self, frame: bytes, files: Sequence[Path]) -> None:
        """Keep a commit, whole or not at all; durable. The same one again changes nothing.

        Args:
            frame: The commit's frame.
            files: Of its blobs, in their order; they get a second name.

        Raises:
            OSError: The disk does not take it.
        """
        ((head, _),) = FrameReader().feed(frame)
        version = int(head["version"])
        target, fresh = self._folder / str(version), self._folder / f".new-{version}"
        digest = "sha256:" + hashlib.sha256(frame).hexdigest()
        if target.is_dir() and KeptRound.of(target).digests.get(_COMMIT) == digest:
            return
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        digests = {f"{_BLOB}{index}": str(blob["digest"]) for index, blob in enumerate(head.get("blobs") or ())}
        for name, file in zip(digests, files, strict=True):
            os.link(file, fresh / name)
        _write(fresh / _COMMIT, frame)
        digests[_COMMIT] = digest
        about = {
            "format_version": _FORMAT_VERSION,
            "job": self._job,
            "version": version,
            "first_round": int(head.get("first_round", version)),
            "digests": digests,
        }
        _write(fresh / _ABOUT, (json.dumps(about, indent=1) + "\n").encode())
        _sync(fresh)
        shutil.rmtree(target, ignore_errors=True)  # of a process that died before its commit was durable
        fresh.rename(target)
        _sync(self._folder)
        self._drop_older()

    def _drop_older(self) -> None:
        if self._most is not None:
            for version in self._versions()[: -self._most]:
                shutil.rmtree(self._folder / str(version), ignore_errors=True)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
