"""What is printed: JSON that every reader takes, and texts that do nothing to a terminal."""

from __future__ import annotations

import json
import math

import typer


def print_json(value: object) -> None:
    """Print one line of JSON; a number that JSON has no word for (NaN, Inf) becomes null."""
    typer.echo(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def plain(text: str) -> str:
    """A text that came from elsewhere, fit for a terminal: one line, control characters written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
