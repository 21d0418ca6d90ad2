"""A stored model's entry in an inventory."""

from __future__ import annotations

from typing import Any


class ModelDescriptor:
    """Where a stored model lies and in which form.

    Args:
        name: The model's name in the inventory.
        location: A path, or whatever the persistor's `get_model` understands.
        model_format: See `ModelFormat`.
        props: What else is known about it.
    """

    def __init__(self, name: str, location: str, model_format: str, props: dict[str, Any] | None = None) -> None:
        self.name = name
        self.location = location
        self.model_format = model_format
        self.props = {} if props is None else props
