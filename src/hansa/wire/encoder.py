"""From values to messages: the encoder of one posted task."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hansa.errors import DecodeError, EncodeError
from hansa.tensors import check_nesting
from hansa.wire.blobs import Sink, keep_in_memory
from hansa.wire.dtypes import Refusal
from hansa.wire.limits import INLINE_BYTES, Limits
from hansa.wire.message import Message, seal
from hansa.wire.placing import INLINE, Shelf
from hansa.wire.structure import SPARE_LEVELS, Walk


def _writer_of_json() -> Callable[[Any], str]:  # Any: a structure
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
    # `encode` builds the same C encoder anew for each message, which takes as long as a small message itself.
    make = getattr(json.encoder, "c_make_encoder", None)
    try:
        write = make(None, encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)  # type: ignore[misc]  # caught
    except TypeError:  # a Python without it, or with another one
        return encoder.encode
    return lambda structure: "".join(write(structure, 0))


_dumps = _writer_of_json()


class Encoder:
    """Makes the messages of one posted task.

    It knows every tensor that it has seen by its identity, and keeps it alive. A message for another site with the
    same tensors refers to the blobs that are there; where some tensors were replaced, only those go into a new one.
    So a tensor must not be written to while its encoder lives: replace it.

    A dict of at least `MIN_TABLE` tensors is described once, in a table that all messages share.

    Args:
        inline_limit: If all tensors and long bytes of a message take at most so many bytes, they ride in the envelope.
        sink: Where blobs go.
        limits: What the receiver takes.
    """

    def __init__(
        self,
        inline_limit: int = INLINE_BYTES,
        sink: Sink = keep_in_memory,
        *,
        limits: Limits = Limits(),  # noqa: B008  frozen
    ) -> None:
        self._inline_limit = inline_limit
        self._limits = limits
        self._shelf = Shelf(sink, limits)

    @property
    def num_blobs(self) -> int:
        """Blobs written so far."""
        return len(self._shelf.blobs)

    @property
    def num_tensors_encoded(self) -> int:
        """Tensors (and long bytes) whose bytes were written so far, to a blob or an envelope."""
        return self._shelf.num_tensors_encoded

    @property
    def bytes_encoded(self) -> int:
        """Bytes of tensors written so far."""
        return self._shelf.bytes_encoded

    def encode(self, value: object) -> Message:
        """The message that carries the value.

        Raises:
            EncodeError: Something in it has no form on the wire, contains itself, or is beyond the limits; `path`
                says which, such as `DXO.data.conv1.weight`.
        """
        walk = Walk(self._shelf, self._limits.max_depth - SPARE_LEVELS)
        try:
            structure = walk.write(value, 1)
        except Refusal as refusal:
            raise EncodeError(walk.path(refusal), refusal.reason) from None
        blobs, tables, payload = self._place(walk)
        text = _dumps(structure)
        if len(text) > self._limits.max_nodes:  # else it cannot hold more; and its depth the walk has bounded
            try:
                check_nesting(text, self._limits.max_depth, self._limits.max_nodes)
            except DecodeError as error:
                raise EncodeError("", str(error)) from None
        envelope = seal(text.encode(), payload)
        if len(envelope) > self._limits.max_envelope_bytes:
            raise EncodeError(
                "", f"its strings and scalars take {len(text)} bytes, and an envelope holds "
                f"{self._limits.max_envelope_bytes}; send long data as arrays or bytes"
            )  # fmt: skip
        return Message(envelope, tuple([self._shelf.blobs[index] for index in blobs]), tables)

    def _place(self, walk: Walk) -> tuple[list[int], dict[str, bytes], bytes]:
        """Give every tensor its place and write it into the structure; returns blobs, tables and inline payload."""
        singles, groups = walk.singles, walk.groups
        if not singles and not groups:
            return [], {}, b""
        number, size_bytes = len(singles), 0
        for item in singles:
            size_bytes += item.size_bytes
        for group in groups:
            number += len(group.items)
            size_bytes += group.size_bytes
        if number > self._limits.max_tensors:
            raise EncodeError("", f"it holds more than {self._limits.max_tensors} tensors")
        if size_bytes <= self._inline_limit:
            inline = self._shelf.into_envelope(singles, groups)
            for words, offset in zip(walk.single_words, inline.offsets, strict=False):
                words.append(offset)
            for index, words in enumerate(walk.group_words):
                words += [inline.groups[index].digest, [INLINE]]
            return [], {group.digest: group.table for group in inline.groups.values()}, inline.payload
        self._shelf.into_blobs(singles, groups)
        blobs = sorted({item.blob for item in singles}.union(*(group.blobs or () for group in groups)))
        index_of = {blob: index for index, blob in enumerate(blobs)}
        for words, item in zip(walk.single_words, singles, strict=True):
            words += [item.offset, index_of[item.blob]]
        for words, group in zip(walk.group_words, groups, strict=True):
            words += [group.digest, [index_of[blob] for blob in group.blobs or ()]]
        return blobs, {group.digest: group.table for group in groups}, b""
