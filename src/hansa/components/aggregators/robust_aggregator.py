"""An aggregator that a few bad sites cannot lead astray."""

from __future__ import annotations

from typing import Any, Literal, final, get_args

import numpy as np

from hansa.algorithms import robust_rules as rules
from hansa.algorithms.arrays import Array, Kind, as_value, kind_of
from hansa.algorithms.checks import Names
from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.components.aggregators.dxo_aggregator import DXOAggregator, refuse
from hansa.components.aggregators.source_fold import content_of
from hansa.components.workflows.targets import seed_of
from hansa.errors import RuleError

Rule = Literal["median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centred_clipping"]
Mixing = Literal["none", "nnm", "bucketing"]
_BY_COORDINATE = ("median", "trimmed_mean")


@final
class RobustAggregator(Aggregator):
    """One of the rules of `hansa.algorithms.robust_rules` in place of the mean.

    Every result is checked as for the mean (finite, the model's shapes), and all sites weigh the same: what a site says
    of its steps counts for nothing. The results come whole and are kept until the round ends, so the server's memory
    grows with the sites of a round; the rule then works tensor by tensor. The outcome does not depend on the order in
    which results come.

    Args:
        rule: `median`, `trimmed_mean`, `krum`, `multi_krum` (the mean of the n - f best), `geometric_median` or
            `centred_clipping` (from no update at all, or the present model, three steps).
        num_bad: f, how many sites may be bad; less than half of those that count, else the round fails. None: less
            than a quarter of those that count, so 1 of 5 to 8, 2 of 9 to 12.
        mixing: What is done before: `nnm` (the mean of the nearest n - f), `bucketing`, or `none`.
        bucket_size: How many updates a bucket holds.
        radius: How far a site may pull in `centred_clipping`; None: the median of the updates' sizes.
        expected_data_kind: WEIGHTS or WEIGHT_DIFF.
        names: Which variables a result may have; here they must be the same for all.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        rule: Rule = "median",
        *,
        num_bad: int | None = None,
        mixing: Mixing = "none",
        bucket_size: int = 2,
        radius: float | None = None,
        expected_data_kind: str = DataKind.WEIGHT_DIFF,
        names: Names = "exact",
    ) -> None:
        super().__init__()
        for key, value, known in (("rule", rule, get_args(Rule)), ("mixing", mixing, get_args(Mixing))):
            if value not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, but got {value!r}")
        if num_bad is not None and (isinstance(num_bad, bool) or not isinstance(num_bad, int) or num_bad < 0):
            raise ValueError(f"num_bad must be a whole number of at least 0, but got {num_bad!r}")
        if isinstance(bucket_size, bool) or not isinstance(bucket_size, int) or bucket_size < 1:
            raise ValueError(f"bucket_size must be a whole number of at least 1, but got {bucket_size!r}")
        if radius is not None and not radius > 0:
            raise ValueError(f"radius must be above 0, but got {radius!r}")
        self._chosen: Rule = rule
        self._num_bad = num_bad
        self._mixing: Mixing = mixing
        self._bucket_size = bucket_size
        self._radius = radius
        self._checks = DXOAggregator(expected_data_kind=expected_data_kind, names=names)
        self._results: dict[str, dict[str, Array]] = {}

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Keep a site's result, or refuse it; see `MeanAggregator.accept`."""
        name = shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, "?")
        site = name if name and isinstance(name, str) else "?"
        try:
            dxo = content_of(shareable)
            contribution_round = shareable.get_header(AppConstants.CONTRIBUTION_ROUND)
            if site in self._results:
                raise RuleError(f"a second contribution to round {contribution_round}")
            self._checks.examine(dxo, fl_ctx, site=site, contribution_round=contribution_round)
            arrays = {name: np.asarray(as_value(name, value).array) for name, value in dxo.data.items()}
            first = next(iter(self._results.values()), arrays)
            if arrays.keys() != first.keys():
                raise RuleError("it has other variables than those before it, and a robust rule needs the same of all")
        except RuleError as error:
            return refuse(self, error.reason, site, fl_ctx)
        self._results[site] = arrays
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """What the rule makes of the results that count; empty data if none do. The next round begins with nothing.

        Raises:
            RuleError: Half of the results or more would be taken for bad.
        """
        results = [self._results[site] for site in sorted(self._results)]
        self._results = {}
        self._checks.reset_aggregation_helper()
        data = self._combined(results, fl_ctx) if results else {}
        return DXO(self._checks.expected_data_kind, data).to_shareable()

    def _combined(self, results: list[dict[str, Array]], fl_ctx: FLContext) -> dict[str, Array]:
        names = sorted(results[0])
        num_bad = (len(results) - 1) // 4 if self._num_bad is None else self._num_bad
        base = self._base(names, fl_ctx) if self._chosen == "centred_clipping" else None
        points = results if base is None else [*results, base]
        try:
            rules.check_num_bad(num_bad, len(results))
            mixing = self._mix(points, names, num_bad=num_bad, fl_ctx=fl_ctx)
            weights = None if self._chosen in _BY_COORDINATE else self._weights(points, names, mixing, num_bad)
        except ValueError as error:
            raise RuleError(str(error)) from error
        said = f"{self._chosen} over {len(results)} results, {num_bad} of which may be bad"
        self.log_info(fl_ctx, said if self._mixing == "none" else f"{said}, after {self._mixing}")
        combined = {}
        for name in names:
            values = np.stack(_alike([_work(point[name]) for point in points]))
            if weights is None:
                mixed = values if mixing is None else np.tensordot(mixing, values, axes=1).astype(values.dtype)
                bad = min(num_bad, (len(mixed) - 1) // 2)
                made = rules.median(mixed) if self._chosen == "median" else rules.trimmed_mean(mixed, bad)
            else:
                made = np.tensordot(weights, values, axes=1)
            combined[name] = _as(made, results[0][name].dtype)
        return combined

    def _mix(
        self, points: list[dict[str, Array]], names: list[str], *, num_bad: int, fl_ctx: FLContext
    ) -> rules.Numbers | None:
        """What each mixed point is made of; a base, where there is one, stays as it is."""
        num_results = len(points) - (self._chosen == "centred_clipping")
        if self._mixing == "none":
            return None
        if self._mixing == "nnm":
            mixing = rules.nearest_neighbours(_distances(points[:num_results], names), num_bad)
        else:
            draw = f"{self._name}/buckets/{fl_ctx.get_prop(AppConstants.CURRENT_ROUND)}"
            mixing = rules.buckets(num_results, self._bucket_size, seed=seed_of(fl_ctx.get_engine(), draw))
        if num_results == len(points):
            return mixing
        whole = np.zeros((len(mixing) + 1, len(points)))
        whole[:-1, :-1], whole[-1, -1] = mixing, 1
        return whole

    def _weights(
        self, points: list[dict[str, Array]], names: list[str], mixing: rules.Numbers | None, num_bad: int
    ) -> rules.Numbers:
        """The weight of each point in the sum."""
        far = _distances(points, names)
        far = far if mixing is None else rules.mixed_distances(far, mixing)
        num_sites = len(far) - (self._chosen == "centred_clipping")
        bad = min(num_bad, (num_sites - 1) // 2)
        if self._chosen == "geometric_median":
            weights = rules.geometric_median(far)
        elif self._chosen == "centred_clipping":
            begin = np.zeros(len(far))
            begin[-1] = 1
            radius = self._radius or max(float(np.median(np.sqrt(far[-1, :-1]))), np.finfo(np.float64).tiny)
            weights = rules.centred_clipping(far, begin, radius=radius)
        else:
            weights = rules.krum(far, bad, num_chosen=1 if self._chosen == "krum" else num_sites - bad)
        return weights if mixing is None else weights @ mixing

    def _base(self, names: list[str], fl_ctx: FLContext) -> dict[str, Array]:
        """Where clipping begins: no update, or the present model where results are whole weights."""
        if self._checks.expected_data_kind == DataKind.WEIGHT_DIFF:
            return {name: np.zeros(()) for name in names}
        model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        weights: dict[str, Any] = model[ModelLearnableKey.WEIGHTS]  # Any: arrays or numbers
        return {name: np.asarray(as_value(name, weights[name]).array) for name in names}


def _distances(points: list[dict[str, Array]], names: list[str]) -> rules.Numbers:
    return rules.squared_distances([_alike([_work(point[name]) for point in points]) for name in names])


def _alike(arrays: list[Array]) -> list[Array]:
    """The last, a base, may be one number for all."""
    return [np.broadcast_to(array, arrays[0].shape) for array in arrays]


def _work(array: Array) -> Array:
    """Numbers that NumPy's own functions take: of bfloat16 and half float32, of integers float64."""
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32 if kind_of(array.dtype) is Kind.FLOAT else np.float64)


def _as(made: Array, dtype: np.dtype[Any]) -> Array:  # Any: every dtype
    return (made if kind_of(dtype) is Kind.FLOAT else np.rint(made)).astype(dtype)
