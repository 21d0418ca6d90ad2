"""Whether SQLite would silently drop writes that were kept: it reads its log up to the first bad frame.

After a power cut the last transaction of the log may be torn; nobody was told that it is kept, and dropping it is
right. But a frame that is bad while a later transaction stands behind it was whole once: each commit waits for the disk
before the next begins. The format is that of https://www.sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, two salts, two checksums
_FRAME = struct.Struct(">6I")  # page, size of the database if it ends a transaction, two salts, two checksums
_MAGIC = 0x377F0682  # the last bit says in which byte order the checksums add
_MASK = 0xFFFFFFFF

Sum = tuple[int, int]


@dataclass(frozen=True)
class _Frame:
    ends_transaction: bool
    salts: Sum
    stored: Sum
    content: bytes
    """What the checksum is over: the first 8 bytes of the frame, and the page."""


def dropped_writes(log: Path) -> bool:
    """Whether a write-ahead log holds whole transactions behind a frame that was changed.

    The last transaction of all cannot be told from a torn one.

    Raises:
        OSError: It cannot be read.
    """
    data = log.read_bytes()
    if len(data) < _HEADER.size + _FRAME.size:
        return False
    magic, _, page_size, _, *rest = _HEADER.unpack_from(data)
    salts, stored = (rest[0], rest[1]), (rest[2], rest[3])
    big = bool(magic & 1)
    if magic & ~1 != _MAGIC or _add(data[:24], (0, 0), big=big) != stored:
        return True  # 32 bytes are written at once, and the disk waited for, before any frame is
    frames = _frames(data, page_size)
    total = stored
    for frame in frames:
        now = _add(frame.content, total, big=big)
        if frame.salts != salts or now != frame.stored:
            # Either the frame was changed or its checksum was: what comes behind it goes on from one of the two.
            behind = list(frames)
            return any(_goes_on(behind, frame, seed, salts, big=big) for seed in (frame.stored, now))
        total = now
    return False


def _goes_on(behind: list[_Frame], bad: _Frame, seed: Sum, salts: Sum, *, big: bool) -> bool:
    """Whether a transaction ends at a bad frame or behind it, and another one has begun after that."""
    has_ended = bad.ends_transaction
    for frame in behind:
        seed = _add(frame.content, seed, big=big)
        if frame.salts != salts or frame.stored != seed:
            return False
        if has_ended:
            return True
        has_ended = frame.ends_transaction
    return False


def _frames(data: bytes, page_size: int) -> Iterator[_Frame]:
    size = _FRAME.size + page_size
    for begin in range(_HEADER.size, len(data) - size + 1, size):
        _, end, salt1, salt2, sum1, sum2 = _FRAME.unpack_from(data, begin)
        content = data[begin : begin + 8] + data[begin + _FRAME.size : begin + size]
        yield _Frame(bool(end), (salt1, salt2), (sum1, sum2), content)


def _add(content: bytes, seed: Sum, *, big: bool) -> Sum:
    words = array("I", content)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    first, second = seed
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second
