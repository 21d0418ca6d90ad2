"""Parts that make one update of many; most of them over the weighted mean of `hansa.algorithms`.

- `intime_accumulate_model_aggregator`: the mean weighted by steps and client weight; the usual choice
- `accumulate_model_aggregator`: the same sum divided by the steps alone, as FLARE defines it under this name
- `mean_aggregator`: what the two have in common
- `source_fold`: their side near the sites, where results are folded before they travel
- `dxo_aggregator`: the same for one DXO, for aggregators of one's own
- `weighted_aggregation_helper`: the same for plain dicts
- `merging_aggregator`: for what is no mean: keeps the results of a round and merges them in the order of the sites
- `tree_bagging`, `pooled_statistics`, `k_means`: trees, sufficient statistics and centres, merged
"""

from __future__ import annotations

from hansa.components.aggregators.accumulate_model_aggregator import AccumulateWeightedAggregator
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator

__all__ = ["AccumulateWeightedAggregator", "InTimeAccumulateWeightedAggregator"]
