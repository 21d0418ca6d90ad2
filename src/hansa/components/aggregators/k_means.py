"""The centres of all sites' rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from hansa.algorithms.k_means import merged_centers, start_centers
from hansa.components.aggregators.merging_aggregator import MergingAggregator, Share, Values, check_shapes
from hansa.errors import RuleError

CENTERS, COUNTS = "centers", "counts"


@final
class KMeansAggregator(MergingAggregator):
    """Joins centres (float[k, f]) by their counts (float[k]): with one step of Lloyd's at each site it is one overall.

    While the model's counts are all 0 there are no centres yet: then those that come are chosen among.
    """

    def check(self, values: Values, model: Values) -> None:
        """See `MergingAggregator`."""
        if set(values) != {CENTERS, COUNTS}:
            raise RuleError(f"expected {CENTERS} and {COUNTS}, but got {sorted(values)[:5]}")
        check_shapes(values, model)
        if np.min(values[COUNTS], initial=0.0) < 0:
            raise RuleError(f"tensor '{COUNTS}' has a number below 0")

    def merge(self, shares: Sequence[Share], model: Values) -> dict[str, Any]:  # Any: arrays
        """See `MergingAggregator`."""
        centers = np.stack([np.asarray(share.values[CENTERS], np.float64) for share in shares])
        counts = np.stack([np.asarray(share.values[COUNTS], np.float64) for share in shares])
        before = np.asarray(model[CENTERS], np.float64)
        if np.any(model[COUNTS]) or not counts.any():
            merged, total = merged_centers(centers, counts, before=before)
            return {CENTERS: merged, COUNTS: total}
        has_rows = counts > 0
        start = start_centers(centers[has_rows], counts[has_rows], len(before))
        # Counts tell later rounds that there is a start; how many rows are nearest to which centre is not known yet.
        return {CENTERS: start, COUNTS: np.full(len(before), counts.sum() / len(before))}
