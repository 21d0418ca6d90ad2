"""The two passes of a site over one table, by group of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.algorithms.cell_suppression import hidden_cells
from hansa.algorithms.federated_statistics import CellPass, Grid, MomentPass, PairPass, PairSums
from hansa.algorithms.quantile_buckets import Buckets
from hansa.components.executors.statistics_policy import Draws, StatisticsPolicy
from hansa.components.statistics_tables import Table
from hansa.components.statistics_words import ALL

Answer = dict[str, Any]  # Any: arrays and texts, as the codec carries them
Groups = list[tuple[str, int | None]]
Take = Callable[[NDArray[np.float64]], None]
_FINE = 512
"""About how many buckets a feature gets at most."""


@dataclass(frozen=True)
class Agreed:
    """What the second pass counts over, the same at all sites.

    Attributes:
        grid: The cells.
        bins: How many bins the cells make.
        mean: float64[k].
        sd: float64[k].
        wants_pairs: Whether correlations are wanted.
    """

    grid: Grid
    bins: int
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    wants_pairs: bool


@dataclass(frozen=True)
class First:
    """What the site itself keeps of its first pass.

    Attributes:
        shown: For each group that is told: which features are, bool[k].
        low: The true lowest values, float64[k].
        high: The highest.
    """

    shown: Mapping[str, NDArray[np.bool_]]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def first_pass(table: Table, policy: StatisticsPolicy, *, floor: int, draws: Draws) -> tuple[First, Answer]:
    """Moments by group, and the range of each feature with noise; what is under the floor stays here.

    Args:
        table: The site's.
        policy: Its rules.
        floor: The least number of subjects.
        draws: Where the noise comes from.
    """
    least = floor * table.rows_per_subject
    groups = _groups(table)
    passes = {key: MomentPass(len(table.features)) for key, _ in groups}
    _run(table, groups, {key: [one.take] for key, one in passes.items()})
    shown = _shown(table, passes, least)
    told: Answer = {}
    for key, mask in shown.items():
        one = passes[key].moments
        told[key] = {
            "shown": mask.astype(np.uint8),
            "count": np.where(mask, one.count, 0),
            "missing": np.where(mask, one.missing, 0),
            "mean": np.where(mask, one.mean, 0.0),
            "m2": np.where(mask, one.m2, 0.0),
        }
    whole = passes[ALL]
    low, high = np.full(len(table.features), np.nan), np.full(len(table.features), np.nan)
    for index in np.flatnonzero(shown.get(ALL, np.zeros(len(table.features), bool))):
        low[index], high[index] = policy.widened(float(whole.low[index]), float(whole.high[index]), draws=draws)
    answer = {
        "features": list(table.features),
        "rows": table.num_rows if table.num_rows >= least else 0,
        "is_empty": table.num_rows == 0,
        "labels": [key for key in shown if key != ALL],
        "groups": told,
        "low": low,
        "high": high,
    }
    flat = shown.get(ALL, np.zeros(len(table.features), bool)) & (whole.low == whole.high)
    answer["constant"] = [table.features[index] for index in np.flatnonzero(flat)]
    return First(shown, whole.low, whole.high), answer


def second_pass(table: Table, first: First, agreed: Agreed, *, floor: int) -> Answer:
    """Histograms, buckets for quantiles, and the sums of pairs; what is under the floor stays here.

    Args:
        table: The site's.
        first: What it keeps of its first pass.
        agreed: What is counted over.
        floor: The least number of subjects.
    """
    least = floor * table.rows_per_subject
    groups = [(key, code) for key, code in _groups(table) if key in first.shown]
    exceeds = (first.low < agreed.grid.low) | (first.high > agreed.grid.high)
    cells = {key: CellPass(agreed.grid, exceeds) for key, _ in groups}
    pairs = PairPass(agreed.mean, agreed.sd) if agreed.wants_pairs else None
    takes: dict[str, list[Take]] = {key: [one.take] for key, one in cells.items()}
    if pairs is not None and ALL in takes:
        takes[ALL].append(pairs.take)

    _run(table, groups, takes)
    told: Answer = {key: {"bins": [], "buckets": []} for key, _ in groups}
    for index in range(len(table.features)):
        for key, entry in _of_feature(index, cells, first, bins=agreed.bins, least=least).items():
            told[key]["bins"].append(entry[0])
            told[key]["buckets"].append(entry[1])
    answer: Answer = {"groups": {key: _packed(entry) for key, entry in told.items()}}
    if pairs is not None and ALL in first.shown:
        answer["pairs"] = _told_pairs(pairs.sums, first.shown[ALL], least)
    return answer


def _told_pairs(sums: PairSums, seen: NDArray[np.bool_], least: int) -> Answer:
    """The sums of pairs, without those that would tell of a few rows.

    A feature's sum over all its rows minus that over the rows that have another one, too, is the sum over those that
    lack it. Where these are fewer than the floor, the former stands for the latter.
    """
    mask = (sums.count >= least) & seen[:, None] & seen[None]
    lacking = np.diag(sums.count)[:, None] - sums.count
    is_few = (lacking > 0) & (lacking < least)
    told: Answer = {"count": np.where(mask, sums.count, 0), "product": np.where(mask, sums.product, 0.0)}
    for name in ("single", "square"):
        values: NDArray[np.float64] = getattr(sums, name)
        told[name] = np.where(mask, np.where(is_few, np.diag(values)[:, None], values), 0.0)
    return told


def _groups(table: Table) -> Groups:
    return [(ALL, None), *((label, code) for code, label in enumerate(table.labels))]


def _run(table: Table, groups: Groups, takes: Mapping[str, Sequence[Take]]) -> None:
    for block, codes in table.blocks():
        for key, code in groups:
            own = block if code is None or codes is None else np.ascontiguousarray(block[:, codes == code])
            for take in takes[key]:
                take(own)


def _shown(table: Table, passes: Mapping[str, MomentPass], least: int) -> dict[str, NDArray[np.bool_]]:
    """Which features of which groups are told."""
    whole = passes[ALL].moments.count
    if table.num_rows < least:
        return {}
    shown = {ALL: whole >= least}
    labels = [key for key in passes if key != ALL]
    if not labels or table.codes is None:
        return shown
    sizes = np.bincount(table.codes + 1, minlength=len(labels) + 1)
    never = np.arange(len(sizes)) == 0  # the rows without a label are not told
    is_out = hidden_cells(sizes[:, None], least, hidden=never[:, None])[1:, 0]
    counts = np.stack([passes[key].moments.count for key in labels])
    counts = np.vstack([whole - counts.sum(axis=0), counts])
    never_here = np.concatenate(([True], is_out))[:, None] | ~shown[ALL][None]
    hidden = np.stack(
        [
            hidden_cells(counts[:, [index]], least, hidden=never_here[:, [index]])[:, 0]
            for index in range(len(table.features))
        ],
        axis=1,
    )
    for place, key in enumerate(labels):
        mask = ~hidden[place + 1] & (counts[place + 1] >= least)
        if not is_out[place] and sizes[place + 1] >= least and mask.any():
            shown[key] = mask
    return shown


def _of_feature(
    index: int, cells: Mapping[str, CellPass], first: First, *, bins: int, least: int
) -> dict[str, tuple[NDArray[np.int64], Buckets]]:
    """For each group the counts of a feature, -1 for those that are hidden (below, bins, above), and its buckets."""
    tables = {key: _binned(one, index, bins) for key, one in cells.items() if first.shown[key][index]}
    nothing = np.full(bins + 2, -1), Buckets(*(np.empty(0, np.int64),) * 3)
    found = dict.fromkeys(cells, nothing)
    if ALL not in tables:
        return found
    labels = [key for key in tables if key != ALL]
    whole = tables[ALL]
    [is_out] = hidden_cells(whole[None], least)
    rest = whole - sum((tables[key] for key in labels), np.zeros_like(whole))
    stacked = np.stack([rest, *(tables[key] for key in labels)])
    never = np.vstack([np.ones_like(is_out), *([is_out] * len(labels))])
    hidden = hidden_cells(stacked, least, hidden=never) if labels else never
    # Where-abouts within a bin are told of all rows or of each group, never of both: differences might be small. Of the
    # groups only where these are everything and hide no more bins; then theirs stand for all rows, too.
    by_group = bool(labels) and not rest.any() and not (hidden[1:] & ~is_out).any()
    for key, mask in [(ALL, is_out), *zip(labels, hidden[1:], strict=True)]:
        counts = tables[key]
        own = least if (key != ALL) == by_group else int(counts.sum()) + 1
        spread = max(own, int(counts.sum()) // _FINE)
        if key == ALL and by_group:
            buckets = nothing[1]
        else:
            buckets = _buckets(cells[key].cells[index], counts, mask, least=spread)
        found[key] = np.where(mask, -1, counts), buckets
    return found


def _binned(one: CellPass, index: int, bins: int) -> NDArray[np.int64]:
    inner = one.cells[index].reshape(bins, -1).sum(axis=1)
    return np.concatenate(([one.under[index]], inner, [one.over[index]]))


def _buckets(cells: NDArray[np.int64], counts: NDArray[np.int64], hidden: NDArray[np.bool_], *, least: int) -> Buckets:
    """Buckets of what lies inside the range; what lies outside stands at its end."""
    inner, size = counts[1:-1].copy(), len(cells) // (len(counts) - 2)
    cells, mask = cells.copy(), hidden[1:-1].copy()
    for outside, at, cell in ((0, 0, 0), (-1, -1, -1)):
        if counts[outside]:
            cells[cell] += counts[outside]
            inner[at] += counts[outside]
            mask[at] |= hidden[outside]
    assert size * len(inner) == len(cells)
    return Buckets.of(cells, bins=inner, hidden=mask, least=least)


def _packed(entry: Mapping[str, Sequence[Any]]) -> Answer:
    each: Sequence[Buckets] = entry["buckets"]
    return {
        "bins": np.stack(entry["bins"]) if entry["bins"] else np.empty((0, 0), np.int64),
        "sizes": np.array([len(one.count) for one in each], np.int64),
        "first": _joined([one.first for one in each]),
        "last": _joined([one.last for one in each]),
        "count": _joined([one.count for one in each]),
    }


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)
