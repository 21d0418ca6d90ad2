"""The bytes of a frame between two processes of one machine.

::

    prefix      20 bytes        lengths of the body and of the head, numbers of files, releases and parts
    body        files           number and size of each file whose descriptor comes along
                releases        file, slot, how many of its sendings have no array any more
                parts           file, slot, offset in the file, bytes; file 0: the bytes are in this frame
                head            JSON; empty: this frame brings releases only
                raw parts       each at the next multiple of 16 of the body

All numbers are little-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hansa.errors import DecodeError, EncodeError
from hansa.tensors import Array
from hansa.wire.structure import Json

MAX_FRAME_BYTES = 256 << 20
MAX_HEAD_BYTES = 64 << 20
MAX_DESCRIPTORS = 250  # the kernel takes 253 at a time

_PREFIX = struct.Struct("<5I")
_NUMBERS = "Q"
_ALIGNMENT = 16
PREFIX_BYTES = _PREFIX.size


class FileRow(NamedTuple):
    """A file that the receiver sees for the first time."""

    file: int
    size_bytes: int


class ReleaseRow(NamedTuple):
    """A slot of the receiver of this frame, and how many of its sendings are done with."""

    file: int
    slot: int
    times: int


class PartRow(NamedTuple):
    """Where a part lies: in a file, or (file 0) in the frame itself."""

    file: int
    slot: int
    offset: int
    size_bytes: int


class Prefix(NamedTuple):
    """What comes first: how much follows."""

    body_bytes: int
    head_bytes: int
    num_files: int
    num_releases: int
    num_parts: int

    @classmethod
    def parse(cls, data: bytes) -> Prefix:
        """Read and check it, before anything is allocated for the body.

        Raises:
            DecodeError: It breaks a limit, or does not add up.
        """
        prefix = cls(*_PREFIX.unpack(data))
        if prefix.body_bytes > MAX_FRAME_BYTES:
            raise DecodeError(f"a frame of {prefix.body_bytes} bytes; {MAX_FRAME_BYTES} at most")
        if prefix.head_bytes > MAX_HEAD_BYTES:
            raise DecodeError(f"a head of {prefix.head_bytes} bytes; {MAX_HEAD_BYTES} at most")
        if prefix.num_files > MAX_DESCRIPTORS:
            raise DecodeError(f"a frame with {prefix.num_files} descriptors; {MAX_DESCRIPTORS} at most")
        if prefix.raw_begin > prefix.body_bytes:
            raise DecodeError(f"a frame of {prefix.body_bytes} bytes cannot hold {prefix.raw_begin}")
        if prefix.num_parts and not prefix.head_bytes:
            raise DecodeError("a frame with parts and no head")
        return prefix

    @property
    def table_bytes(self) -> int:
        """What comes before the head."""
        return 8 * (2 * self.num_files + 3 * self.num_releases + 4 * self.num_parts)

    @property
    def raw_begin(self) -> int:
        """Where the head ends."""
        return self.table_bytes + self.head_bytes


class Body(NamedTuple):
    """A frame's tables and head, and its bytes."""

    files: list[FileRow]
    releases: list[ReleaseRow]
    parts: list[PartRow]
    has_head: bool  # else the frame brings releases only
    head: Json
    raw: list[Array]  # one for each part with file 0, read-only

    def fill(self, of_slot: Callable[[PartRow], Array]) -> list[Array]:
        """All parts; those in files as `of_slot` gives them."""
        raw = iter(self.raw)
        return [of_slot(part) if part.file else next(raw) for part in self.parts]


def head_bytes(head: Json) -> bytes:
    """The head as bytes.

    Raises:
        EncodeError: It is no JSON, or too long.
    """
    try:
        data = json.dumps(head, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError("the head of a frame", f"it is no JSON ({error})") from error
    if len(data) > MAX_HEAD_BYTES:
        raise EncodeError("the head of a frame", f"it has {len(data)} bytes, {MAX_HEAD_BYTES} at most")
    return data


def frame_bytes(
    head: bytes,
    *,
    files: Sequence[FileRow] = (),
    releases: Sequence[ReleaseRow] = (),
    parts: Sequence[PartRow] = (),
    raw: Iterable[Array] = (),
) -> bytes:
    """A whole frame.

    Raises:
        EncodeError: It would be too long, or bring too many descriptors.
    """
    if len(files) > MAX_DESCRIPTORS:
        raise EncodeError("a frame", f"it brings {len(files)} new files, {MAX_DESCRIPTORS} at most; send fewer parts")
    numbers = [number for rows in (files, releases, parts) for row in rows for number in row]
    pieces: list[bytes | memoryview] = [b"", struct.pack(f"<{len(numbers)}{_NUMBERS}", *numbers), head]
    length = 8 * len(numbers) + len(head)
    for array in raw:
        padding = -length % _ALIGNMENT
        pieces += (bytes(padding), array.data)
        length += padding + array.nbytes
    if length > MAX_FRAME_BYTES:
        raise EncodeError("a frame", f"it has {length} bytes, {MAX_FRAME_BYTES} at most; send fewer parts")
    pieces[0] = _PREFIX.pack(length, len(head), len(files), len(releases), len(parts))
    return b"".join(pieces)


def parse_body(prefix: Prefix, body: Array) -> Body:
    """What a frame says.

    Args:
        prefix: Its checked prefix.
        body: As many bytes as the prefix says; the raw parts become views of them.

    Raises:
        DecodeError: It is not as it should be.
    """
    body.flags.writeable = False
    numbers = iter(struct.unpack(f"<{prefix.table_bytes // 8}{_NUMBERS}", body[: prefix.table_bytes]))
    files = [FileRow(next(numbers), next(numbers)) for _ in range(prefix.num_files)]
    releases = [ReleaseRow(next(numbers), next(numbers), next(numbers)) for _ in range(prefix.num_releases)]
    parts = [PartRow(next(numbers), next(numbers), next(numbers), next(numbers)) for _ in range(prefix.num_parts)]
    raw = list(_raw_parts(prefix, body, parts))
    try:
        head = json.loads(body[prefix.table_bytes : prefix.raw_begin].tobytes()) if prefix.head_bytes else None
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the head of a frame is no JSON: {error}") from error
    return Body(files, releases, parts, prefix.head_bytes > 0, head, raw)


def _raw_parts(prefix: Prefix, body: Array, parts: Sequence[PartRow]) -> Iterator[Array]:
    end = prefix.raw_begin
    for part in parts:
        if part.file:
            continue
        begin = end + -end % _ALIGNMENT
        end = begin + part.size_bytes
        if end > prefix.body_bytes:
            raise DecodeError(f"a part ends at byte {end} of a frame of {prefix.body_bytes}")
        yield body[begin:end]
    if end != prefix.body_bytes:
        raise DecodeError(f"a frame of {prefix.body_bytes} bytes holds {end}")


def flat(part: bytes | bytearray | memoryview | Array) -> Array:
    """The bytes of a part as a flat array of uint8; copied only if they have gaps."""
    if not isinstance(part, np.ndarray):
        return np.frombuffer(part, dtype=np.uint8)
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8)
