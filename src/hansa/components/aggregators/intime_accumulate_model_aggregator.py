"""The mean of the sites' updates, weighted by steps and client weight."""

from __future__ import annotations

from typing import final

from hansa.algorithms.checks import MAX_WEIGHT, Names
from hansa.apis.dxo import DataKind
from hansa.components.aggregators.mean_aggregator import ExcludeVars, Kinds, MeanAggregator, Weights


@final
class InTimeAccumulateWeightedAggregator(MeanAggregator):
    """Federated averaging: sum(value · steps · client weight) / sum(steps · client weight) per variable.

    McMahan et al., 2017, arXiv:1602.05629. Contributions are folded as they come, in a tree over the round's targets,
    so that few models are in memory at a time and the bits do not depend on the order. See `MeanAggregator` for what a
    result is and `DXOAggregator` for what is refused.

    Args:
        exclude_vars: Regular expression; variables whose names it finds (`search`) are left out.
        aggregation_weights: Client weight by site; 1.0 for a site that is not listed.
        expected_data_kind: WEIGHTS or WEIGHT_DIFF.
        max_weight: Cap of steps and of steps times client weight; above it a contribution is refused.
        names: Which variables a result may have: `any`, as in FLARE; `subset`: at least one, and none that the model
            lacks; `exact`: those of the model.

    For a COLLECTION `expected_data_kind` is a dict by the names of its DXOs, and the first two may be such dicts.

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
            divide_by_steps=False,
            names=names,
        )
