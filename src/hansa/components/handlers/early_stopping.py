"""The end of a training that does not get better any more, or is good enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import MetaKey
from hansa.apis.engine import History, OffersHistory, RoundKey, port
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.components.scalars import as_float

_SHOWN = 3
"""How many sites a line names."""
_SERVER = "server"


@final
class EarlyStopping(FLComponent):
    """Ends the training when a metric of the global model stands still, or has reached a target.

    After each round it looks at the metric as the run's history has it for that round: what the server reported under
    that name, else the mean over the sites, weighted as their results count; so it is the number that `hansa runs show`
    and plots show. Sites report it with their results (INITIAL_METRICS of the DXO, `metrics` of a script) or as a
    scalar (AnalyticsSender), measured on the model that they have received, which is the one the round began with.

    NaN, infinite and missing values of single sites are left out of the mean, and said once. A round in which nobody
    reported the metric neither counts nor resets; that, too, is said once. If all values are NaN or infinite, the
    round is one without improvement.

    The workflow ends after the round at hand (`RoundKey.ENOUGH`), and the run as COMPLETED with the reason as its
    `cause`. Another workflow of the same job then begins with nothing remembered.

    Args:
        metric: The metric's name; "initial_metrics" is what a Learner's validation before training gives.
        patience: After how many rounds in a row without an improvement the training ends; > 0. None: never.
        min_delta: By how much more than this a value must be better than the best one so far; >= 0.
        larger_is_better: False for a loss.
        target: The value that is good enough. None: none is.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of range, or there is neither patience nor target.
    """

    reads_tensors = False
    hears = frozenset((EventType.START_RUN, AppEventType.ROUND_DONE))

    def __init__(
        self,
        metric: str = MetaKey.INITIAL_METRICS,
        patience: int | None = None,
        *,
        min_delta: float = 0.0,
        larger_is_better: bool = True,
        target: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(metric, str):
            raise TypeError(f"metric must be str but got {type(metric)}")
        if patience is None and target is None:
            raise ValueError("EarlyStopping needs patience, or target, or both")
        if patience is not None and (isinstance(patience, bool) or not isinstance(patience, int)):
            raise TypeError(f"patience must be int but got {type(patience)}")
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be > 0, but got {patience}")
        if not isinstance(larger_is_better, bool):
            raise TypeError(f"larger_is_better must be bool but got {type(larger_is_better)}")
        self.metric = metric
        self.patience = patience
        self.min_delta = _finite("min_delta", min_delta)
        if self.min_delta < 0:
            raise ValueError(f"min_delta must be >= 0, but got {min_delta}")
        self.larger_is_better = larger_is_better
        self.target = None if target is None else _finite("target", target)
        self._sign = 1.0 if larger_is_better else -1.0
        self._best: tuple[float, int] | None = None  # value and round
        self._waited = 0
        self._said: set[str] = set()

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The best value so far, its round, and how many rounds there were since without a better one."""
        best, of_round = self._best or (None, None)
        return {"best": best, "round": of_round, "waited": self._waited}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        best = state["best"]
        self._best = None if best is None else (float(best), int(state["round"]))
        self._waited = int(state["waited"])

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Look at the round that is over."""
        offer = port(fl_ctx.get_engine(), OffersHistory)
        if event_type == EventType.START_RUN and offer is None:
            self.log_warning(fl_ctx, f"no history is kept here, so {self.metric!r} ends nothing")
        elif event_type == AppEventType.ROUND_DONE and offer is not None:
            self._look(offer.history, int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)), fl_ctx)

    def _look(self, history: History, number: int, fl_ctx: FLContext) -> None:
        value = history.metric(number, self.metric)
        if value is None:
            self._say_once("nobody", f"nobody has reported {self.metric!r} in round {number}", fl_ctx)
            return
        self._mention_gaps(history.reported(number, self.metric), number, fl_ctx)
        reason = self._judge(value, number)
        if reason is None:
            return
        self._best, self._waited = None, 0
        if fl_ctx.get_prop(RoundKey.ENOUGH) is None:
            fl_ctx.set_prop(RoundKey.ENOUGH, reason, private=True, sticky=False)

    def _judge(self, value: float, number: int) -> str | None:
        """Why it is enough; None if it is not."""
        if self.target is not None and self._sign * value >= self._sign * self.target:
            return f"{self.metric} is {value:.6g}, the target {self.target:g}"
        if math.isfinite(value) and (self._best is None or self._sign * (value - self._best[0]) > self.min_delta):
            self._best, self._waited = (value, number), 0
            return None
        self._waited += 1
        if self.patience is None or self._waited < self.patience:
            return None
        rounds = "a round" if self._waited == 1 else f"{self._waited} rounds"
        if self._best is None:
            return f"{self.metric} has not been a finite number for {rounds}"
        return f"{self.metric} has not improved for {rounds}: {self._best[0]:.6g} in round {self._best[1]} was the best"

    def _mention_gaps(self, reported: Mapping[str, float], number: int, fl_ctx: FLContext) -> None:
        if _SERVER in reported:
            return
        odd = sorted(site for site, value in reported.items() if not math.isfinite(value))
        missing = sorted(set(fl_ctx.get_prop(RoundKey.TARGETS) or ()) - reported.keys())
        for what, sites in (("NaN or infinite", odd), ("missing", missing)):
            if sites:
                names = ", ".join(sites[:_SHOWN]) + (", ..." if len(sites) > _SHOWN else "")
                text = f"{self.metric!r} in round {number} is {what} at {len(sites)} site(s): {names}"
                self._say_once(what, f"{text}; the mean is over the others", fl_ctx)

    def _say_once(self, key: str, text: str, fl_ctx: FLContext) -> None:
        if key not in self._said:
            self._said.add(key)
            self.log_warning(fl_ctx, f"{text}; said once")


def _finite(name: str, value: object) -> float:
    number = as_float(value)
    if number is None:
        raise TypeError(f"{name} must be a number but got {type(value)}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, but got {value}")
    return number
