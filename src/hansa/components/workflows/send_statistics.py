"""The federation's statistics, back to the sites."""

from __future__ import annotations

from functools import partial

import numpy as np

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO
from hansa.apis.engine import RoundKey
from hansa.apis.fl_context import FLContext
from hansa.apis.sampling import Sampling
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.statistics_words import KIND, TASK_PREPROCESS
from hansa.components.workflows.checks import check_ints
from hansa.components.workflows.contribution import failure_of
from hansa.components.workflows.targets import Draw, round_targets


class SendStatistics(Controller):
    """Sends means and standard deviations to all sites, for preprocessing before a training of the same job.

    A `FederatedStatistics` must come before it. A site that fails keeps its data unscaled, so it ends the run.

    Args:
        min_clients: How many sites must have them; > 0.
        wait_time_after_min_received: Whole seconds that the others get then; >= 0.
        dataset: Whose they are; empty: `train`, or the first by name where there is none of that name.
        task: The task's name.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        min_clients: int = 1,
        wait_time_after_min_received: int = 10,
        *,
        dataset: str = "",
        task: str = TASK_PREPROCESS,
    ) -> None:
        super().__init__()
        check_ints(at_least=1, min_clients=min_clients)
        check_ints(wait_time_after_min_received=wait_time_after_min_received)
        self.min_clients = min_clients
        self.grace = wait_time_after_min_received
        self.dataset = dataset
        self.task_name = task
        self._failures: list[str] = []
        self._num_done = 0

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is needed."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is held."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """One task to all."""
        document = fl_ctx.get_prop(RoundKey.STATISTICS)
        datasets = document["datasets"] if isinstance(document, dict) else {}
        name = self.dataset or ("train" if "train" in datasets else next(iter(sorted(datasets)), "train"))
        if name not in datasets:
            self.system_panic(f"{self._name}: there are no statistics of a data set '{name}'", fl_ctx)
            return
        known = {f: entry for f, entry in datasets[name]["features"].items() if entry["mean"] is not None}
        if not known:
            self.system_panic(f"{self._name}: no site told enough of data set '{name}' to scale by", fl_ctx)
            return
        data = {
            "features": list(known),
            "mean": np.array([entry["mean"] for entry in known.values()]),
            "sd": np.array([entry["sd"] or 0.0 for entry in known.values()]),
        }
        targets = round_targets(
            fl_ctx.get_engine(),
            self.min_clients,
            draw=Draw(Sampling(), f"{self.workflow_index}/sites/{self.task_name}"),
            abort_signal=abort_signal,
            on_wait=partial(self.log_info, fl_ctx),
        )
        if abort_signal.triggered:
            return
        task = Task(self.task_name, DXO(KIND, data).to_shareable(), result_received_cb=self._take)
        self.broadcast_and_wait(task, fl_ctx, targets, self.min_clients, self.grace, abort_signal)
        if abort_signal.triggered:
            return
        if self._failures or self._num_done < self.min_clients:
            why = f": {'; '.join(sorted(self._failures)[:3])}" if self._failures else ""
            self.system_panic(
                f"{self._name}: {self._num_done} sites are prepared, {self.min_clients} needed{why}", fl_ctx
            )

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """It came too late."""
        self.log_warning(fl_ctx, f"{client.name} was too late with {task_name}")

    def _take(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        failure = failure_of(client_task.result or Shareable())
        if failure is None:
            self._num_done += 1
        else:
            self._failures.append(f"{client_task.client.name}: {failure}")
