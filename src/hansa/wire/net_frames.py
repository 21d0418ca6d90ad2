"""Frames as protobuf messages, and back; and what is looked at before a message is decoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError as ProtobufError

from hansa.errors import DecodeError, EncodeError
from hansa.wire import federation_pb2 as pb
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.net_options import MAX_FRAME_BYTES, MAX_FRAMES

MAX_PARTS = 10_000
"""Parts of one frame, and blobs of one."""
MAX_JSON_BYTES = 1 << 20
"""A head, the arguments of a command, what a site says of itself."""
_MAX_FIELDS = 50_000
_SMALL_BYTES = 64 << 10
_UP_FRAMES, _DOWN_FRAMES = 2, 3


def to_message(frame: Frame) -> pb.Frame:
    """A frame as a message, not yet numbered.

    Raises:
        EncodeError: Its head is no JSON, or it is too large for the other end to take.
    """
    message = pb.Frame(
        kind=frame.kind,
        job=frame.job,
        head=dump(frame.head, what=f"the head of a frame {frame.kind!r}") if frame.head else b"",
        parts=frame.parts,
        blobs=[pb.Blob(name=each.name, size_bytes=each.size_bytes, digest=each.digest) for each in frame.blobs],
    )
    size = message.ByteSize()
    if size > MAX_FRAME_BYTES:
        raise EncodeError(
            f"a frame {frame.kind!r}",
            f"it has {size} bytes, {MAX_FRAME_BYTES} at most; what is larger must travel as a blob",
        )
    if len(frame.parts) > MAX_PARTS or len(frame.blobs) > MAX_PARTS:
        raise EncodeError(
            f"a frame {frame.kind!r}",
            f"it has {len(frame.parts)} parts and {len(frame.blobs)} blobs, {MAX_PARTS} of each at most",
        )
    return message


def from_message(message: pb.Frame) -> Frame:
    """The frame of a message.

    Raises:
        DecodeError: Its head is no JSON object, or it has too many parts.
    """
    if len(message.parts) > MAX_PARTS or len(message.blobs) > MAX_PARTS:
        raise DecodeError(f"a frame with {len(message.parts)} parts and {len(message.blobs)} blobs")
    return Frame(
        message.kind,
        message.job,
        load(message.head) if message.head else {},
        tuple(message.parts),
        tuple(BlobRef(each.name, each.size_bytes, each.digest) for each in message.blobs),
    )


def read_up(data: bytes) -> pb.Up:
    """A message of a site.

    Raises:
        DecodeError: It is none.
    """
    _check_fields(data, _UP_FRAMES)
    try:
        return pb.Up.FromString(data)
    except ProtobufError:
        raise DecodeError("no message of this protocol") from None


def read_down(data: bytes) -> pb.Down:
    """A message of the server to a site.

    Raises:
        DecodeError: It is none.
    """
    _check_fields(data, _DOWN_FRAMES)
    try:
        return pb.Down.FromString(data)
    except ProtobufError:
        raise DecodeError("no message of this protocol") from None


def read_command(data: bytes) -> pb.Command:
    """A command.

    Raises:
        DecodeError: It is none.
    """
    try:
        return pb.Command.FromString(data)
    except ProtobufError:
        raise DecodeError("no message of this protocol") from None


def dump(content: Any, *, what: str = "head", most_bytes: int = MAX_JSON_BYTES) -> bytes:  # Any: JSON
    """JSON as bytes.

    Raises:
        EncodeError: It is none, or too large.
    """
    try:
        data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(what, str(error)) from None
    if len(data) > most_bytes:
        raise EncodeError(what, f"it has {len(data)} bytes, {most_bytes} at most")
    return data


def load(data: bytes, *, most_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:  # Any: JSON
    """A JSON object from bytes.

    Raises:
        DecodeError: It is none, or too large.
    """
    if len(data) > most_bytes:
        raise DecodeError(f"JSON of {len(data)} bytes, {most_bytes} at most")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"no JSON: {error}") from None
    if not isinstance(content, dict):
        raise DecodeError("no JSON object")
    return content


# -- before decoding ---------------------------------------------------------------------------------------------------
# Protobuf gives every submessage about 100 bytes, so 4 MB of empty frames would take 200 MB. They are counted first.


def _check_fields(data: bytes, frames: int) -> None:
    if len(data) <= _SMALL_BYTES:
        return
    num_frames, num_fields = 0, 0
    for number, start, end in _fields(data, 0, len(data)):
        num_fields += 1
        if number == frames:
            num_frames += 1
            for _ in _fields(data, start, end):
                num_fields += 1
                if num_fields > _MAX_FIELDS:
                    break
        if num_frames > MAX_FRAMES or num_fields > _MAX_FIELDS:
            raise DecodeError("a message of too many small things")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field's content; stops where the bytes make no sense, which protobuf then sees."""
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        start = at
        if kind == 0:
            _, at = _varint(data, at, end)
        elif kind == 1:
            at += 8
        elif kind == 2:
            size, start = _varint(data, at, end)
            at = start + size
        elif kind == 5:
            at += 4
        elif kind not in (3, 4):  # a group's begin and end are fields of their own here
            return
        if at > end:
            return
        yield tag >> 3, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, end + 1
