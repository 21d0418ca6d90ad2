"""What is refused, in the log: once for each peer and reason, and never so often that a peer can fill it."""

from __future__ import annotations

import logging

from hansa.wire.frames import Peer

MOST_REASONS = 20
_MOST_PEERS = 1_000
_MOST_LETTERS = 300

_logger = logging.getLogger("hansa.network")


class Refusals:
    """Logs what is refused; any thread."""

    def __init__(self) -> None:
        self._said: dict[str, set[str]] = {}

    def note(self, peer: Peer, code: str, *, text: str) -> None:
        """A participant is refused.

        Args:
            peer: Who, from the certificate.
            code: Why, without anything that the peer may choose.
            text: Why, in words.
        """
        self.note_address(f"{peer.name} ({peer.role})", code, text=text)

    def note_address(self, address: str, code: str, *, text: str) -> None:
        """Somebody who is no participant is refused."""
        said = self._said.get(address)
        if said is None:
            if len(self._said) >= _MOST_PEERS:
                return
            said = self._said[address] = set()
        if code in said or len(said) >= MOST_REASONS:
            return
        said.add(code)
        _logger.warning("%s is refused: %s", printable(address), printable(text))


def printable(text: str) -> str:
    """A text of somebody else's on one line of a log."""
    clipped = text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
    return "".join(each if each.isprintable() else "?" for each in clipped)
