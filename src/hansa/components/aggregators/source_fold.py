"""The mean's side near the sites: results are checked and folded there, and sums go to the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.algorithms.arrays import dtype_from, dtype_text
from hansa.algorithms.checks import Reference, Spec
from hansa.algorithms.fold import Node, block_size, outlets_of
from hansa.algorithms.weighted_mean import Term
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, from_shareable
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import Allocate, FoldedPart, FoldPlan, TensorSpec
from hansa.apis.shareable import Shareable
from hansa.components.aggregators.dxo_aggregator import DXOAggregator
from hansa.errors import RuleError


class MeanSourceFold:
    """A `SourceFold` of the weighted mean.

    Refuses what the server would refuse. A tensor that the model lacks must look like the first of its name here; if
    it looks different at other places, the server finds that when the sums meet.

    Args:
        aggregator: A new one of the plan's rule.
        plan: The server's plan.
        held: The targets whose results will be seen here.
        allocate: Where the sums' memory comes from.
    """

    def __init__(self, aggregator: DXOAggregator, plan: FoldPlan, *, held: Sequence[str], allocate: Allocate) -> None:
        self._aggregator = aggregator
        self._helper = aggregator.aggregation_helper
        self._helper.rule.use_memory(allocate)
        self._round = plan.round_number
        self._fl_ctx = FLContext()
        self._fl_ctx.set_prop(AppConstants.CURRENT_ROUND, plan.round_number, private=True, sticky=False)
        aggregator.expect(_reference(plan.model))
        outlets = outlets_of(plan.targets, held)
        size = block_size(len(plan.targets))
        self._folded = {site for start, stop in outlets for site in plan.targets[start * size : stop * size]}
        self._helper.open(plan.targets, outlets=outlets)

    def needs_whole(self, site: str) -> bool:
        """Whether a site's result must travel as it is."""
        return site not in self._folded

    def add(self, site: str, result: Shareable) -> str | None:
        """Check a result and fold it; returns why it is refused, None if it counts."""
        if site not in self._folded:
            raise RuleError("must send its result whole", site=site)
        contribution_round = result.get_cookie(AppConstants.CONTRIBUTION_ROUND)
        if contribution_round is None:
            contribution_round = result.get_header(AppConstants.CONTRIBUTION_ROUND)
        if self._helper.has(site) or self._helper.is_absent(site):
            raise RuleError("was added or marked absent before", site=site)
        try:
            contribution = self._aggregator.examine(
                content_of(result), self._fl_ctx, site=site, contribution_round=contribution_round
            )
        except RuleError as error:
            self._helper.mark_absent(site)
            return error.reason
        self._aggregator.count(contribution, self._fl_ctx)
        return None

    def absent(self, site: str) -> None:
        """Do not wait for this site."""
        self._helper.mark_absent(site)

    def ready(self) -> list[FoldedPart]:
        """The nodes that were completed since this was last asked."""
        return [self._packed(node) for node in self._helper.take_ready()]

    def _packed(self, node: Node[Term]) -> FoldedPart:
        counted = "".join(["1" if has else "0" for has in node.counted.values()])
        head: dict[str, Any] = {"round": self._round, "counted": counted}  # Any: plain JSON
        if node.term is None:
            return FoldedPart(node.span, list(node.counted), head, [])
        sums, regions = self._helper.rule.pack(node.term)
        return FoldedPart(node.span, list(node.counted), head | sums, regions)


def opened(part: FoldedPart, aggregator: DXOAggregator, *, round_number: object) -> Node[Term]:
    """The node that `MeanSourceFold` packed, for a round of this number.

    Raises:
        RuleError: It is of another round, or is no such part.
    """
    head = part.head
    if head.get("round") != round_number:
        raise RuleError(f"a sum is for round {head.get('round')}, this is round {round_number}")
    marks = str(head.get("counted"))
    if len(marks) != len(part.sites):
        raise RuleError(f"a sum over {len(part.sites)} sites counts {len(marks)}")
    term = aggregator.aggregation_helper.rule.unpack(head, part.regions) if "1" in marks else None
    counted = {site: mark == "1" for site, mark in zip(part.sites, marks, strict=True)}
    start, stop = part.span
    return Node((start, stop), counted, term)


def content_of(result: Shareable) -> DXO:
    """The DXO of a result that went well.

    Raises:
        RuleError: It did not go well, or holds none.
    """
    code = result.get_return_code()
    if code and code != ReturnCode.OK:
        raise RuleError(f"its return code is {code}")
    try:
        return from_shareable(result)
    except ValueError as error:
        raise RuleError(str(error)) from error


def described(reference: Reference) -> list[TensorSpec]:
    """What is expected, for a plan; nothing if the names are no texts."""
    if not all(isinstance(name, str) for name in reference.specs):
        return []
    return [TensorSpec(name, dtype_text(spec.dtype), spec.shape) for name, spec in reference.specs.items()]


def _reference(model: Sequence[TensorSpec]) -> Reference:
    reference = Reference()
    for spec in model:
        reference.specs[spec.name] = Spec(spec.shape, dtype_from(spec.dtype), "the model")
    return reference
