"""Blobs: the tensors and long bytes of a message, as one immutable region of bytes.

A blob is a safetensors file, in memory or mapped. Its header has one entry per *region*: all tensors of one dtype,
flat, one after the other. Which tensor lies where says the message, not the blob; so a blob can be written, sent,
digested and summed up without a look at its message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from hansa.errors import DecodeError
from hansa.tensors import Array, Entry, Header, header_bytes, map_file, parse_header, write_pieces
from hansa.wire.dtypes import REGIONS

Allocate = Callable[[int], Array]
"""Gives an array of that many uint8, writable, its content arbitrary."""


class Blob:
    """An immutable byte region in the safetensors layout.

    Nothing is read before somebody asks; what is asked for is checked first and raises DecodeError. The arrays that
    it hands out keep its memory alive, whatever becomes of the blob itself.

    Args:
        data: The whole region with its header: bytes, or a one-dimensional array of uint8. The blob takes an array
            over: nobody else may write to it.
        path: The file that `data` is a map of, if it is one.
        digest: Its tagged digest, where that is known.
    """

    def __init__(
        self, data: bytes | memoryview | Array, *, path: Path | None = None, digest: str | None = None
    ) -> None:
        self._memory: Array | None = data if isinstance(data, np.ndarray) else np.frombuffer(data, dtype=np.uint8)
        self._header: Header | None = None
        self._digest = digest
        self.path = path
        self.size_bytes = self._memory.nbytes
        self.num_copies = 0
        """How often somebody had its data copied into memory of their own."""

    @classmethod
    def map_file(cls, path: str | Path, *, digest: str | None = None) -> Blob:
        """The blob in a file, mapped read-only.

        Args:
            path: The file.
            digest: Its tagged digest, where that is known.

        Raises:
            DecodeError: The file is empty.
        """
        return cls(np.frombuffer(map_file(path), dtype=np.uint8), path=Path(path), digest=digest)

    def write_file(self, path: str | Path) -> None:
        """Write it to a file, which appears whole or not at all."""
        write_pieces(path, b"", [self.memory])

    @property
    def memory(self) -> Array:
        """All its bytes, read-only.

        Raises:
            ValueError: The blob was decoded with `arrays="own"`: its memory belongs to the receiver now.
        """
        if self._memory is None:
            raise ValueError("the memory of this blob belongs to the receiver of its message now")
        view = self._memory[:]
        view.flags.writeable = False
        return view

    @property
    def header(self) -> Header:
        """Its checked header.

        Raises:
            DecodeError: These bytes are no blob.
        """
        if self._header is None:
            self._header = parse_header(memoryview(self.memory))
        return self._header

    @property
    def data(self) -> Array:
        """Its bytes without the header, read-only; the offsets in messages count from here."""
        return self.memory[self.header.data_begin :]

    def regions(self) -> dict[str, Array]:
        """Each region as a flat read-only array over the blob's memory, by name (`float32`, `bfloat16`, ...).

        bfloat16 and float8 come as their bits in unsigned integers.

        Raises:
            DecodeError: These bytes are no blob, or one of other software.
        """
        result = {}
        for name, entry in self.header.entries.items():
            region = REGIONS.get(name)
            if region is None or entry.dtype != region.tag or len(entry.shape) != 1 or entry.shape[0] % region.width:
                raise DecodeError(f"a blob has no region {name!r} of {entry.dtype} {entry.shape}")
            result[name] = self.data[entry.begin : entry.end].view(region.dtype)
        return result

    def digest(self) -> str:
        """The tagged digest of all its bytes: `sha256:...`; computed once."""
        if self._digest is None:
            self._digest = digest_of(self.memory)
        return self._digest

    def copy(self, allocate: Allocate) -> Array:
        """A private writable copy of its data."""
        data = self.data
        target = allocate(data.nbytes)
        target[:] = data
        self.num_copies += 1
        return target

    def take(self, allocate: Allocate) -> Array:
        """Its data as writable memory that belongs to the caller alone; without a copy where that is possible.

        A mapped file gives a copy-on-write map and stays whole. Memory of its own is handed over, and the blob is
        of no use any more. Memory that somebody else may see is copied.
        """
        begin = self.header.data_begin
        if self.path is not None:
            return np.frombuffer(map_file(self.path, private=True), dtype=np.uint8)[begin:]
        if self._memory is None or not self._memory.flags.writeable:
            return self.copy(allocate)
        taken, self._memory = self._memory[begin:], None
        return taken


class Sink(Protocol):
    """Where an encoder's blobs go."""

    def __call__(self, header: bytes, pieces: Iterable[Array], /, *, size_bytes: int) -> Blob:
        """Keep a new blob: its header, then the pieces (flat uint8), `size_bytes` in all."""
        ...


class AllocatingSink:
    """A sink: memory from somewhere, the tensors copied into it once.

    Args:
        allocate: Where the memory comes from, such as a `Recycler`.
    """

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate

    def __call__(self, header: bytes, pieces: Iterable[Array], /, *, size_bytes: int) -> Blob:
        memory = self._allocate(size_bytes)
        memory[: len(header)] = np.frombuffer(header, dtype=np.uint8)
        offset = len(header)
        for piece in pieces:
            memory[offset : offset + piece.nbytes] = piece
            offset += piece.nbytes
        return Blob(memory)


class FileSink:
    """A sink: files in a folder, written from the tensors' own memory and mapped back.

    Args:
        folder: An existing folder.
        stem: The files are called `<stem>-<n>.safetensors`, n from 0; a file of that name is replaced.
    """

    def __init__(self, folder: str | Path, stem: str = "blob") -> None:
        self.folder = Path(folder)
        self.stem = stem
        self.paths: list[Path] = []

    def __call__(self, header: bytes, pieces: Iterable[Array], /, *, size_bytes: int) -> Blob:
        path = self.folder / f"{self.stem}-{len(self.paths)}.safetensors"
        write_pieces(path, header, pieces)
        self.paths.append(path)
        return Blob.map_file(path)


def blob_header(regions: Sequence[tuple[str, int]]) -> bytes:
    """The header of a blob with these regions: name and bytes of each, in their order."""
    entries = {}
    offset = 0
    for name, size in regions:
        region = REGIONS[name]
        entries[name] = Entry(region.tag, (size // region.item_bytes,), offset, offset + size)
        offset += size
    return header_bytes(entries)


def digest_of(data: bytes | Array) -> str:
    """The tagged digest of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def fresh(size_bytes: int) -> Array:
    """Memory from the system; see `Allocate`."""
    return np.empty(size_bytes, dtype=np.uint8)


keep_in_memory = AllocatingSink(fresh)
