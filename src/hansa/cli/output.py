"""What `--json` prints: JSON that every reader takes."""

from __future__ import annotations

import json
import math

import typer


def print_json(value: object) -> None:
    """Print one line of JSON; a number that JSON has no word for (NaN, Inf) becomes null."""
    typer.echo(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
