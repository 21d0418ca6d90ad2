"""The results of an evaluation across sites as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.widget import Widget
from hansa.components.reported import dxo_of
from hansa.components.workflows.contribution import failure_of


class ValidationJsonGenerator(Widget):
    """Collects what `CrossSiteModelEval` receives, and writes it when the run ends.

    The file holds `{data client: {model owner: metrics}}`, sorted; a measurement that failed is left out.

    Args:
        results_dir: The folder below the run's.
        json_file_name: The file.
    """

    hears = frozenset((EventType.START_RUN, AppEventType.VALIDATION_RESULT_RECEIVED, EventType.END_RUN))

    def __init__(
        self, results_dir: str = AppConstants.CROSS_VAL_DIR, json_file_name: str = "cross_val_results.json"
    ) -> None:
        super().__init__()
        self._results_dir = results_dir
        self._json_file_name = json_file_name
        self._results: dict[str, dict[str, Any]] = {}  # Any: metrics

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Begin, take a result, or write them all."""
        if event_type == EventType.START_RUN:
            self._results.clear()
        elif event_type == AppEventType.VALIDATION_RESULT_RECEIVED:
            self._take(fl_ctx)
        elif event_type == EventType.END_RUN:
            self._write(fl_ctx)

    def _take(self, fl_ctx: FLContext) -> None:
        owner, site = fl_ctx.get_prop(AppConstants.MODEL_OWNER), fl_ctx.get_prop(AppConstants.DATA_CLIENT)
        result = fl_ctx.get_prop(AppConstants.VALIDATION_RESULT)
        if not owner or not site or not isinstance(result, Shareable) or failure_of(result) is not None:
            return
        dxo = dxo_of(result)
        if dxo is None:
            self.log_error(fl_ctx, f"{site}: the result for the model of {owner} holds no DXO")
            return
        self._results.setdefault(str(getattr(site, "name", site)), {})[str(owner)] = dict(dxo.data)

    def _write(self, fl_ctx: FLContext) -> None:
        run = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_run_number()))
        folder = run / self._results_dir
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._results, indent=1, sort_keys=True, default=_plain, ensure_ascii=False)
        (folder / self._json_file_name).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:  # Any: numbers and arrays of NumPy; what JSON knows
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else str(value)
