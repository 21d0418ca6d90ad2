"""What the two mean aggregators have in common: reading results, collections, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hansa.algorithms.checks import Names
from hansa.apis.aggregator import Aggregator, RuleSpec
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind
from hansa.apis.engine import RoundKey
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import Allocate, FoldedPart, FoldPlan
from hansa.apis.shareable import Shareable
from hansa.components.aggregators.dxo_aggregator import Contribution, DXOAggregator, refuse
from hansa.components.aggregators.source_fold import MeanSourceFold, content_of, described, opened
from hansa.errors import RuleError

_SINGLE = ""  # the key of a result that is one DXO and no COLLECTION

ExcludeVars = str | Mapping[str, str | None] | None
Weights = Mapping[str, float] | Mapping[str, Mapping[str, float] | None] | None
Kinds = str | Mapping[str, str]


class MeanAggregator(Aggregator):
    """A `DXOAggregator` for each DXO of a result.

    Each result is one DXO, or a COLLECTION of them where `expected_data_kind` is a dict; DXOs of a COLLECTION that the
    dict does not name are ignored, all that it names must be there, and if one of them is refused none counts.

    Args:
        exclude_vars: See `DXOAggregator`; for a COLLECTION also one per name.
        aggregation_weights: Likewise.
        expected_data_kind: Likewise.
        max_weight: See `DXOAggregator`.
        divide_by_steps: Likewise.
        names: Likewise.

    Raises:
        ValueError: An argument is out of range, or does not fit the names in `expected_data_kind`.
    """

    def __init__(
        self,
        exclude_vars: ExcludeVars,
        aggregation_weights: Weights,
        expected_data_kind: Kinds,
        *,
        max_weight: float,
        divide_by_steps: bool,
        names: Names,
    ) -> None:
        super().__init__()
        self._args: dict[str, Any] = {  # Any: plain JSON
            "exclude_vars": exclude_vars,
            "aggregation_weights": aggregation_weights,
            "expected_data_kind": expected_data_kind,
            "max_weight": max_weight,
            "names": names,
        }
        kinds = dict(expected_data_kind) if isinstance(expected_data_kind, Mapping) else {_SINGLE: expected_data_kind}
        if not kinds:
            raise ValueError("expected_data_kind names no DXO")
        self.expected_data_kind = kinds
        self.exclude_vars = _excludes_by_key(exclude_vars, kinds)
        self.aggregation_weights = _weights_by_key(aggregation_weights, kinds)
        self._divide_by_steps = divide_by_steps
        self.dxo_aggregators = {key: self._new_part(key) for key in kinds}

    def _new_part(self, key: str) -> DXOAggregator:
        return DXOAggregator(
            exclude_vars=self.exclude_vars[key],
            aggregation_weights=self.aggregation_weights[key],
            expected_data_kind=self.expected_data_kind[key],
            name_postfix=key,
            max_weight=self._args["max_weight"],
            divide_by_steps=self._divide_by_steps,
            names=self._args["names"],
        )

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Count a site's result, or refuse it.

        Args:
            shareable: A DXO whose header CONTRIBUTION_ROUND says for which round it is and whose PEER_PROPS name the
                site ("?" if they do not). Its arrays are only read, and not kept.
                With the header `RoundKey.FOLDED` it is only written down, as its numbers are in a `FoldedPart`.
            fl_ctx: CURRENT_ROUND is the present round, GLOBAL_MODEL the model that it must fit, if there.

        Returns:
            True if it counts; else False, with one warning in the log and the reason under `RoundKey.REFUSAL`.
        """
        site = "?"
        try:
            if not isinstance(shareable, Shareable):
                raise RuleError(f"expected a Shareable, but got {type(shareable).__name__}")
            name = shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, site)
            site = name if name and isinstance(name, str) else site
            contributions = self._examine(shareable, site, fl_ctx)
        except RuleError as error:
            return refuse(self, error.reason, site, fl_ctx)
        for aggregator, contribution in contributions:
            aggregator.count(contribution, fl_ctx)
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """The mean of the accepted results as a DXO of the expected kind, or a COLLECTION of such.

        Its data is empty if nothing was accepted. The next round begins with nothing.
        """
        means = {key: aggregator.aggregate(fl_ctx) for key, aggregator in self.dxo_aggregators.items()}
        if _SINGLE in means:
            return means[_SINGLE].to_shareable()
        return DXO(data_kind=DataKind.COLLECTION, data=means).to_shareable()

    def rule(self) -> RuleSpec:
        """This class and its arguments."""
        return RuleSpec(f"{type(self).__module__}.{type(self).__qualname__}", self._args)

    # -- folding at the source: see hansa.apis.folding ----------------------------------------------------------------

    def fold_plan(self, fl_ctx: FLContext) -> FoldPlan | None:
        """The plan of the context's round, if all of its targets and the model's tensors are known.

        None for a COLLECTION, too: nothing tells beforehand what its other DXOs must look like.
        """
        single = self.dxo_aggregators.get(_SINGLE)
        targets = fl_ctx.get_prop(RoundKey.TARGETS)
        number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if single is None or not targets or type(number) is not int:
            return None
        model = described(single.expected(fl_ctx))
        return FoldPlan(self.rule(), number, sorted(set(targets)), model) if model else None

    def source_fold(self, plan: FoldPlan, held: Sequence[str], *, allocate: Allocate) -> MeanSourceFold:
        """A fold near the sites; it shares nothing with this aggregator."""
        return MeanSourceFold(self._new_part(_SINGLE), plan, held=held, allocate=allocate)

    def accept_part(self, part: FoldedPart, fl_ctx: FLContext) -> None:
        """Take over a node that a `MeanSourceFold` completed.

        Raises:
            RuleError: See `FoldsAtSource.accept_part`.
        """
        single = self.dxo_aggregators.get(_SINGLE)
        if single is None:
            raise RuleError("sums of a COLLECTION cannot be taken over")
        single.count_node(opened(part, single, round_number=fl_ctx.get_prop(AppConstants.CURRENT_ROUND)), fl_ctx)

    def mark_absent(self, site: str) -> None:
        """A target is lost; nobody waits for it in this round, and what it might still send is refused.

        Raises:
            RuleError: Its contribution is in the sum.
        """
        for aggregator in self.dxo_aggregators.values():
            aggregator.aggregation_helper.mark_absent(site)

    def use_memory(self, allocate: Allocate, *, rest: Callable[[], None] | None = None) -> None:
        """From now on sums lie in memory from here."""
        for aggregator in self.dxo_aggregators.values():
            aggregator.aggregation_helper.rule.use_memory(allocate, rest=rest)

    # -- what a result must be ----------------------------------------------------------------------------------------

    def _examine(self, shareable: Shareable, site: str, fl_ctx: FLContext) -> list[tuple[DXOAggregator, Contribution]]:
        folded = shareable.get_header(RoundKey.FOLDED)
        if folded:
            raise RuleError(str(folded))
        dxo = content_of(shareable)
        contribution_round = shareable.get_header(AppConstants.CONTRIBUTION_ROUND)
        examined = []
        for key, aggregator in self.dxo_aggregators.items():
            part = dxo if key == _SINGLE else _part(dxo, key)
            examine = aggregator.examine if folded is None else aggregator.examine_folded
            try:
                contribution = examine(part, fl_ctx, site=site, contribution_round=contribution_round)
            except RuleError as error:
                if key == _SINGLE:
                    raise
                raise RuleError(f"in '{key}': {error.reason}") from error
            examined.append((aggregator, contribution))
        return examined


