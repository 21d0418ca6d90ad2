"""Rules that a few bad sites cannot lead astray, in place of the mean.

Two kinds. *Coordinate rules* look at each number by itself: the median and the trimmed mean (Yin et al. 2018,
arXiv:1803.01498). *Geometric rules* look at whole updates: Krum and multi-Krum (Blanchard et al. 2017,
arXiv:1703.02757), the geometric median (Pillutla et al. 2022, arXiv:1912.13445) and centred clipping (Karimireddy et
al. 2021, arXiv:2012.10333). What these choose is a weighted sum of the updates, and the weights follow from the
updates' squared distances alone. So an update may have any number of tensors: distances are added up tensor by tensor,
and the sum is formed tensor by tensor.

Before either, updates may be mixed: each is replaced by the mean of its nearest neighbours (NNM; Allouah et al. 2023,
arXiv:2302.01772), or they are averaged in random buckets (Karimireddy et al. 2022, arXiv:2006.09365). That is a matrix,
too, and so are the distances after it (`mixed_distances`).

All sites weigh the same here: a weight that a site claims itself would be the first thing to lie about. n is the number
of sites, f how many of them may be bad.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hansa.algorithms.arrays import Array

Numbers = NDArray[np.float64]
_PIECE = 1 << 18
"""So many numbers: 2 MB for each site."""


# -- each number by itself ---------------------------------------------------------------------------------------------


def median(values: Array) -> Array:
    """The median over the sites, of each number; the mean of the middle two where n is even.

    Args:
        values: Of one tensor; shape (n, *shape), n >= 1.

    Returns:
        Shape `shape`, of the same dtype where that is a float.
    """
    return np.asarray(np.median(values, axis=0)).astype(_float_of(values))


def trimmed_mean(values: Array, num_bad: int) -> Array:
    """The mean over the sites, of each number, without its f largest and f smallest.

    Args:
        values: As in `median`.
        num_bad: f, below n / 2.

    Raises:
        ValueError: Nothing would be left.
    """
    check_num_bad(num_bad, len(values))
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[num_bad : len(values) - num_bad].mean(axis=0, dtype=np.float64)).astype(_float_of(values))


def check_num_bad(num_bad: int, num_sites: int) -> None:
    """Refuse what no rule can stand: half of the sites or more.

    Raises:
        ValueError: f is negative, or 2 f >= n.
    """
    if num_bad < 0 or 2 * num_bad >= num_sites:
        raise ValueError(f"{num_bad} of {num_sites} sites cannot be taken for bad: it must be less than half of them")


def _float_of(values: Array) -> np.dtype[np.floating]:
    return values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)


# -- distances ---------------------------------------------------------------------------------------------------------


def squared_distances(tensors: Iterable[Sequence[Array]], *, piece: int = _PIECE) -> Numbers:
    """How far the updates are from each other.

    Args:
        tensors: For each tensor, its arrays by site.
        piece: How many numbers of a site are looked at in one go.

    Returns:
        Squared Euclidean distances over all tensors, shape (n, n), 0 on the diagonal, symmetric.
    """
    total: Numbers | None = None
    for arrays in tensors:
        rows = [np.ravel(array) for array in arrays]
        total = np.zeros((len(rows), len(rows))) if total is None else total
        for start in range(0, max(rows[0].size, 1), piece):
            parts = [np.asarray(row[start : start + piece], np.float64) for row in rows]
            for one in range(len(parts)):
                for other in range(one):  # of the difference: nothing is cancelled as in |x|^2 - 2 x y + |y|^2
                    apart = parts[one] - parts[other]
                    total[one, other] += apart @ apart
    if total is None:
        raise ValueError("there are no tensors")
    return np.asarray(total + total.T)


def mixed_distances(distances: Numbers, mixing: Numbers) -> Numbers:
    """The squared distances of mixed updates.

    Args:
        distances: Of the updates, shape (n, n).
        mixing: Each row says of which updates one is mixed, and adds up to 1; shape (m, n).

    Returns:
        Shape (m, m).
    """
    # For weights v that add up to 0:  |sum v_i x_i|^2 = -1/2 sum v_i v_j |x_i - x_j|^2.
    inner = mixing @ distances @ mixing.T
    own = np.diag(inner)
    apart = inner - 0.5 * (own[:, None] + own[None, :])
    np.fill_diagonal(apart, 0.0)
    return np.maximum(apart, 0.0)


def distances_to_sum(distances: Numbers, weights: Numbers) -> Numbers:
    """The squared distances of the updates to a weighted sum of them.

    Args:
        distances: Shape (n, n).
        weights: Add up to 1; shape (n,).

    Returns:
        Shape (n,).
    """
    inner = distances @ weights
    return np.maximum(inner - 0.5 * weights @ inner, 0.0)


# -- whole updates -----------------------------------------------------------------------------------------------------


def krum(distances: Numbers, num_bad: int, *, num_chosen: int = 1) -> Numbers:
    """Krum: the update whose n - f - 2 nearest neighbours are nearest; multi-Krum: the mean of the best so many.

    Args:
        distances: Squared; shape (n, n).
        num_bad: f; n >= 2 f + 3 for the promise of the paper.
        num_chosen: How many updates are averaged.

    Returns:
        The weight of each update; shape (n,).

    Raises:
        ValueError: f is half of n or more, or more are to be chosen than there are.
    """
    num_sites = len(distances)
    check_num_bad(num_bad, num_sites)
    if not 1 <= num_chosen <= num_sites:
        raise ValueError(f"{num_chosen} of {num_sites} updates cannot be chosen")
    num_near = max(1, num_sites - num_bad - 2)
    ordered = np.sort(distances, axis=1)[:, 1 : 1 + num_near]  # the first is its own
    best = np.argsort(ordered.sum(axis=1), kind="stable")[:num_chosen]
    weights = np.zeros(num_sites)
    weights[best] = 1 / num_chosen
    return weights


def geometric_median(distances: Numbers, *, steps: int = 32, smallest: float = 1e-9) -> Numbers:
    """The point whose distances to all updates add up to the least, by Weiszfeld's steps, smoothed.

    Args:
        distances: Squared; shape (n, n).
        steps: At most so many; they end when nothing moves.
        smallest: Distances below this part of the largest count as this.

    Returns:
        The weight of each update; shape (n,).
    """
    num_sites = len(distances)
    weights = np.full(num_sites, 1 / num_sites)
    floor = smallest * math.sqrt(float(distances.max(initial=0.0)))
    if floor == 0:
        return weights
    for _ in range(steps):
        near = 1 / np.maximum(np.sqrt(distances_to_sum(distances, weights)), floor)
        before, weights = weights, near / near.sum()
        if np.abs(weights - before).max() < 1e-12:
            break
    return weights


def centred_clipping(distances: Numbers, centre: Numbers, *, radius: float, steps: int = 3) -> Numbers:
    """From a centre to the mean of the updates, each of which may pull only so far.

    Args:
        distances: Squared, of the updates and, last, of the point that the centre begins at; shape (n + 1, n + 1).
        centre: The weights of the first centre: those of one of the points, or of a mean; shape (n + 1,).
        radius: How far an update may pull; > 0.
        steps: How often.

    Returns:
        The weight of each update and of the last point; shape (n + 1,).
    """
    num_sites = len(distances) - 1
    weights = centre
    for _ in range(steps):
        far = np.sqrt(distances_to_sum(distances, weights)[:num_sites])
        pull = radius / np.maximum(far, radius) / num_sites
        weights = weights * (1 - pull.sum())
        weights[:num_sites] += pull
    return weights


# -- mixing ------------------------------------------------------------------------------------------------------------


def nearest_neighbours(distances: Numbers, num_bad: int) -> Numbers:
    """NNM: each update becomes the mean of its n - f nearest, itself included.

    Returns:
        Shape (n, n).

    Raises:
        ValueError: f is half of n or more.
    """
    num_sites = len(distances)
    check_num_bad(num_bad, num_sites)
    num_near = num_sites - num_bad
    mixing = np.zeros((num_sites, num_sites))
    for row, near in enumerate(np.argsort(distances, axis=1, kind="stable")[:, :num_near]):
        mixing[row, near] = 1 / num_near
    return mixing


def buckets(num_sites: int, size: int, *, seed: str) -> Numbers:
    """Bucketing: updates in a random order, and the mean of each so many.

    Args:
        num_sites: n.
        size: Of a bucket; the last may be smaller.
        seed: Any text; the same buckets for the same text.

    Returns:
        Shape (number of buckets, n).

    Raises:
        ValueError: A bucket has no room.
    """
    if size < 1:
        raise ValueError(f"a bucket must hold at least 1, not {size}")
    order = list(range(num_sites))
    draw = random.Random(seed).random  # of which alone Python promises the numbers
    for place in range(num_sites - 1):
        chosen = place + int(draw() * (num_sites - place))
        order[place], order[chosen] = order[chosen], order[place]
    rows = [order[start : start + size] for start in range(0, num_sites, size)]
    mixing = np.zeros((len(rows), num_sites))
    for row, held in enumerate(rows):
        mixing[row, held] = 1 / len(held)
    return mixing
