"""Sufficient statistics of all sites, as of all their rows together: naive Bayes in one round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from hansa.algorithms.pooled_statistics import pooled_moments
from hansa.apis.library_weights import COUNTED, GAUSSIAN
from hansa.components.aggregators.merging_aggregator import MergingAggregator, Share, Values, check_shapes
from hansa.errors import RuleError


@final
class PooledStatisticsAggregator(MergingAggregator):
    """Joins counts by class with means and variances by class (`theta_`, `var_`), or with sums (`feature_count_`).

    The names are scikit-learn's of GaussianNB, and of MultinomialNB and BernoulliNB; `var_` is without smoothing. A
    site that has no rows, or none of a class, adds nothing to it.
    """

    def check(self, values: Values, model: Values) -> None:
        """See `MergingAggregator`."""
        if not any(set(values) == set(names) for names in (GAUSSIAN, COUNTED)):
            raise RuleError(f"expected {', '.join(GAUSSIAN)}, or {', '.join(COUNTED)}, but got {sorted(values)[:5]}")
        check_shapes(values, model)
        for name in set(values) - {"theta_"}:
            if np.min(values[name], initial=0.0) < 0:
                raise RuleError(f"tensor '{name}' has a number below 0")

    def merge(self, shares: Sequence[Share], model: Values) -> dict[str, Any]:  # Any: arrays
        """See `MergingAggregator`."""
        stacked = {name: np.stack([share.values[name] for share in shares]) for name in shares[0].values}
        if set(stacked) == set(COUNTED):
            return {name: values.sum(0, dtype=np.float64) for name, values in stacked.items()}
        return dict(zip(GAUSSIAN, pooled_moments(*(stacked[name] for name in GAUSSIAN)), strict=True))
