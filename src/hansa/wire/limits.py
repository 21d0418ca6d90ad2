"""How much a message may ask of the one who reads it."""

from __future__ import annotations

from dataclasses import dataclass

INLINE_BYTES = 64 * 1024
"""Payload up to this size rides in the envelope."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold before anything is allocated. The defaults are what every Hansa sends and takes.

    Args:
        max_envelope_bytes: Structure, scalars and strings of one message, with the payload inside.
        max_table_bytes: One table of tensors.
        max_depth: How many JSON brackets may be open at once.
        max_nodes: Values in one envelope, and in one table.
        max_tensors: Tensors in one message.
    """

    max_envelope_bytes: int = 1024 * 1024
    max_table_bytes: int = 16 * 1024 * 1024
    max_depth: int = 64
    max_nodes: int = 250_000
    max_tensors: int = 20_000
