"""Sharing the largest part of an update only (Shokri and Shmatikov 2015, CCS; Li et al. 2019, arXiv:1910.00962).

This is **not** differentially private: which numbers are sent, and what they are, depends on the data without noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def largest(values: Numbers, *, percentile: float, bound: float) -> Numbers:
    """Zero what is small, and clip what is large.

    Args:
        values: Of a whole model, one after the other; shape (n,).
        percentile: What is smaller in size than this percentile of all sizes becomes 0; in [0, 100].
        bound: What is larger in size becomes this size; > 0.

    Returns:
        New values, shape (n,).
    """
    if not values.size:
        return values.copy()
    sizes = np.abs(values)
    cut = np.percentile(sizes, percentile)
    return np.where(sizes < cut, 0.0, np.clip(values, -bound, bound))
