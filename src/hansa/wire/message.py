"""A message: what goes between processes, as bytes and blobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hansa.errors import DecodeError
from hansa.wire.blobs import Blob

VERSION = 1
HEAD_BYTES = 8
PAYLOAD_ALIGNMENT = 16
_FRAME_MARK = b"HNSA\x01\0\0\0"
_FRAME_ALIGNMENT = 64
_MAX_PARTS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A value in its travelling form.

    ::

        envelope   byte 0          version, 1
                   bytes 1 to 3    0
                   bytes 4 to 7    length of the structure, little-endian
                   structure       tagged JSON, UTF-8
                   payload         at the next multiple of 16: tensors, where all of them are small

    Args:
        envelope: Everything but the tensors; and those, too, where they are small.
        blobs: What the envelope refers to by number.
        tables: What the envelope refers to by digest: which tensor lies where in a blob. A connection needs each of
            them once.
    """

    envelope: bytes
    blobs: tuple[Blob, ...] = ()
    tables: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return (
            len(self.envelope)
            + sum(blob.size_bytes for blob in self.blobs)
            + sum(len(table) for table in self.tables.values())
        )


def seal(structure: bytes, payload: bytes) -> bytes:
    """The envelope of a structure and its inline payload."""
    head = VERSION.to_bytes(4, "little") + len(structure).to_bytes(4, "little")
    if not payload:
        return head + structure
    return b"".join((head, structure, bytes(-(HEAD_BYTES + len(structure)) % PAYLOAD_ALIGNMENT), payload))


def unseal(envelope: bytes, max_bytes: int) -> tuple[bytes, int]:
    """The structure of an envelope, and where its payload begins.

    Raises:
        DecodeError: Another version, too long, or a length that does not fit.
    """
    if not HEAD_BYTES < len(envelope) <= max_bytes:
        raise DecodeError(f"an envelope cannot have {len(envelope)} bytes (at most {max_bytes})")
    if int.from_bytes(envelope[:4], "little") != VERSION:
        raise DecodeError(f"the envelope has version {envelope[0]}; this is version {VERSION}")
    end = HEAD_BYTES + int.from_bytes(envelope[4:HEAD_BYTES], "little")
    if end > len(envelope):
        raise DecodeError(f"the envelope breaks off: {len(envelope)} of {end} bytes")
    return envelope[HEAD_BYTES:end], min(end + -end % PAYLOAD_ALIGNMENT, len(envelope))


def frame(message: Message) -> bytes:
    """A whole message as one string of bytes.

    ::

        8 bytes        HNSA 1 0 0 0
        3 x 8 bytes    length of the envelope, number of tables, number of blobs; all numbers little-endian
        8 bytes each   lengths of the tables and of the blobs
        parts          envelope, tables, blobs; each at a multiple of 64
    """
    parts: list[bytes | memoryview] = [
        message.envelope,
        *message.tables.values(),
        *(memoryview(blob.memory) for blob in message.blobs),
    ]
    numbers = [len(message.envelope), len(message.tables), len(message.blobs), *(len(part) for part in parts[1:])]
    pieces: list[bytes | memoryview] = [_FRAME_MARK, *(number.to_bytes(8, "little") for number in numbers)]
    offset = 8 * len(pieces)
    for part in parts:
        gap = -offset % _FRAME_ALIGNMENT
        pieces += [bytes(gap), part]
        offset += gap + len(part)
    return b"".join(pieces)


def unframe(data: bytes) -> tuple[bytes, list[bytes], list[memoryview]]:
    """The parts of a frame: envelope, tables, blobs.

    Raises:
        DecodeError: It is no frame, or its lengths do not add up to it.
    """
    if data[:8] != _FRAME_MARK or len(data) < 32:
        raise DecodeError("these bytes are no value of Hansa's")
    num_tables, num_blobs = _number(data, 2), _number(data, 3)
    count = 1 + num_tables + num_blobs
    if count > _MAX_PARTS or 8 * (3 + count) > len(data):
        raise DecodeError(f"{len(data)} bytes cannot hold {num_tables} tables and {num_blobs} blobs")
    sizes = [_number(data, 1), *(_number(data, 4 + index) for index in range(count - 1))]
    view = memoryview(data)
    parts: list[memoryview] = []
    offset = 8 * (3 + count)
    for size in sizes:
        offset += -offset % _FRAME_ALIGNMENT
        parts.append(view[offset : offset + size])
        offset += size
        if offset > len(data):
            raise DecodeError(f"the bytes break off: {len(data)} instead of at least {offset}")
    if offset != len(data):
        raise DecodeError(f"{len(data) - offset} bytes too many")
    return bytes(parts[0]), [bytes(part) for part in parts[1 : 1 + num_tables]], parts[1 + num_tables :]


def _number(data: bytes, index: int) -> int:
    return int.from_bytes(data[8 * index : 8 * index + 8], "little")
