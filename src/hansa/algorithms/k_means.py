"""K-means over rows at several sites: each step's centres are weighted means, so a step is exact.

Lloyd, "Least Squares Quantization in PCM", 1982, IEEE Trans. Inf. Theory 28. The start is drawn among the sites' own
centres, weighted by their rows, after Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TRIES = 8
_MOST_STEPS = 100


def lloyd_step(rows: Floats, centers: Floats) -> tuple[Floats, Floats, float]:
    """One step of Lloyd's algorithm.

    Args:
        rows: float[n, f]; n may be 0.
        centers: float[k, f].

    Returns:
        The mean of the rows that are nearest to each centre (the centre itself where there are none), how many these
        are, float[k], and the sum of all squared distances to the centres that came in.
    """
    nearest, distances = _nearest(rows, centers)
    counts = np.bincount(nearest, minlength=len(centers)).astype(np.float64)
    sums = np.zeros_like(centers)
    np.add.at(sums, nearest, rows)
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1.0)[:, None], centers)
    return means, counts, float(distances.sum())


def merged_centers(centers: Floats, counts: Floats, *, before: Floats) -> tuple[Floats, Floats]:
    """The centres of all rows, of those of the sites' rows.

    Args:
        centers: float[s, k, f].
        counts: float[s, k]: how many rows lie behind each.
        before: float[k, f]: what stays where no site has a row.

    Returns:
        Centres float[k, f] and counts float[k].
    """
    total = counts.sum(0)
    sums = (counts[..., None] * centers).sum(0)
    return np.where(total[:, None] > 0, sums / np.maximum(total, 1.0)[:, None], before), total


def start_centers(points: Floats, weights: Floats, clusters: int) -> Floats:
    """Centres to begin with: weighted k-means over a few points that stand for many rows.

    Draws are the same in every run.

    Args:
        points: float[n, f], n >= 1.
        weights: float[n]: rows behind each, above 0.
        clusters: How many are wanted; where there are fewer different points, some centres coincide.

    Returns:
        float[clusters, f], the best of several tries.
    """
    rng = np.random.default_rng(0)
    tries = [_improved(points, weights, _drawn(points, weights, clusters, rng=rng)) for _ in range(_TRIES)]
    return min(tries, key=lambda centers: float((weights * _nearest(points, centers)[1]).sum()))


def _nearest(rows: Floats, centers: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The nearest centre of each row, and its squared distance; centre by centre, so that memory stays small."""
    distances = np.stack([((rows - center) ** 2).sum(1) for center in centers])
    nearest = distances.argmin(0)
    return nearest, distances[nearest, np.arange(len(rows))]


def _drawn(points: Floats, weights: Floats, clusters: int, *, rng: np.random.Generator) -> Floats:
    chosen = [points[rng.choice(len(points), p=weights / weights.sum())]]
    for _ in range(clusters - 1):
        mass = weights * _nearest(points, np.stack(chosen))[1]
        chances = mass / mass.sum() if mass.sum() > 0 else weights / weights.sum()
        chosen.append(points[rng.choice(len(points), p=chances)])
    return np.stack(chosen)


def _improved(points: Floats, weights: Floats, centers: Floats) -> Floats:
    for _ in range(_MOST_STEPS):
        nearest, _distances = _nearest(points, centers)
        total = np.bincount(nearest, weights, minlength=len(centers))
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, weights[:, None] * points)
        moved = np.where(total[:, None] > 0, sums / np.where(total > 0, total, 1.0)[:, None], centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers
