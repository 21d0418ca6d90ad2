"""What is refused, in the log: once for each peer and reason, and never so often that a peer can fill it."""

from __future__ import annotations

import logging

_MOST_REASONS = 20
_MOST_PEERS = 1_000
_MOST_LETTERS = 300

_logger = logging.getLogger("hansa.network")


class Refusals:
    """Logs what is refused; any thread."""

    def __init__(self) -> None:
        self._said: dict[str, set[str]] = {}

    def note(self, who: str, code: str, text: str) -> None:
        """Somebody is refused.

        Args:
            who: Whom; from the certificate, or the address of somebody without one.
            code: Why, without anything that the peer may choose.
            text: Why, in words.
        """
        said = self._said.get(who)
        if said is None:
            if len(self._said) >= _MOST_PEERS:
                return
            said = self._said[who] = set()
        if code in said or len(said) >= _MOST_REASONS:
            return
        said.add(code)
        _logger.warning("%s is refused: %s", who, printable(text))


def printable(text: str) -> str:
    """A text of somebody else's on one line of a log."""
    clipped = text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
    return "".join(each if each.isprintable() else "?" for each in clipped)
