"""The weighted mean over one DXO per site, with all checks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from hansa.algorithms.checks import MAX_WEIGHT, Names, Reference, check_weight
from hansa.algorithms.fold import Node
from hansa.algorithms.reading import Reading
from hansa.algorithms.weighted_mean import Term
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.engine import RoundKey
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey
from hansa.components.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from hansa.errors import RuleError

LARGEST_CAP = 1e12
"""A larger `max_weight` would leave float32 sums no room."""


class Contribution(NamedTuple):
    """What a site sent, checked and not yet counted."""

    site: str
    round: Any  # Any: whatever the workflow counts with
    reading: Reading | None
    """Its numbers; None where they come, or came, as part of a sum."""
    weight: float
    steps: float


def refuse(component: FLComponent, reason: str, site: str, fl_ctx: FLContext) -> bool:
    """Say in the log and in the context why a contribution does not count; returns False, for `accept` to return."""
    fl_ctx.set_prop(RoundKey.REFUSAL, reason, private=True, sticky=False)
    component.log_warning(fl_ctx, f"contribution of {site} refused: {reason}")
    return False


class DXOAggregator(FLComponent):
    """Takes DXOs of one kind, checks them, and averages them.

    With value v, steps s and client weight c of each site the result is  sum(v s c) / sum(s c),  per variable over the
    sites that have it; with `divide_by_steps` it is  sum(v s c) / sum(s).  The tree of the sum stands over the round's
    targets (`RoundKey.TARGETS`), so the same contributions give the same bits whatever their order.

    A contribution is refused unless its numbers are finite, its shapes and classes of numbers are those of the
    context's GLOBAL_MODEL (without one: of the contribution that first had that name), and its steps are a number above
    0 up to the cap. Names may be missing or new, as in FLARE, unless `names` says otherwise. Arrays that come in are
    only read, and not kept.

    Args:
        exclude_vars: Regular expression; variables whose names it finds are left out unseen.
        aggregation_weights: Client weight by site, finite and >= 0; 1.0 for a site that is not listed.
        expected_data_kind: WEIGHTS or WEIGHT_DIFF.
        name_postfix: The name of this DXO in a COLLECTION; added to the name in the log.
        max_weight: Cap of the steps and of steps times client weight, at most 1e12.
        divide_by_steps: See above.
        names: Which variables a contribution may have: `any`; `subset`: at least one, and none that the model lacks;
            `exact`: all of the model's and no others. Those that `exclude_vars` leaves out do not matter; without a
            model, as for a COLLECTION's other DXOs, it is `any`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        exclude_vars: str | None = None,
        aggregation_weights: Mapping[str, float] | None = None,
        expected_data_kind: str = DataKind.WEIGHT_DIFF,
        name_postfix: str = "",
        *,
        max_weight: float = MAX_WEIGHT,
        divide_by_steps: bool = False,
        names: Names = "any",
    ) -> None:
        super().__init__()
        if expected_data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            raise ValueError(f"expected_data_kind must be WEIGHTS or WEIGHT_DIFF, but got {expected_data_kind!r}")
        if not 0 < max_weight <= LARGEST_CAP:
            raise ValueError(f"max_weight must be above 0 and at most {LARGEST_CAP:g}, but got {max_weight!r}")
        if names not in get_args(Names):
            raise ValueError(f"names must be one of {', '.join(get_args(Names))}, but got {names!r}")
        self.expected_data_kind = expected_data_kind
        self.aggregation_weights = dict(aggregation_weights or {})
        for site, weight in self.aggregation_weights.items():
            if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                raise ValueError(f"aggregation_weights of {site} must be a finite number >= 0, but got {weight!r}")
        self.aggregation_helper = WeightedAggregationHelper(exclude_vars)
        self._max_weight = max_weight
        self._divide_by_steps = divide_by_steps
        # Control variates and the like have the model's names, but not its classes of numbers.
        self._is_model = name_postfix in ("", AppConstants.MODEL_WEIGHTS)
        self._reference: Reference | None = None
        self._names = names
        self._round_names: Names = "any"  # of the round that `_reference` is of
        self._said: set[str] = set()
        if name_postfix:
            self._name += name_postfix
            self.logger = logging.getLogger(self._name)

    def accept(
        self,
        dxo: DXO,
        contributor_name: str,
        contribution_round: Any,  # Any: whatever the workflow counts with
        fl_ctx: FLContext,
    ) -> bool:
        """Check and count one site's DXO.

        Returns:
            True if it counts; else False, with one warning in the log and the reason under `RoundKey.REFUSAL`.
        """
        try:
            contribution = self.examine(dxo, fl_ctx, site=contributor_name, contribution_round=contribution_round)
        except RuleError as error:
            return refuse(self, error.reason, contributor_name, fl_ctx)
        self.count(contribution, fl_ctx)
        return True

    def examine(
        self,
        dxo: DXO,
        fl_ctx: FLContext,
        *,
        site: str,
        contribution_round: Any,  # Any: whatever the workflow counts with
    ) -> Contribution:
        """Check a DXO and change nothing, so that several can be counted together or not at all.

        Raises:
            RuleError: Why it cannot count.
        """
        self._check_form(dxo, contribution_round, fl_ctx)
        if self.aggregation_helper.has(site):
            raise RuleError(f"a second contribution to round {contribution_round}")
        steps, weight = self._weigh(dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND), site, fl_ctx)
        data = self.aggregation_helper.included(dxo.data)
        reference = self.expected(fl_ctx)
        reading = self.aggregation_helper.rule.read(data, reference, weight=weight, names=self._round_names)
        # Last: what was refused near its site is marked as absent before it comes here, and has a reason of its own.
        if self.aggregation_helper.is_absent(site):
            raise RuleError(f"the site was given up in round {contribution_round}")
        return Contribution(site, contribution_round, reading, weight, steps)

    def examine_folded(
        self,
        dxo: DXO,
        fl_ctx: FLContext,
        *,
        site: str,
        contribution_round: Any,  # Any: whatever the workflow counts with
    ) -> Contribution:
        """Check a DXO without its numbers, which somebody else has checked and folded; changes nothing.

        Raises:
            RuleError: Why it cannot count.
        """
        self._check_form(dxo, contribution_round, fl_ctx)
        if self.aggregation_helper.has_recorded(site):
            raise RuleError(f"a second contribution to round {contribution_round}")
        steps, weight = self._weigh(dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND), site, fl_ctx)
        return Contribution(site, contribution_round, None, weight, steps)

    def _check_form(self, dxo: DXO, contribution_round: object, fl_ctx: FLContext) -> None:
        if not isinstance(dxo, DXO):
            raise RuleError(f"expected a DXO, but got {type(dxo).__name__}")
        if dxo.data_kind != self.expected_data_kind:
            raise RuleError(f"expected data of kind {self.expected_data_kind}, but got {dxo.data_kind}")
        algorithm = dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
        if algorithm is not None:
            raise RuleError(f"the data is encoded with {algorithm}, which a plain mean cannot read")
        current_round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if contribution_round != current_round:
            raise RuleError(f"it is for round {contribution_round}, this is round {current_round}")

    def count(self, contribution: Contribution, fl_ctx: FLContext) -> None:
        """Add what `examine` or `examine_folded` returned to the sum."""
        helper = self.aggregation_helper
        if contribution.reading is None:
            helper.owe(contribution.site)
        else:
            divisor = contribution.steps if self._divide_by_steps else None
            term = helper.rule.weighted(contribution.reading, contribution.weight, divisor=divisor)
            helper.open(fl_ctx.get_prop(RoundKey.TARGETS) or ())
            helper.add_term(term, contribution.site)
            self.expected(fl_ctx).learn_layout(term.layout, owner="an earlier contribution")
        helper.record(contribution.site, contribution.round, weight=contribution.weight)

    def count_node(self, node: Node[Term], fl_ctx: FLContext) -> None:
        """Add a sum that was formed elsewhere; changes nothing if it raises.

        Raises:
            RuleError: It does not fit the round's targets or tensors, or a site in it is counted already.
        """
        reference = self.expected(fl_ctx)
        if node.term is not None:
            reference.check_layout(node.term.layout, names=self._round_names)
        self.aggregation_helper.open(fl_ctx.get_prop(RoundKey.TARGETS) or ())
        self.aggregation_helper.add_node(node)
        if node.term is not None:
            reference.learn_layout(node.term.layout, owner="an earlier contribution")

    def expect(self, reference: Reference) -> None:
        """In this round contributions must look like this, whatever model the context has.

        For a fold near the sites: what is to be said of steps and weights the server says.
        """
        self._reference = reference
        self._round_names = self._names
        self._said |= {"steps", "site", "divisor"}

    def expected(self, fl_ctx: FLContext) -> Reference:
        """What the round's contributions must look like; the model may be another one in the next round."""
        if self._reference is None:
            self._reference = Reference()
            model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL) if self._is_model else None
            weights = model.get(ModelLearnableKey.WEIGHTS) if isinstance(model, dict) else None
            if isinstance(weights, Mapping):
                self._reference.learn(self.aggregation_helper.included(weights), owner="the model")
            self._round_names = self._names if self._reference.specs else "any"
        return self._reference

    def aggregate(self, fl_ctx: FLContext) -> DXO:
        """The mean of what was counted, empty data if nothing was; the next round begins with nothing."""
        current_round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        self.log_debug(fl_ctx, f"aggregating {self.aggregation_helper.get_len()} update(s) at round {current_round}")
        self._settle(fl_ctx)
        self._reference = None
        return DXO(data_kind=self.expected_data_kind, data=self.aggregation_helper.get_result())

    def reset_aggregation_helper(self) -> None:
        """Forget what was counted in this round."""
        self._reference = None
        self.aggregation_helper.reset_stats()

    def _settle(self, fl_ctx: FLContext) -> None:
        """What sites say and what sums say must agree."""
        owed, unrecorded = self.aggregation_helper.unsettled()
        if owed:
            raise RuleError(f"is counted, but the sum with its numbers did not come ({len(owed)} such)", site=owed[0])
        if unrecorded:
            text = f"the sum contains {len(unrecorded)} site(s) whose results did not come by themselves"
            self.log_warning(fl_ctx, f"{text}, first {unrecorded[0]}")

    def _weigh(self, steps: object, site: str, fl_ctx: FLContext) -> tuple[float, float]:
        """A site's steps, and steps times client weight."""
        if steps is None:
            self._say_once("steps", f"NUM_STEPS_CURRENT_ROUND is missing (first at {site}) and taken as 1.0", fl_ctx)
            steps = 1.0
        num_steps = check_weight(steps, max_weight=self._max_weight, name=MetaKey.NUM_STEPS_CURRENT_ROUND)
        if not self.aggregation_weights:
            return num_steps, num_steps
        client_weight = self.aggregation_weights.get(site)
        if client_weight is None:
            self._say_once("site", f"aggregation_weights does not list all sites (not {site}), 1.0 is taken", fl_ctx)
            client_weight = 1.0
        weight = num_steps * client_weight
        if self._divide_by_steps:
            if client_weight != 1.0:
                text = f"the client weight {client_weight} of {site} multiplies its values, but not the divisor"
                self._say_once("divisor", f"{text}; InTimeAccumulateWeightedAggregator forms the mean", fl_ctx)
            if weight == 0.0:
                return num_steps, weight
        return num_steps, check_weight(weight, max_weight=self._max_weight, name="steps times client weight")

    def _say_once(self, key: str, text: str, fl_ctx: FLContext) -> None:
        if key not in self._said:
            self._said.add(key)
            self.log_warning(fl_ctx, f"{text}; said once")
