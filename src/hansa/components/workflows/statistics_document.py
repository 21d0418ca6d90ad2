"""From the sites' answers to the statistics of the federation, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.algorithms.federated_statistics import Moments, correlation, merge_all
from hansa.algorithms.quantile_buckets import Buckets, quantiles
from hansa.components.statistics_words import ALL, cells_for
from hansa.components.workflows.statistics_answers import FirstAnswer, SecondAnswer
from hansa.errors import ConfigError

Json = dict[str, Any]  # Any: JSON
Ranges = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Wanted:
    """What the user wants to know.

    Attributes:
        bins: Bins of a histogram.
        levels: Of quantiles.
        ranges: Features whose range is known beforehand: lowest and highest value.
        correlation: Whether correlations are wanted.
        min_count: The floor that is asked for; a site may have a higher one.
    """

    bins: int = 20
    levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    ranges: Ranges = field(default_factory=dict)
    correlation: bool = True
    min_count: int = 10


class DatasetStatistics:
    """The statistics of one data set; sites are taken by code point of their names.

    Args:
        name: The data set's.
        firsts: The sites' answers to the first task.
        wanted: What the user wants.

    Raises:
        ConfigError: Columns differ by site.
    """

    def __init__(self, name: str, firsts: Mapping[str, FirstAnswer], *, wanted: Wanted) -> None:
        self.name = name
        self._wanted = wanted
        self._firsts = {site: firsts[site] for site in sorted(firsts)}
        named = {site: first for site, first in self._firsts.items() if first.features}
        self.features = next(iter(named.values())).features if named else ()
        _check_columns(name, {site: first.features for site, first in named.items()})
        self._firsts_named = named
        self.places = {site: [first.features.index(f) for f in self.features] for site, first in named.items()}
        self.labels = sorted({key for first in named.values() for key in first.groups} - {ALL})
        self.moments = {key: self._merged(key) for key in (ALL, *self.labels)}
        self.low, self.high = self._ranges()

    def request(self) -> Json:
        """What the second task says of this data set."""
        whole = self.moments[ALL]
        return {
            "features": list(self.features),
            "low": self.low,
            "high": self.high,
            "mean": whole.mean,
            "sd": np.nan_to_num(whole.sd),
        }

    def notes(self) -> list[str]:
        """What a reader should know about single sites, one line each."""
        found = []
        for site, first in self._firsts.items():
            if first.is_empty:
                found.append(f"{site}: data set '{self.name}' has no rows")
                continue
            if ALL not in first.groups:
                found.append(f"{site}: data set '{self.name}' has fewer rows than the site's floor and is left out")
                continue
            _, shown = first.groups[ALL]
            hidden = [first.features[i] for i in np.flatnonzero(~shown)]
            if hidden:
                found.append(f"{site}: too few values of {_listed(hidden)} in '{self.name}', left out there")
            if first.constant:
                found.append(f"{site}: {_listed(first.constant)} in '{self.name}' is the same in all rows")
            own = sorted(set(first.groups) - {ALL})
            if self.labels and len(own) < 2:
                said = f"only the class '{own[0]}'" if own else "no class"
                found.append(f"{site}: '{self.name}' has {said} above the site's floor")
        return found

    def document(self, seconds: Mapping[str, SecondAnswer]) -> Json:
        """All of it as plain data."""
        seconds = {site: seconds[site] for site in sorted(seconds)}
        groups = {key: self._group(key, seconds) for key in (ALL, *self.labels)}
        document: Json = {
            "rows": sum(first.rows for first in self._firsts.values()),
            "rows_by_site": {site: first.rows for site, first in self._firsts.items()},
            "features": groups[ALL],
            "by_label": {label: groups[label] for label in self.labels},
        }
        parts = [second.pairs for second in seconds.values() if second.pairs is not None]
        if parts:
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            matrix = correlation(total)
            document["correlation"] = {
                "features": list(self.features),
                "matrix": [[_number(value) for value in row] for row in matrix],
                "rows": total.count.tolist(),
            }
        return document

    def _group(self, key: str, seconds: Mapping[str, SecondAnswer]) -> Json:
        merged, sd = self.moments[key], self.moments[key].sd
        entries = {}
        for index, feature in enumerate(self.features):
            entry: Json = {
                "count": int(merged.count[index]),
                "missing": int(merged.missing[index]),
                "mean": _number(merged.mean[index]) if merged.count[index] else None,
                "sd": _number(sd[index]),
            }
            if key == ALL and merged.count[index]:
                entry.update(min=_number(self.low[index]), max=_number(self.high[index]))
            entry["by_site"] = self._by_site(key, index)
            entry.update(self._cells(key, index, seconds))
            entries[feature] = entry
        return entries

    def _by_site(self, key: str, index: int) -> Json:
        found = {}
        for site, first in self._firsts_named.items():
            if key in first.groups and first.groups[key][1][place := self.places[site][index]]:
                moments = first.groups[key][0]
                found[site] = {
                    "count": int(moments.count[place]),
                    "missing": int(moments.missing[place]),
                    "mean": _number(moments.mean[place]),
                    "sd": _number(moments.sd[place]),
                }
        return found

    def _cells(self, key: str, index: int, seconds: Mapping[str, SecondAnswer]) -> Json:
        rows = [second.bins[key][index] for second in seconds.values() if key in second.bins]
        rows = [row for row in rows if (row >= 0).any()]
        if not rows:
            return {}
        counts = sum(np.maximum(row, 0) for row in rows)
        hidden = sum((row < 0).astype(np.int64) for row in rows)
        low, high, bins = float(self.low[index]), float(self.high[index]), self._wanted.bins
        parts = [part for second in seconds.values() for part in self._buckets(key, index, second)]
        found = quantiles(parts, self._wanted.levels, low=low, high=high, num_cells=cells_for(bins))
        return {
            "histogram": {
                "edges": np.linspace(low, high, bins + 1).tolist(),
                "counts": counts[1:-1].tolist(),
                "below": int(counts[0]),
                "above": int(counts[-1]),
                "sites_that_hide": hidden[1:-1].tolist(),
            },
            "quantiles": {
                f"{level:g}": {name: _number(getattr(each, name)) for name in ("value", "low", "high")}
                for level, each in zip(self._wanted.levels, found, strict=True)
            },
        }

    def _buckets(self, key: str, index: int, second: SecondAnswer) -> list[Buckets]:
        """A site's buckets; of all rows those of the groups, where it has told only these."""
        if key not in second.buckets:
            return []
        own = second.buckets[key][index]
        if key == ALL and not len(own.count):
            return [second.buckets[label][index] for label in self.labels if label in second.buckets]
        return [own]

    def _merged(self, key: str) -> Moments:
        parts = []
        for site, first in self._firsts_named.items():
            if key in first.groups:
                moments, _ = first.groups[key]
                place = self.places[site]
                parts.append(Moments(*(each[place] for each in vars(moments).values())))
        return merge_all(parts, len(self.features))

    def _ranges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = np.full(len(self.features), np.inf), np.full(len(self.features), -np.inf)
        for site, first in self._firsts_named.items():
            low = np.fmin(low, first.low[self.places[site]])
            high = np.fmax(high, first.high[self.places[site]])
        for feature, (least, most) in self._wanted.ranges.items():
            if feature in self.features:
                index = self.features.index(feature)
                low[index], high[index] = least, most
        usable = np.isfinite(low) & np.isfinite(high) & (low < high)
        return np.where(usable, low, 0.0), np.where(usable, high, 1.0)


def _check_columns(name: str, columns: Mapping[str, Sequence[str]]) -> None:
    sites = list(columns)
    for site in sites[1:]:
        for has, lacks in ((sites[0], site), (site, sites[0])):
            extra = [column for column in columns[has] if column not in columns[lacks]]
            if extra:
                raise ConfigError(f"{lacks}, data set '{name}': there is no column {extra[0]!r}, which {has} has")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
