"""Local preprocessing as a task."""

from __future__ import annotations

from hansa.apis.dxo import DXO, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.standard_scaler import StandardScaler
from hansa.components.statistics_words import KIND, TASK_PREPROCESS
from hansa.components.workflows.parts import component_of


class ScalerExecutor(Executor):
    """Fits the site's `StandardScaler` with what `SendStatistics` brings.

    Args:
        scaler_id: Component id of the scaler.
        task: The task's name.
    """

    writes_input = False
    hears = frozenset[str]()

    def __init__(self, scaler_id: str = "scaler", task: str = TASK_PREPROCESS) -> None:
        super().__init__()
        self.scaler_id = scaler_id
        self.task = task

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Fit the scaler; TASK_UNKNOWN for other tasks.

        Raises:
            ConfigError: There is no scaler.
            ValueError: The numbers do not fit together.
        """
        if task_name != self.task:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        data = from_shareable(shareable).data
        scaler = component_of(fl_ctx.get_engine(), self.scaler_id, kind=StandardScaler)
        scaler.fit(data["features"], data["mean"], sd=data["sd"])
        return DXO(KIND, {"num_features": len(data["features"])}).to_shareable()
