"""Dividing one data set over sites the way real sites are unlike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_DRAWS = 1000


def dirichlet(
    labels: NDArray[np.integer], num_sites: int, *, alpha: float, seed: int, min_size: int = 10
) -> list[NDArray[np.int64]]:
    """Give each site its own mixture of labels: for each label the sites' shares come from Dir(alpha).

    Small `alpha` gives sites that know few labels; large `alpha` gives equal sites. Drawn again until every site has
    `min_size` examples. Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", 2019,
    arXiv:1905.12022; Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019, arXiv:1909.06335.

    Args:
        labels: One label per example, shape (n,).
        num_sites: How many sites, >= 1.
        alpha: Concentration, > 0.
        seed: Of the draw.
        min_size: The least number of examples at a site.

    Returns:
        For each site the indices of its examples, sorted; every example is at exactly one site.

    Raises:
        ValueError: An argument is out of range, or no draw gave every site its minimum.
    """
    if num_sites < 1 or alpha <= 0 or min_size * num_sites > len(labels):
        raise ValueError(
            f"cannot divide {len(labels)} examples over {num_sites} sites, alpha {alpha}, at least {min_size} each"
        )
    rng = np.random.default_rng(seed)
    by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(_MAX_DRAWS):
        shares = _draw(rng, by_label, num_sites, alpha)
        if min(len(share) for share in shares) >= min_size:
            return shares
    raise ValueError(
        f"no draw in {_MAX_DRAWS} gave each of {num_sites} sites {min_size} examples; raise alpha ({alpha})"
    )


def _draw(
    rng: np.random.Generator, by_label: list[NDArray[np.int64]], num_sites: int, alpha: float
) -> list[NDArray[np.int64]]:
    pieces: list[list[NDArray[np.int64]]] = [[] for _ in range(num_sites)]
    for indices in by_label:
        cuts = np.cumsum(rng.dirichlet(np.full(num_sites, alpha)))[:-1]
        shuffled = rng.permutation(indices)
        for site, piece in enumerate(np.split(shuffled, (cuts * len(indices)).astype(int))):
            pieces[site].append(piece)
    return [np.sort(np.concatenate(site_pieces)) for site_pieces in pieces]
