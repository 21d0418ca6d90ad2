"""The trees that sites have grown side by side in a round, as one piece of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from hansa.algorithms.boosted_trees import (
    START,
    bagged,
    check_alike,
    dumped,
    is_piece,
    next_piece,
    read_trees,
    to_tensor,
)
from hansa.components.aggregators.merging_aggregator import MergingAggregator, Share, Values
from hansa.errors import RuleError


@final
class TreeBaggingAggregator(MergingAggregator):
    """Joins the new trees of all sites; what they add together is the mean of what each would add.

    A result is one tensor `trees.NNNNNN` of bytes, XGBoost's JSON of the new trees alone; the site's steps (rows, as a
    rule) are its weight. The round's update is one tensor of that name, to be kept beside those of the rounds before.
    See `hansa.algorithms.boosted_trees`.
    """

    def check(self, values: Values, model: Values) -> None:
        """See `MergingAggregator`."""
        expected = next_piece(model)
        if list(values) != [expected]:
            raise RuleError(f"expected the new trees as '{expected}', but got {sorted(values)[:3]}")
        document = read_trees(values[expected], name=expected)
        if START in model:
            check_alike(document, read_trees(model[START], name=START))

    def merge(self, shares: Sequence[Share], model: Values) -> dict[str, Any]:  # Any: arrays
        """See `MergingAggregator`."""
        documents = [read_trees(value, name=name) for share in shares for name, value in share.values.items()]
        together = bagged(documents, [share.weight for share in shares])
        return {next(name for name in shares[0].values if is_piece(name)): to_tensor(dumped(together))}
