"""The sum of the sites' weighted updates, divided by their steps."""

from __future__ import annotations

from typing import final

from hansa.algorithms.checks import MAX_WEIGHT, Names
from hansa.apis.dxo import DataKind
from hansa.components.aggregators.mean_aggregator import ExcludeVars, Kinds, MeanAggregator, Weights


@final
class AccumulateWeightedAggregator(MeanAggregator):
    """sum(value · steps · client weight) / sum(steps) per variable, which is a mean only if all client weights are 1.

    FLARE defines it so under this name, and published results rest on it; a warning says once that a weight differs
    from 1. For a mean take `InTimeAccumulateWeightedAggregator`, whose arguments these are.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        exclude_vars: ExcludeVars = None,
        aggregation_weights: Weights = None,
        expected_data_kind: Kinds = DataKind.WEIGHT_DIFF,
        *,
        max_weight: float = MAX_WEIGHT,
        names: Names = "any",
    ) -> None:
        super().__init__(
            exclude_vars,
            aggregation_weights,
            expected_data_kind,
            max_weight=max_weight,
            divide_by_steps=True,
            names=names,
        )
