"""What sites answer to a `FederatedStatistics`, checked, in the order of features that the federation uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.algorithms.federated_statistics import Moments, PairSums
from hansa.algorithms.quantile_buckets import Buckets
from hansa.errors import RuleError

Data = Mapping[str, Any]  # Any: arrays and texts, as the codec carries them
Array = NDArray[Any]  # Any: whole numbers or floats


@dataclass(frozen=True)
class FirstAnswer:
    """A site's first pass over one data set.

    Attributes:
        features: The site's columns, in its order.
        rows: How many rows; 0 where they are too few to be told.
        is_empty: Whether there is none at all.
        constant: Features that are the same in all rows.
        groups: Moments and what of them is told, bool[k], by group.
        low: float64[k], NaN where nothing is told.
        high: Likewise.
    """

    features: tuple[str, ...]
    rows: int
    is_empty: bool
    constant: tuple[str, ...]
    groups: Mapping[str, tuple[Moments, NDArray[np.bool_]]]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class SecondAnswer:
    """A site's second pass over one data set, in the federation's order of features.

    Attributes:
        bins: By group int64[k, bins + 2] with what lies below and above the range; -1 where a count is not told.
        buckets: By group one for each feature.
        pairs: The sums for correlations; None where there are none.
    """

    bins: Mapping[str, Array]
    buckets: Mapping[str, Sequence[Buckets]]
    pairs: PairSums | None


def first_answer(data: Data) -> FirstAnswer:
    """A site's answer to the first task.

    Raises:
        RuleError: It is none.
    """
    try:
        features = tuple(str(name) for name in data["features"])
        size = len(features)
        groups = {}
        for key, entry in data["groups"].items():
            shown = _array(entry["shown"], (size,), np.uint8).astype(bool)
            count, missing = (_array(entry[name], (size,), np.int64) for name in ("count", "missing"))
            mean, m2 = (_array(entry[name], (size,), np.float64) for name in ("mean", "m2"))
            if (count < 0).any() or (missing < 0).any() or (m2 < 0).any() or not np.isfinite([mean, m2]).all():
                raise RuleError(f"group {key!r} has counts or moments that cannot be")
            groups[str(key)] = Moments(count, missing, mean, m2), shown
        return FirstAnswer(
            features,
            int(data["rows"]),
            bool(data["is_empty"]),
            tuple(str(name) for name in data["constant"]),
            groups,
            _array(data["low"], (size,), np.float64),
            _array(data["high"], (size,), np.float64),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RuleError(f"no statistics: {type(error).__name__} {error}") from None


def second_answer(data: Data, places: Sequence[int], *, bins: int, cells: int) -> SecondAnswer:
    """A site's answer to the second task.

    Args:
        data: The answer.
        places: For each feature of the federation its place at the site.
        bins: How many bins were asked for.
        cells: How many cells.

    Raises:
        RuleError: It is none.
    """
    try:
        counts, buckets = {}, {}
        for key, entry in data["groups"].items():
            counts[str(key)] = _array(entry["bins"], (len(places), bins + 2), np.int64)[list(places)]
            split = np.cumsum(_array(entry["sizes"], (len(places),), np.int64))[:-1]
            each = [np.split(_array(entry[name], None, np.int64), split) for name in ("first", "last", "count")]
            found = [Buckets(*three) for three in zip(*each, strict=True)]
            for one in found:
                if not len(one.first) == len(one.last) == len(one.count):
                    raise RuleError("buckets that do not fit together")
                if ((one.first < 0) | (one.first > one.last) | (one.last >= cells) | (one.count < 0)).any():
                    raise RuleError("buckets outside the range")
            buckets[str(key)] = [found[place] for place in places]
        pairs = data.get("pairs")
        if pairs is not None:
            size, order = (len(places), len(places)), np.ix_(list(places), list(places))
            kinds = (("count", np.int64), *((name, np.float64) for name in ("product", "single", "square")))
            pairs = PairSums(*(_array(pairs[name], size, kind)[order] for name, kind in kinds))
        return SecondAnswer(counts, buckets, pairs)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RuleError(f"no statistics: {type(error).__name__} {error}") from None


def _array(value: object, shape: tuple[int, ...] | None, kind: type) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or (shape is not None and array.shape != shape):
        raise RuleError(f"an array of {array.dtype} and shape {array.shape} where {shape} was asked for")
    return array.astype(kind)
