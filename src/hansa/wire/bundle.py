"""Several messages in one frame of a local link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.errors import DecodeError
from hansa.tensors import Array
from hansa.wire.blobs import Blob
from hansa.wire.message import Message

Reference = list[Any]  # Any: JSON
"""Where a message's parts are: length of its envelope, its tables by digest, its blobs."""


class Bundle:
    """Gathers messages and arrays for one frame: envelopes and tables as one part, every blob as a part of its own.

    Args:
        known: The tables that the other end has; new ones are added, up to `MOST_KNOWN`.
    """

    MOST_KNOWN = 1024

    def __init__(self, known: set[str]) -> None:
        self._known = known
        self._bytes: list[bytes] = []
        self._offset = 0
        self._arrays: list[Array] = []
        self.num_messages = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of everything that is no array."""
        return self._offset

    def add(self, message: Message) -> Reference:
        """Put a message in; returns what the other end finds it by."""
        tables: dict[str, Any] = {}
        envelope = self._put(message.envelope)
        for digest, table in message.tables.items():
            if digest in self._known:
                continue
            keep = len(self._known) < self.MOST_KNOWN
            if keep:
                self._known.add(digest)
            tables[digest] = [*self._put(table), keep]
        blobs = [self.add_array(blob.memory) for blob in message.blobs]
        self.num_messages += 1
        return [envelope, tables, blobs, list(message.tables)]

    def add_array(self, array: Array) -> int:
        """Put an array in; returns the number of its part."""
        self._arrays.append(array)
        return len(self._arrays)

    def parts(self) -> list[bytes | Array]:
        """What goes into the frame."""
        return [b"".join(self._bytes), *self._arrays]

    def _put(self, data: bytes) -> list[int]:
        begin = self._offset
        self._bytes.append(data)
        self._offset += len(data)
        return [begin, self._offset]


class Unbundler:
    """Finds messages in the frames of one connection.

    It keeps the tables that came, since each comes once.
    """

    def __init__(self) -> None:
        self._tables: dict[str, bytes] = {}

    def message(self, reference: Reference, parts: Sequence[Array]) -> Message:
        """The message of a reference.

        Raises:
            DecodeError: The frame has no such parts, or a table never came.
        """
        try:
            (begin, end), fresh, blobs, digests = reference
            tables = {}
            for digest, (first, last, keep) in fresh.items():
                tables[digest] = parts[0][first:last].tobytes()
                if keep:
                    self._tables[digest] = tables[digest]
            for digest in digests:
                if digest not in tables:
                    tables[digest] = self._tables[digest]
            return Message(parts[0][begin:end].tobytes(), tuple([Blob(parts[number]) for number in blobs]), tables)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise DecodeError(f"a frame has no message {reference!r:.80}: {type(error).__name__}") from error
