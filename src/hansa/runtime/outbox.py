"""The one way out of a side: every byte that leaves a site passes here.

Results, aux messages, federated events, public properties and error texts are encoded in this place and
nowhere else, so that what left a site can be counted, filtered and written down.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.errors import EncodeError
from hansa.wire.codec import Encoder, Message, decode

_PLAIN = frozenset((str, int, float, bool, type(None)))
_logger = logging.getLogger("hansa.outbox")


@dataclass
class Sent:
    """What left so far.

    Attributes:
        messages: How many messages.
        bytes: Their size; a body that goes to many sites counts for each of them.
        tensors_encoded: How many tensors were turned into bytes; a body that goes to many sites counts once.
    """

    messages: int = 0
    bytes: int = 0
    tensors_encoded: int = 0


class Outbox:
    """Encodes what leaves one side.

    Args:
        owner: The site's name, or `server`.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.sent = Sent()
        self._left_out: set[str] = set()

    def pack(self, value: Shareable, encoder: Encoder | None = None) -> Message:
        """Encode a message for the other side.

        Args:
            value: What goes out.
            encoder: One that has seen these tensors before, for a body that goes to many sites.

        Raises:
            EncodeError: A value in it has no form on the wire.
        """
        encoder = encoder or Encoder()
        encoded_before = encoder.num_tensors_encoded
        message = encoder.encode(value)
        self.sent.tensors_encoded += encoder.num_tensors_encoded - encoded_before
        return self.count(message)

    def count(self, message: Message) -> Message:
        """Note that a message leaves, as often as it does; returns it."""
        self.sent.messages += 1
        self.sent.bytes += len(message.envelope)
        for blob in message.blobs:
            self.sent.bytes += blob.size_bytes
        return message

    def public_props(self, fl_ctx: FLContext) -> dict[str, Any]:
        """The public properties of a context that can travel, as values of their own.

        What cannot be encoded is left out, with one warning per key.
        """
        props = {}
        for key, value in fl_ctx.get_all_public_props().items():
            if type(value) in _PLAIN:  # cannot change under the other side's hands
                props[key] = value
                continue
            try:
                props[key] = decode(Encoder().encode(value), arrays="own")
            except EncodeError as error:
                self._warn_once(key, error)
        return props

    def _warn_once(self, key: str, error: EncodeError) -> None:
        if key not in self._left_out:
            self._left_out.add(key)
            _logger.warning("%s: public property %r stays here: %s", self.owner, key, error.reason)
