"""Where in a config something stands, and errors that say so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from hansa.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """A spot in a config file.

    Args:
        file: The file as the user knows it; None for an argument of a Python call.
        key: The dotted way to the spot, such as `components[2].args.lr`; empty for the whole file.
    """

    file: str | None = None
    key: str = ""

    def at(self, *steps: str | int) -> Place:
        """The place some steps further in: names become `.name`, positions `[n]`."""
        key = self.key
        for step in steps:
            if isinstance(step, int):
                key += f"[{step}]"
            else:
                key += f".{step}" if key else step
        return Place(self.file, key)

    def error(self, message: str) -> ConfigError:
        """An error about this place, in one line."""
        return ConfigError(one_line(message), file=self.file, key=self.key or None)


def one_line(text: str, limit: int = 400) -> str:
    """The text without line breaks, cut after `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def suggestion(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the choice nearest to a misspelt word, or nothing."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
