from nvflare.apis.dxo import from_shareable
from nvflare.apis.impl.controller import Controller, Task
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants


class GatherWeights(Controller):
    """Takes the mean of the sites' own weights as the initial global model."""

    def __init__(self, min_clients):
        super().__init__()
        self._min_clients = min_clients
        self._weights = {}

    def start_controller(self, fl_ctx):
        self._weights.clear()

    def control_flow(self, abort_signal, fl_ctx):
        task = Task(AppConstants.TASK_GET_WEIGHTS, Shareable(), result_received_cb=self._keep)
        self.broadcast_and_wait(task, fl_ctx, min_responses=self._min_clients, abort_signal=abort_signal)
        mean = sum(self._weights[name] for name in sorted(self._weights)) / len(self._weights)
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable({"w": mean}, {}), private=True, sticky=True)
        fl_ctx.sync_sticky()

    def _keep(self, client_task, fl_ctx):
        self._weights[client_task.client.name] = from_shareable(client_task.result).data["w"]

    def stop_controller(self, fl_ctx):
        pass

    def process_result_of_unknown_task(self, client, task_name, client_task_id, result, fl_ctx):
        pass
