"""Numbers that come with messages."""

from __future__ import annotations

from numbers import Real

import numpy as np


def as_float(value: object) -> float | None:
    """A Python or NumPy number, or an array that holds a single one, as a float; None for everything else."""
    if type(value) is float or type(value) is int:
        return float(value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return None
    return float(value)
