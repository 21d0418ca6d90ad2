"""Dividing one data set over sites the way real sites are unlike.

Every function gives a partition: for each site the indices of its examples, sorted, and every example at exactly one
site. The same arguments give the same partition. A split that cannot be made is a ValueError that says why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[Any]  # Any: whole numbers or texts
Parts = list[NDArray[np.int64]]

_MAX_DRAWS = 1000


def iid(num_examples: int, num_sites: int, *, seed: int) -> Parts:
    """Equal sites: the examples are shuffled and dealt out; sizes differ by at most one.

    Args:
        num_examples: How many examples there are.
        num_sites: How many sites, from 1 to `num_examples`.
        seed: Of the shuffle.

    Raises:
        ValueError: An argument is out of range.
    """
    _check_sites(num_examples, num_sites, min_size=1)
    order = np.random.default_rng(seed).permutation(num_examples)
    return [np.sort(part) for part in np.array_split(order, num_sites)]


def dirichlet(
    labels: Labels, num_sites: int, *, alpha: float, seed: int, min_size: int = 10, balanced: bool = False
) -> Parts:
    """Give each site its own mixture of labels: for each label the sites' shares come from Dir(alpha).

    Small `alpha` gives sites that know few labels; large `alpha` gives equal sites. Drawn again until every site has
    `min_size` examples. Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", 2019,
    arXiv:1905.12022; Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019, arXiv:1909.06335.
    With `balanced`, as FedMA and FLARE's CIFAR-10 example divide: Wang et al., "Federated Learning with Matched
    Averaging", 2020, arXiv:2002.06440.

    Args:
        labels: One label per example, shape (n,).
        num_sites: How many sites, >= 1.
        alpha: Concentration, > 0.
        seed: Of the draw.
        min_size: The least number of examples at a site.
        balanced: Whether a site that has n / num_sites examples gets none of the labels that follow, which keeps sites
            from growing far beyond their share.

    Raises:
        ValueError: An argument is out of range, or no draw gave every site its minimum.
    """
    if num_sites < 1 or not 0 < alpha < np.inf or min_size * num_sites > len(labels):
        raise ValueError(
            f"cannot divide {len(labels)} examples over {num_sites} sites, alpha {alpha}, at least {min_size} each"
        )
    rng = np.random.default_rng(seed)
    by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    fair = len(labels) / num_sites if balanced else np.inf
    for _ in range(_MAX_DRAWS):
        shares = _draw(rng, by_label, num_sites, alpha=alpha, full_at=fair)
        if min(len(share) for share in shares) >= min_size:
            return shares
    raise ValueError(
        f"no draw in {_MAX_DRAWS} gave each of {num_sites} sites {min_size} examples; raise alpha ({alpha})"
    )


def _draw(rng: np.random.Generator, by_label: Parts, num_sites: int, *, alpha: float, full_at: float) -> Parts:
    pieces: list[Parts] = [[] for _ in range(num_sites)]
    sizes = np.zeros(num_sites, np.int64)
    for indices in by_label:
        shares = rng.dirichlet(np.full(num_sites, alpha))
        until = np.cumsum(shares)
        if (full := sizes >= full_at).any():
            shares[full] = 0.0
            if not shares.any():  # a small alpha gave the others less than a float can hold
                shares[~full] = 1.0
            until = np.cumsum(shares)
            until /= until[-1]  # to the last bit, or the last site would get what rounding leaves over
        shuffled = rng.permutation(indices)
        for site, piece in enumerate(np.split(shuffled, (until[:-1] * len(indices)).astype(int))):
            pieces[site].append(piece)
            sizes[site] += len(piece)
    return [np.sort(np.concatenate(site_pieces)) for site_pieces in pieces]


def shards(labels: Labels, num_sites: int, *, per_site: int = 2, seed: int) -> Parts:
    """Sites that know about `per_site` labels: the examples, sorted by label, are cut into equal shards and dealt out.

    Which examples of a label lie in which of its shards is drawn, too. McMahan et al., "Communication-Efficient
    Learning of Deep Networks from Decentralized Data", 2017, arXiv:1602.05629, with 2 shards for each of 100 sites.

    Args:
        labels: One label per example, shape (n,).
        num_sites: How many sites, >= 1.
        per_site: How many shards a site gets, >= 1. A shard has n / (num_sites · per_site) examples, rounded down or
            up.
        seed: Of the draw.

    Raises:
        ValueError: An argument is out of range, or there are more shards than examples.
    """
    _check_sites(len(labels), num_sites, min_size=1)
    num_shards = num_sites * per_site
    if not 1 <= num_shards <= len(labels):
        raise ValueError(f"cannot cut {len(labels)} examples into {num_sites} x {per_site} shards")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(by_label, num_shards)
    dealt = rng.permutation(num_shards).reshape(num_sites, per_site)
    return [np.sort(np.concatenate([pieces[number] for number in mine])) for mine in dealt]


def quantity_skew(num_examples: int, num_sites: int, *, alpha: float, seed: int, min_size: int = 10) -> Parts:
    """Large and small sites with the same mixture of labels: the sites' shares of all examples come from Dir(alpha).

    Drawn again until every site has `min_size` examples. Li et al., "Federated Learning on Non-IID Data Silos: An
    Experimental Study", 2022, arXiv:2102.02079.

    Args:
        num_examples: How many examples there are.
        num_sites: How many sites, >= 1.
        alpha: Concentration, > 0; small: very unequal sites.
        seed: Of the draw.
        min_size: The least number of examples at a site.

    Raises:
        ValueError: An argument is out of range, or no draw gave every site its minimum.
    """
    _check_sites(num_examples, num_sites, min_size=min_size)
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha must be a number above 0, not {alpha}")
    rng = np.random.default_rng(seed)
    for _ in range(_MAX_DRAWS):
        cuts = (np.cumsum(rng.dirichlet(np.full(num_sites, alpha)))[:-1] * num_examples).astype(int)
        if np.diff(cuts, prepend=0, append=num_examples).min() >= min_size:
            return [np.sort(part) for part in np.split(rng.permutation(num_examples), cuts)]
    raise ValueError(
        f"no draw in {_MAX_DRAWS} gave each of {num_sites} sites {min_size} examples; raise alpha ({alpha})"
    )


def by_key(keys: Labels, num_sites: int | None = None, *, seed: int = 0) -> Parts:
    """Sites as the data have them: one per hospital, well, device, author, or several of these together.

    Args:
        keys: What each example belongs to, shape (n,): whole numbers or texts.
        num_sites: None: a site per key, in the order of the sorted keys. Else so many sites, among which the keys are
            dealt out whole, in an order that is drawn; the numbers of keys differ by at most one.
        seed: Of the draw; without `num_sites` nothing is drawn.

    Raises:
        ValueError: There are fewer keys than sites, or no example at all.
    """
    if not len(keys):
        raise ValueError("cannot divide 0 examples by their keys")
    found, number_of = np.unique(keys, return_inverse=True)
    if num_sites is None:
        return [np.flatnonzero(number_of == number) for number in range(len(found))]
    if not 1 <= num_sites <= len(found):
        raise ValueError(f"cannot divide {len(found)} keys over {num_sites} sites")
    order = np.random.default_rng(seed).permutation(len(found))
    return [np.flatnonzero(np.isin(number_of, mine)) for mine in np.array_split(order, num_sites)]


def label_counts(parts: Parts, labels: Labels) -> NDArray[np.int64]:
    """How many examples of each label each site has.

    Args:
        parts: The indices of each site's examples.
        labels: One label per example, shape (n,).

    Returns:
        Shape (sites, labels): a row per site, a column per label in sorted order.
    """
    found, number_of = np.unique(labels, return_inverse=True)
    return np.array([np.bincount(number_of[part], minlength=len(found)) for part in parts], dtype=np.int64)


def describe(parts: Parts, labels: Labels) -> str:
    """The table of `label_counts` for people to read: a line per site, with its sum; the last line is all sites.

    Args:
        parts: The indices of each site's examples.
        labels: One label per example, shape (n,).
    """
    counts = label_counts(parts, labels)
    head = ["site", *(str(label) for label in np.unique(labels)), "all"]
    rows = [[f"site-{n + 1}", *(str(count) for count in row), str(row.sum())] for n, row in enumerate(counts)]
    foot = ["all", *(str(count) for count in counts.sum(axis=0)), str(counts.sum())]
    table = [head, *rows, foot]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join(lines)


def _check_sites(num_examples: int, num_sites: int, *, min_size: int) -> None:
    if num_sites < 1 or min_size * num_sites > num_examples:
        raise ValueError(f"cannot divide {num_examples} examples over {num_sites} sites, at least {min_size} each")
