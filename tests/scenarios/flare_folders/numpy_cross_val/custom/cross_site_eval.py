import json
import os

from nvflare.apis.client import Client
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import ClientTask, Controller, Task
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants, ModelName


class CrossSiteEval(Controller):
    """Every site's model, and the server's, on every site's data."""

    def __init__(self, persistor_id="persistor", submit_model_timeout=600, validation_timeout=6000):
        super().__init__(task_check_period=0.5)
        self._persistor_id = persistor_id
        self._submit_model_timeout = submit_model_timeout
        self._validation_timeout = validation_timeout
        self._models = {}
        self._results = {}

    def start_controller(self, fl_ctx: FLContext):
        self._persistor = fl_ctx.get_engine().get_component(self._persistor_id)
        if self._persistor is None:
            self.system_panic("no persistor", fl_ctx)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext):
        request = Shareable()
        request.set_header(AppConstants.SUBMIT_MODEL_NAME, ModelName.BEST_MODEL)
        self.broadcast_and_wait(
            task=Task(
                name=AppConstants.TASK_SUBMIT_MODEL,
                data=request,
                result_received_cb=self._take_model,
                timeout=self._submit_model_timeout,
            ),
            fl_ctx=fl_ctx,
            targets=[client.name for client in fl_ctx.get_engine().get_clients()],
            min_responses=0,
            abort_signal=abort_signal,
        )
        self._models["SRV_server"] = DXO(DataKind.WEIGHTS, data={"numpy_key": self._persistor.saved})
        for owner, dxo in self._models.items():
            if abort_signal.triggered:
                return
            data = dxo.to_shareable()
            data.set_header(AppConstants.MODEL_OWNER, owner)
            data.add_cookie(AppConstants.MODEL_OWNER, owner)
            task = Task(
                name=AppConstants.TASK_VALIDATION,
                data=data,
                result_received_cb=self._take_result,
                timeout=self._validation_timeout,
            )
            clients = [client.name for client in fl_ctx.get_engine().get_clients()]
            self.broadcast_and_wait(task, fl_ctx, targets=clients, min_responses=0, abort_signal=abort_signal)

    def stop_controller(self, fl_ctx: FLContext):
        run_dir = fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_prop(FLContextKey.CURRENT_RUN))
        folder = os.path.join(run_dir, AppConstants.CROSS_VAL_DIR)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "cross_val_results.json"), "w") as file:
            json.dump(self._results, file)

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ):
        self.log_error(fl_ctx, f"nobody waits for {task_name} of {client.name}")

    def _take_model(self, client_task: ClientTask, fl_ctx: FLContext):
        result = client_task.result
        if result.get_return_code() == ReturnCode.OK:
            self._models[client_task.client.name] = from_shareable(result)
        client_task.result = None

    def _take_result(self, client_task: ClientTask, fl_ctx: FLContext):
        owner = client_task.result.get_cookie(AppConstants.MODEL_OWNER)
        metrics = from_shareable(client_task.result).data
        self._results.setdefault(client_task.client.name, {})[owner] = metrics
        client_task.result = None
