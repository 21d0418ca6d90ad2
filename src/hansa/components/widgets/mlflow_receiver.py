"""Reported numbers, for MLflow."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, final

from hansa.apis.analytix import AnalyticsData
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import from_shareable
from hansa.apis.engine import History, OffersFacts, OffersHistory, port
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.widgets.history_receiver import SERVER, numbers_of
from hansa.components.widgets.mlflow_sender import MLflowSender, Point, TrackedRun, check_installed
from hansa.components.widgets.streaming import GLOBAL_STEP, AnalyticsReceiver

_UNSAFE = re.compile(r"[^\w\-. :/]")
_MOST_CHARACTERS = 250
"""MLflow takes names of metrics up to this length."""


@final
class MLflowReceiver(AnalyticsReceiver):
    """Keeps a run's numbers as one MLflow run: metrics `<origin>/<tag>`, the global model's as `<tag>` alone.

    SCALAR and SCALARS records are kept, other kinds pass. The global value of a metric is the history's: what the
    server reported in the round, else the mean over the sites, which is logged when the round is over, as is what sites
    reported with their results (INITIAL_METRICS). The step is the record's `global_step`, else the round. Parameters of
    the MLflow run are `job`, `job_digest`, `sites` (how many), `seed` and `run`, which is Hansa's name for the run.

    Numbers are collected and sent by a thread of this receiver's, one request per 1000 of them after each round and at
    the end, so no round waits for the tracking server. Where that fails, one warning says so, and the rest of the
    numbers is not sent; they are all in Hansa's own history. At END_RUN what is under way may take `wait_s` more.

    MLflow's telemetry is switched off unless the environment says otherwise. Needs the extra `mlflow`.

    Args:
        tracking_uri: MLflow's address for the run, a server's or a folder's. None: `$MLFLOW_TRACKING_URI`, else the
            folder `mlruns` in the run folder of the workspace (`get_run_dir`).
        experiment: MLflow's experiment; None: the job's name.
        run_name: What MLflow calls the run; None: what Hansa calls it.
        events: The events that carry records. None: `analytix_log_stats` and `fed.analytix_log_stats`.
        wait_s: How long the end of the run waits for what is not sent yet, in seconds.

    Raises:
        MissingExtra: MLflow is not installed.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        *,
        run_name: str | None = None,
        events: list[str] | None = None,
        wait_s: float = 10.0,
    ) -> None:
        super().__init__(events)
        check_installed()
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_name = run_name
        self.wait_s = wait_s
        self._history: History | None = None
        self._sender: MLflowSender | None = None
        self._waiting: list[Point] = []
        self._round: int | None = None
        self._logged: set[tuple[str, str]] = set()  # origin and name of what was reported in this round
        self._panicked = False

    @property
    def hears(self) -> frozenset[str]:
        """What any receiver hears, rounds, and how the run ends."""
        more = (AppEventType.ROUND_STARTED, AppEventType.ROUND_DONE, EventType.FATAL_SYSTEM_ERROR)
        return super().hears | frozenset(more)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Follow the rounds, then as any receiver."""
        if event_type == AppEventType.ROUND_STARTED:
            with self._saving:
                self._round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
                self._logged.clear()
        elif event_type == AppEventType.ROUND_DONE:
            with self._saving:
                self._log_round()
                self._hand_over()
        elif event_type == EventType.FATAL_SYSTEM_ERROR:
            self._panicked = True
        super().handle_event(event_type, fl_ctx)

    def initialize(self, fl_ctx: FLContext) -> None:
        """Begin an MLflow run."""
        engine = fl_ctx.get_engine()
        offer, known = port(engine, OffersHistory), port(engine, OffersFacts)
        facts = known.facts if known else {}
        self._history = offer.history if offer else None
        self._round, self._panicked = None, False
        identity = fl_ctx.get_identity_name() or "hansa"
        folder = Path(engine.get_workspace().get_run_dir(fl_ctx.get_run_number()))
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (folder.absolute() / "mlruns").as_uri()
        run = TrackedRun(
            uri,
            self.experiment or str(facts.get("job", identity)),
            self.run_name or str(facts.get("run", identity)),
            _params(facts),
        )
        self._sender = MLflowSender(run, warn=lambda text: self.logger.warning("MLflow at %s: %s", uri, text))

    def save(self, fl_ctx: FLContext, shareable: Shareable, record_origin: str) -> None:
        """Take a record's numbers down; they are sent when the round is over."""
        record = AnalyticsData.from_dxo(from_shareable(shareable))
        step = (record.kwargs or {}).get(GLOBAL_STEP)
        is_own = self._history is not None and record_origin == fl_ctx.get_identity_name()
        origin = SERVER if is_own else record_origin
        for name, value in numbers_of(record):
            self._add(origin, name, value=value, step=self._round if step is None else step)

    def finalize(self, fl_ctx: FLContext) -> None:
        """End the MLflow run."""
        self._hand_over()
        if self._sender is None:
            return
        signal = fl_ctx.get_run_abort_signal()
        stopped = signal is not None and signal.triggered
        self._sender.close("FAILED" if self._panicked else "KILLED" if stopped else "FINISHED", wait_s=self.wait_s)
        self._sender = None

    def _log_round(self) -> None:
        """Add what came with results, and the global values."""
        if self._history is None or self._round is None:
            return
        for name in self._history.metric_names():
            for site, value in sorted(self._history.reported(self._round, name).items()):
                if (site, name) not in self._logged:
                    self._add(site, name, value=value, step=self._round)
            value_of_model = self._history.metric(self._round, name)
            if value_of_model is not None and (SERVER, name) not in self._logged:
                self._add(SERVER, name, value=value_of_model, step=self._round)

    def _add(self, origin: str, name: str, *, value: float, step: int | None) -> None:
        self._logged.add((origin, name))
        key = name if origin == SERVER else f"{origin}/{name}"
        key = _UNSAFE.sub("_", key)[:_MOST_CHARACTERS]
        self._waiting.append(Point(key, value, int(time.time() * 1000), step or 0))

    def _hand_over(self) -> None:
        if self._sender is not None and self._waiting:
            self._sender.send(self._waiting)
            self._waiting = []


def _params(facts: Any) -> dict[str, str]:  # Any: JSON
    params = {key: str(facts[key]) for key in ("job", "job_digest", "seed", "run") if key in facts}
    if "sites" in facts:
        params["sites"] = str(len(facts["sites"]))
    return params
