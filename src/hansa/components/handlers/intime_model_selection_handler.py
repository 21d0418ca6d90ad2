"""Which version of the global model was the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DataKind, MetaKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.reported import dxo_of, meta_of, metric_in
from hansa.components.scalars import as_float

_KINDS = frozenset((DataKind.WEIGHTS, DataKind.WEIGHT_DIFF, DataKind.COLLECTION))


class IntimeModelSelectionHandler(FLComponent):
    """Compares the models that sites have measured before they trained.

    The score of the model that round r started from is Σ wᵢ mᵢ / Σ wᵢ over the sites that sent a metric mᵢ with their
    result. It is taken before each result is accepted, so a result that is refused right after still counts, and just
    before the aggregation a score better than `best_val_metric` fires GLOBAL_BEST_MODEL_AVAILABLE. Round 0 is left out:
    its model has not been trained.

    Values are added in the order of the sites' names, so the score does not depend on who answered first. A site whose
    metric is no finite number, or is missing while others send one, is named in the log once.

    Args:
        weigh_by_local_iter: Whether wᵢ has NUM_STEPS_CURRENT_ROUND as a factor.
        aggregation_weights: A factor of wᵢ by site; 1.0 where it has none.
        validation_metric_name: The key of mᵢ in the meta of a site's DXO, or in the dict that is INITIAL_METRICS there
            where a site sends several.
        larger_is_better: False for a loss.

    Attributes:
        best_val_metric: The best score so far; at the start −∞, or +∞ where smaller is better.
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
        *,
        larger_is_better: bool = True,
    ) -> None:
        super().__init__()
        self.weigh_by_local_iter = weigh_by_local_iter
        self.aggregation_weights = aggregation_weights or {}
        self.validation_metric_name = validation_metric_name
        self.larger_is_better = larger_is_better
        self.best_val_metric = -math.inf if larger_is_better else math.inf
        self._taken: list[tuple[str, float, float]] = []  # site, metric, weight
        self._without: list[str] = []  # sites that sent none in this round
        self._named: set[str] = set()

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
            self._without.clear()
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
        dxo = dxo_of(result)
        meta = meta_of(dxo) if dxo is not None and dxo.data_kind in _KINDS else {}
        reported = metric_in(meta, self.validation_metric_name)
        if reported is None:
            self._without.append(site)
            return
        metric = as_float(reported)
        if metric is None or not math.isfinite(metric):
            self._name_once(site, f"in round {current_round} is no finite number: {reported!r:.80}", fl_ctx)
            return
        steps = as_float(meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND)) if self.weigh_by_local_iter else None
        weight = (1.0 if steps is None else steps) * self.aggregation_weights.get(site, 1.0)
        self._taken.append((site, metric, weight))

    def _compare(self, fl_ctx: FLContext) -> None:
        # Sorted by the values, too: two unnamed sites must not bring the order of arrival back.
        taken, self._taken = sorted(self._taken), []
        without, self._without = sorted(self._without), []
        total = sum(weight for _, _, weight in taken)
        if total == 0:
            self._say_unmeasured(fl_ctx)
            return
        for site in without:
            self._name_once(site, "is missing, while other sites send it", fl_ctx)
        score = sum(metric * weight for _, metric, weight in taken) / total
        self.log_info(fl_ctx, f"{self.validation_metric_name} over {len(taken)} sites: {score}")
        if score > self.best_val_metric if self.larger_is_better else score < self.best_val_metric:
            self.best_val_metric = score
            self.log_info(fl_ctx, f"the best model so far: {score}")
            self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)

    def _say_unmeasured(self, fl_ctx: FLContext) -> None:
        """A debug line where nobody asked for a metric; a warning, once, where a name was given that nobody reports."""
        if self.validation_metric_name == MetaKey.INITIAL_METRICS or not fl_ctx.get_prop(AppConstants.CURRENT_ROUND):
            self.log_debug(fl_ctx, "no site has measured the model of this round")
        elif "" not in self._named:
            self._named.add("")
            self.log_warning(
                fl_ctx, f"no site has sent '{self.validation_metric_name}' with its result, so no best model; said once"
            )

    def _name_once(self, site: str, text: str, fl_ctx: FLContext) -> None:
        if site not in self._named:
            self._named.add(site)
            self.log_warning(fl_ctx, f"{site}: {self.validation_metric_name} {text}; said once")


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
