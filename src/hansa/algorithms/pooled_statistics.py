"""Counts, means and variances by class of several data sets, as of all their rows together.

Means and squared deviations are joined and not sums of squares, which would cancel where a mean is large beside its
deviation: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979,
Stanford STAN-CS-79-773.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def pooled_moments(counts: ArrayLike, means: ArrayLike, variances: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Moments of rows that lie in several parts.

    Args:
        counts: float[s, k]: how many rows of class k part s has, >= 0.
        means: float[s, k, f]: their means; of any value where there are no rows.
        variances: float[s, k, f]: their variances (divided by the count).

    Returns:
        Counts float[k], means and variances float[k, f] of all parts together; 0 where there are no rows.
    """
    n = np.asarray(counts, np.float64)[..., None]
    mean, variance = np.asarray(means, np.float64), np.asarray(variances, np.float64)
    total = n.sum(0)
    safe = np.where(total > 0, total, 1.0)
    together = (n * mean).sum(0) / safe
    squares = (n * (variance + (mean - together) ** 2)).sum(0)
    return total[..., 0], together, squares / safe


def moments_by_class(x: ArrayLike, y: ArrayLike, *, classes: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Counts float[k], means and variances float[k, f] of the rows of each class; 0 for a class without rows.

    Args:
        x: float[n, f]; n may be 0.
        y: The class of each row, [n].
        classes: All classes, [k].
    """
    rows, labels, known = np.asarray(x, np.float64), np.asarray(y), np.asarray(classes)
    chosen = [rows[labels == each] for each in known]
    empty = np.zeros(rows.shape[1])
    return (
        np.array([len(each) for each in chosen], np.float64),
        np.stack([each.mean(0) if len(each) else empty for each in chosen]),
        np.stack([each.var(0) if len(each) else empty for each in chosen]),
    )
