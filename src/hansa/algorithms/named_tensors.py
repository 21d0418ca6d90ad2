"""Tensors by name: choosing some of them, and holding several dicts against each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hansa.algorithms.arrays import Array

Tensors = Mapping[str, Array]
"""Arrays by name; what the functions of this room take, never write into, and give back anew."""

Selection = str | Sequence[str]
"""Which tensors are meant: a regular expression that is searched for in each name, or a list of exact names."""


def check_selection(selection: object, *, key: str) -> None:
    """Refuse what says nothing about names.

    Args:
        selection: See `Selection`.
        key: What it is called in the error.

    Raises:
        ValueError: It is neither, or empty, or no regular expression.
    """
    if isinstance(selection, str) and selection:
        try:
            re.compile(selection)
        except re.error as error:
            raise ValueError(f"{key} {selection!r} is no regular expression: {error}") from None
    elif not isinstance(selection, list | tuple) or not all(isinstance(name, str) and name for name in selection):
        raise ValueError(f"{key} must be a list of names or a regular expression, but got {selection!r}")
    elif not selection:
        raise ValueError(f"{key} is empty")


def selected(names: Iterable[str], selection: Selection) -> list[str]:
    """The names that are meant, in their order."""
    if isinstance(selection, str):
        pattern = re.compile(selection)
        return [name for name in names if pattern.search(name)]
    wanted = frozenset(selection)
    return [name for name in names if name in wanted]


def check_alike(tensors: Tensors, **others: Tensors) -> None:
    """Refuse dicts that lack a name of the first, or have it in another shape; they may have more names.

    Args:
        tensors: The dict whose names count.
        others: The others; the keyword is what each is called in the error.

    Raises:
        ValueError: Names the dict, the tensor and both shapes.
    """
    for label, other in others.items():
        for name, tensor in tensors.items():
            if name not in other:
                raise ValueError(f"{label} has no tensor '{name}'")
            if np.shape(other[name]) != np.shape(tensor):
                raise ValueError(
                    f"{label} has '{name}' in shape {np.shape(other[name])}, where {np.shape(tensor)} is expected"
                )
