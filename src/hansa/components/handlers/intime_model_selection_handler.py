"""Which version of the global model was the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.scalars import as_float

_KINDS = frozenset((DataKind.WEIGHTS, DataKind.WEIGHT_DIFF, DataKind.COLLECTION))


class IntimeModelSelectionHandler(FLComponent):
    """Compares the models that sites have measured before they trained.

    The score of the model that round r started from is Σ wᵢ mᵢ / Σ wᵢ over the sites that sent a metric mᵢ with their
    result; larger is better. It is taken before each result is accepted, so a result that is refused right after
    still counts, and just before the aggregation a score above `best_val_metric` fires GLOBAL_BEST_MODEL_AVAILABLE.
    Round 0 is left out: its model has not been trained.

    Values are added in the order of the sites' names, so the score does not depend on who answered first.

    Args:
        weigh_by_local_iter: Whether wᵢ has NUM_STEPS_CURRENT_ROUND as a factor.
        aggregation_weights: A factor of wᵢ by site; 1.0 where it has none.
        validation_metric_name: The key of mᵢ in the meta of a site's DXO.

    Attributes:
        best_val_metric: The best score so far; −∞ at the start.
    """

    reads_tensors = False
    hears = frozenset(
        (
            EventType.START_RUN,
            AppEventType.ROUND_STARTED,
            AppEventType.BEFORE_CONTRIBUTION_ACCEPT,
            AppEventType.BEFORE_AGGREGATION,
        )
    )

    def __init__(
        self,
        weigh_by_local_iter: bool = False,
        aggregation_weights: dict[str, float] | None = None,
        validation_metric_name: str = MetaKey.INITIAL_METRICS,
    ) -> None:
        super().__init__()
        self.weigh_by_local_iter = weigh_by_local_iter
        self.aggregation_weights = aggregation_weights or {}
        self.validation_metric_name = validation_metric_name
        self.best_val_metric = -math.inf
        self._taken: list[tuple[str, float, float]] = []  # site, metric, weight

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The best score so far."""
        return {"best_val_metric": self.best_val_metric}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self.best_val_metric = float(state["best_val_metric"])

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Collect the metrics of a round, and compare at its end."""
        if event_type in (EventType.START_RUN, AppEventType.ROUND_STARTED):
            self._taken.clear()
        elif event_type == AppEventType.BEFORE_CONTRIBUTION_ACCEPT:
            self._take(fl_ctx)
        elif event_type == AppEventType.BEFORE_AGGREGATION:
            self._compare(fl_ctx)

    def _take(self, fl_ctx: FLContext) -> None:
        result = _result_at_hand(fl_ctx)
        current_round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if result is None or current_round == 0:
            return
        site = _site_of(result, fl_ctx)
        contribution_round = result.get_header(AppConstants.CONTRIBUTION_ROUND)
        if contribution_round != current_round:
            self.log_warning(
                fl_ctx, f"{site}: the metric of round {contribution_round} is ignored in round {current_round}"
            )
            return
        dxo = _dxo_of(result)
        reported = dxo.get_meta_prop(self.validation_metric_name) if dxo else None
        if dxo is None or reported is None:
            self.log_debug(fl_ctx, f"{site}: no {self.validation_metric_name} in round {current_round}")
            return
        metric = as_float(reported)
        if metric is None or not math.isfinite(metric):
            name = self.validation_metric_name
            self.log_warning(fl_ctx, f"{site}: {name} in round {current_round} is no finite number: {reported!r}")
            return
        steps = as_float(dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND)) if self.weigh_by_local_iter else None
        weight = (1.0 if steps is None else steps) * self.aggregation_weights.get(site, 1.0)
        self._taken.append((site, metric, weight))

    def _compare(self, fl_ctx: FLContext) -> None:
        # Sorted by the values, too: two unnamed sites must not bring the order of arrival back.
        taken, self._taken = sorted(self._taken), []
        total = sum(weight for _, _, weight in taken)
        if total == 0:
            self.log_debug(fl_ctx, "no site has measured the model of this round")
            return
        score = sum(metric * weight for _, metric, weight in taken) / total
        self.log_info(fl_ctx, f"{self.validation_metric_name} over {len(taken)} sites: {score}")
        if score > self.best_val_metric:
            self.best_val_metric = score
            self.log_info(fl_ctx, f"the best model so far: {score}")
            self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)


def _result_at_hand(fl_ctx: FLContext) -> Shareable | None:
    result = fl_ctx.get_prop(AppConstants.TRAINING_RESULT)
    if not isinstance(result, Shareable):  # a workflow that sets no TRAINING_RESULT
        peer = fl_ctx.get_peer_context()
        result = peer.get_prop(FLContextKey.SHAREABLE) if peer else None
    return result if isinstance(result, Shareable) else None


def _site_of(result: Shareable, fl_ctx: FLContext) -> str:
    """Whose result it is; where the result does not say, the peer context does."""
    name = result.get_peer_prop(ReservedKey.IDENTITY_NAME, None)
    peer = fl_ctx.get_peer_context()
    if not name and peer is not None:
        name = peer.get_identity_name() or peer.get_prop(FLContextKey.CLIENT_NAME)
    return str(name or "?")


def _dxo_of(result: Shareable) -> DXO | None:
    try:
        dxo = from_shareable(result)
    except ValueError:
        return None
    return dxo if dxo.data_kind in _KINDS else None
