"""A workflow of your own, and what sites do in it: a mean of values of which only sums and counts leave a site."""

from __future__ import annotations

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class FederatedMean(Controller):
    """Asks every site for its sum and count, and writes the mean to the run's log.

    Args:
        min_sites: How many answers are enough.
        num_rounds: How often to ask.
    """

    def __init__(self, min_sites: int, num_rounds: int = 1) -> None:
        super().__init__()
        self.min_sites = min_sites
        self.num_rounds = num_rounds
        self.total, self.count = 0.0, 0

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing to set up."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """One broadcast per round."""
        for number in range(self.num_rounds):
            self.total, self.count = 0.0, 0
            task = Task("mean", Shareable(), result_received_cb=self._add)
            sites = [client.name for client in fl_ctx.get_engine().get_clients()]
            self.broadcast_and_wait(task, fl_ctx, sites, self.min_sites, 10, abort_signal)
            if abort_signal.triggered or not self.count:
                return
            self.log_info(fl_ctx, f"round {number}: mean {self.total / self.count:.3f} of {self.count} values")

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing to put away."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A late answer does not count."""

    def _add(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        if client_task.result is not None and client_task.result.get_return_code() == ReturnCode.OK:
            data = from_shareable(client_task.result).data
            self.total += data["sum"]
            self.count += data["count"]


class SumOfMine(Executor):
    """The site's side: only a sum and a count leave it."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Sum up this site's values; put your own data here."""
        values = [float(letter) for letter in fl_ctx.get_identity_name().encode()]
        return DXO(DataKind.METRICS, {"sum": sum(values), "count": len(values)}).to_shareable()