def _part(dxo: DXO, key: str) -> DXO:
    if dxo.data_kind != DataKind.COLLECTION:
        raise RuleError(f"expected data of kind {DataKind.COLLECTION}, but got {dxo.data_kind}")
    part: Any = dxo.data.get(key)  # Any: what a site put there
    if not isinstance(part, DXO):
        raise RuleError(f"the COLLECTION has no DXO '{key}'")
    return part


def _excludes_by_key(exclude_vars: ExcludeVars, kinds: Mapping[str, str]) -> dict[str, str | None]:
    if not isinstance(exclude_vars, Mapping):
        return dict.fromkeys(kinds, exclude_vars)
    _refuse_unknown("exclude_vars", exclude_vars, kinds)
    return {key: exclude_vars.get(key) for key in kinds}


def _weights_by_key(weights: Weights, kinds: Mapping[str, str]) -> dict[str, Any]:
    if not weights or not all(value is None or isinstance(value, Mapping) for value in weights.values()):
        return dict.fromkeys(kinds, weights)  # the same for every DXO
    _refuse_unknown("aggregation_weights", weights, kinds)
    return {key: weights.get(key) for key in kinds}


def _refuse_unknown(name: str, given: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    for key in given:
        if key not in kinds or key == _SINGLE:
            raise ValueError(f"{name} has the key {key!r}, which is not the name of a DXO in expected_data_kind")
