"""Values to messages and back; `encode` and `decode` in one place.

    message = Encoder().encode(shareable)
    shareable = decode(message)

An `Encoder` lives as long as a posted task: its messages for many sites share their tensors. `to_bytes` and
`from_bytes` make one string of bytes of a value, for a file or a message of somebody else's.
"""

from __future__ import annotations

from typing import Any

from hansa.apis import byte_form
from hansa.wire.blobs import Blob, FileSink, digest_of, keep_in_memory
from hansa.wire.decoder import decode
from hansa.wire.encoder import Encoder
from hansa.wire.limits import Limits
from hansa.wire.message import Message, frame, unframe
from hansa.wire.tables import TableCache

__all__ = [
    "Blob",
    "Encoder",
    "FileSink",
    "Limits",
    "Message",
    "TableCache",
    "decode",
    "from_bytes",
    "keep_in_memory",
    "to_bytes",
]


def to_bytes(value: object) -> bytes:
    """A value as bytes that need nothing else to be read.

    Raises:
        EncodeError: Something in it has no form on the wire; the error names its path.
    """
    return frame(Encoder().encode(value))


def from_bytes(data: bytes) -> Any:  # Any: what was encoded
    """The value that `to_bytes` made the bytes from; its arrays are writable and its own.

    Raises:
        DecodeError: The bytes are something else.
    """
    envelope, tables, blobs = unframe(data)
    by_digest = {digest_of(table): table for table in tables}
    return decode(Message(envelope, tuple(Blob(blob) for blob in blobs), by_digest))


byte_form.use(to_bytes, from_bytes)
