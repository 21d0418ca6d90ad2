"""What the aggregators have in common that need the results of all sites side by side, and not their sum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hansa.algorithms.checks import check_weight
from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.components.aggregators.dxo_aggregator import refuse
from hansa.components.aggregators.source_fold import content_of
from hansa.errors import RuleError

Values = Mapping[str, Any]  # Any: arrays as a rule; what a site sent


class Share(NamedTuple):
    """What one site sent, checked."""

    site: str
    values: Values
    weight: float
    """Its steps or samples; 1.0 if it said none."""


class MergingAggregator(Aggregator):
    """Keeps what the sites send until the round ends, and merges it in the order of the sites' names.

    So the order of arrival decides nothing. For what is small beside the data: statistics, centres, trees.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shares: dict[str, Share] = {}

    @abstractmethod
    def check(self, values: Values, model: Values) -> None:
        """Look at what a site sent.

        Args:
            values: Arrays by name, without NaN or Inf.
            model: The global model's, which the site had.

        Raises:
            RuleError: Why it cannot count.
        """

    @abstractmethod
    def merge(self, shares: Sequence[Share], model: Values) -> dict[str, Any]:  # Any: arrays
        """The round's update: what the next model has in place of, or beside, the present one's.

        Args:
            shares: At least one, by the names of their sites.
            model: The global model's arrays.
        """

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Keep a site's result, or refuse it: see `MeanAggregator.accept`."""
        site = "?"
        try:
            if not isinstance(shareable, Shareable):
                raise RuleError(f"expected a Shareable, but got {type(shareable).__name__}")
            site = str(shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, site) or site)
            share = self._examine(shareable, site, fl_ctx)
        except RuleError as error:
            return refuse(self, error.reason, site, fl_ctx)
        self._shares[site] = share
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """What `merge` makes of the accepted results, as a DXO of WEIGHTS; empty if nothing was accepted."""
        shares = [self._shares[site] for site in sorted(self._shares)]
        self._shares = {}
        merged = self.merge(shares, _weights(fl_ctx)) if shares else {}
        return DXO(DataKind.WEIGHTS, merged).to_shareable()

    def _examine(self, shareable: Shareable, site: str, fl_ctx: FLContext) -> Share:
        dxo = content_of(shareable)
        if dxo.data_kind != DataKind.WEIGHTS:
            raise RuleError(f"expected data of kind {DataKind.WEIGHTS}, but got {dxo.data_kind}")
        own, current = (
            shareable.get_header(AppConstants.CONTRIBUTION_ROUND),
            fl_ctx.get_prop(AppConstants.CURRENT_ROUND),
        )
        if own != current:
            raise RuleError(f"it is for round {own}, this is round {current}")
        if site in self._shares:
            raise RuleError(f"a second contribution to round {own}")
        for name, value in dxo.data.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                raise RuleError(f"tensor '{name}' has NaN or Inf")
        steps = dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND)
        weight = 1.0 if steps is None else check_weight(steps, name=MetaKey.NUM_STEPS_CURRENT_ROUND)
        self.check(dxo.data, _weights(fl_ctx))
        return Share(site, dxo.data, weight)


def _weights(fl_ctx: FLContext) -> Values:
    model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
    weights = model.get(ModelLearnableKey.WEIGHTS) if isinstance(model, Mapping) else None
    return weights if isinstance(weights, Mapping) else {}


def check_shapes(values: Values, model: Values) -> None:
    """Refuse what has not the names and shapes of the model.

    Raises:
        RuleError: Names the tensor and both shapes.
    """
    for name, expected in model.items():
        if name not in values:
            raise RuleError(f"tensor '{name}' is missing")
        if np.shape(values[name]) != np.shape(expected):
            shape = np.shape(values[name])
            raise RuleError(f"tensor '{name}' has shape {shape}, the model has {np.shape(expected)}")
