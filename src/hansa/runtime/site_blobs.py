"""The blobs of a job that one of its sites brings or fetches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hansa.errors import ConfigError, DecodeError
from hansa.wire.frames import BlobRef

_MOST_WAITING = 64
"""Blobs of one site that its job has not taken yet; more are refused."""


class SiteBlobs:
    """What a site may bring and fetch.

    Args:
        site: The site.
        folder: Where its blobs go.
    """

    def __init__(self, site: str, folder: Path) -> None:
        self._site = site
        self._folder = folder
        self._coming: set[str] = set()  # not yet passed on
        self._offered: dict[str, Path] = {}

    def target_of(self, name: str) -> Path:
        """Where a blob goes.

        Raises:
            ConfigError: Too many came that no frame has spoken of.
        """
        if name not in self._coming and len(self._coming) >= _MOST_WAITING:
            there = [file.name for file in self._folder.iterdir()]
            self._coming = {one for one in self._coming if any(one in file for file in there)}  # others were refused
            if len(self._coming) >= _MOST_WAITING:
                raise ConfigError(f"{self._site} has {_MOST_WAITING} blobs waiting; no more are taken")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._coming.add(name)
        return self._folder / name

    def take(self, refs: Iterable[BlobRef]) -> None:
        """A frame has come that speaks of blobs; they appear when they are whole.

        Raises:
            DecodeError: One is not here.
        """
        names = [ref.name for ref in refs]
        for name in names:
            if name not in self._coming or not (self._folder / name).is_file():
                raise DecodeError(f"it comes without its blob {name}")
        self._coming.difference_update(names)

    def offer(self, refs: Iterable[BlobRef], files: Sequence[Path]) -> None:
        """Let it fetch some; those whose files are gone, since their task is over, are forgotten."""
        self._offered = {name: path for name, path in self._offered.items() if path.exists()}
        self._offered |= {ref.name: path for ref, path in zip(refs, files, strict=True)}

    def source_of(self, name: str) -> Path:
        """Where a blob lies that it may fetch.

        Raises:
            ConfigError: It may not, or the task is over.
        """
        path = self._offered.get(name)
        if path is None or not path.exists():
            raise ConfigError(f"there is no blob {name[:80]!r} for {self._site} (any more)")
        return path
