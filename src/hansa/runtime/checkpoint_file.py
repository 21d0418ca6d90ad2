"""The file of a checkpoint: facts and messages, and the digest of all of it.

::

    16 bytes    hansa checkpoint
    8 bytes     length of the head, little-endian
    head        JSON: the facts, and for each message its name, its tables and the sizes of its parts
    parts       all tables; envelope and blobs of each message; each part at a multiple of 64
    32 bytes    SHA-256 of everything before
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.errors import DecodeError
from hansa.failpoints import reach
from hansa.tensors import Array, map_file
from hansa.wire.blobs import Blob
from hansa.wire.message import Message

_MARK = b"hansa checkpoint"
_FORMAT = 1
_ALIGNMENT = 64
_DIGEST_BYTES = 32

Facts = Mapping[str, Any]  # Any: JSON


def write_file(path: Path, facts: Facts, messages: Mapping[str, Message]) -> None:
    """Write a checkpoint in the place of the one before; durable when it returns.

    Args:
        path: The file.
        facts: What is plain.
        messages: Values with their tensors, by name.

    Raises:
        OSError: The disk.
    """
    temporary = path.with_name(f".{path.name}.new")
    digest = hashlib.sha256()
    with temporary.open("wb") as stream:
        for piece in _pieces(facts, messages):
            stream.write(piece)
            digest.update(piece)
        reach("checkpoint.mid")
        stream.write(digest.digest())
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync(path.parent)


def _pieces(facts: Facts, messages: Mapping[str, Message]) -> Iterator[bytes | Array]:
    tables = {digest: table for message in messages.values() for digest, table in message.tables.items()}
    listed = [
        {
            "name": name,
            "envelope": len(message.envelope),
            "tables": list(message.tables),
            "blobs": [blob.size_bytes for blob in message.blobs],
        }
        for name, message in messages.items()
    ]
    sizes = {digest: len(table) for digest, table in tables.items()}
    head = json.dumps({"format": _FORMAT, "facts": facts, "tables": sizes, "messages": listed}).encode()
    offset = len(_MARK) + 8 + len(head)
    yield _MARK + len(head).to_bytes(8, "little") + head
    parts: list[bytes | Array] = list(tables.values())
    for message in messages.values():
        parts += [message.envelope, *(blob.memory for blob in message.blobs)]
    for part in parts:
        gap = -offset % _ALIGNMENT
        yield bytes(gap)
        yield part
        offset += gap + len(part)


def read_file(path: Path) -> tuple[Facts, dict[str, Message]]:
    """The facts and the messages of a checkpoint; the messages are maps of the file.

    Raises:
        DecodeError: It is damaged, or something else.
        OSError: It cannot be read.
    """
    content = np.frombuffer(map_file(path), dtype=np.uint8)
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest.tobytes():
        raise DecodeError("its digest is another one")
    begin = len(_MARK) + 8
    if body[: len(_MARK)].tobytes() != _MARK:
        raise DecodeError("it is no checkpoint")
    end = begin + int.from_bytes(body[len(_MARK) : begin].tobytes(), "little")
    head = json.loads(body[begin:end].tobytes())
    if head["format"] != _FORMAT:
        raise DecodeError("it was written by another version of Hansa")
    return head["facts"], _messages(head, body, offset=end)


def _messages(head: dict[str, Any], body: Array, *, offset: int) -> dict[str, Message]:  # Any: JSON
    def part(size_bytes: int) -> Array:
        nonlocal offset
        begin = offset + -offset % _ALIGNMENT
        offset = begin + size_bytes
        return body[begin:offset]

    tables = {digest: part(size).tobytes() for digest, size in head["tables"].items()}
    messages = {}
    for each in head["messages"]:
        envelope = part(each["envelope"]).tobytes()
        blobs = tuple([Blob(part(size)) for size in each["blobs"]])
        messages[each["name"]] = Message(envelope, blobs, {digest: tables[digest] for digest in each["tables"]})
    return messages


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
