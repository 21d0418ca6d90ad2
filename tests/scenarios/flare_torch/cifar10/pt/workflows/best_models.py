import json
import os

from nvflare.apis.client import Client
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import ClientTask, Controller, Task
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants, ModelName, ValidateType


class BestModels(Controller):
    """Asks every site for its best model, lets all measure the first one's, and writes down what they say."""

    def __init__(self, model_locator_id: str = "model_locator"):
        super().__init__()
        self.model_locator_id = model_locator_id
        self.models = {}
        self.scores = {}

    def start_controller(self, fl_ctx: FLContext):
        self.locator = fl_ctx.get_engine().get_component(self.model_locator_id)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext):
        request = Shareable()
        request.set_header(AppConstants.SUBMIT_MODEL_NAME, ModelName.BEST_MODEL)
        self._ask(AppConstants.TASK_SUBMIT_MODEL, request, self._receive_model, fl_ctx, abort_signal)
        for owner in [min(self.models), *self.locator.get_model_names(fl_ctx)]:
            dxo = self.models.get(owner) or self.locator.locate_model(owner, fl_ctx)
            question = DXO(DataKind.WEIGHTS, dxo.data).to_shareable()
            question.set_header(AppConstants.VALIDATE_TYPE, ValidateType.MODEL_VALIDATE)
            question.set_header(AppConstants.MODEL_OWNER, owner)
            question.add_cookie(AppConstants.MODEL_OWNER, owner)
            self._ask(AppConstants.TASK_VALIDATION, question, self._receive_score, fl_ctx, abort_signal)
        with open(os.path.join(fl_ctx.get_prop(FLContextKey.APP_ROOT), "scores.json"), "w") as file:
            json.dump(self.scores, file)

    def _ask(self, name, data, receive, fl_ctx, abort_signal):
        targets = fl_ctx.get_engine().get_clients()
        task = Task(name=name, data=data, result_received_cb=receive)
        self.broadcast_and_wait(task=task, targets=targets, min_responses=0, fl_ctx=fl_ctx, abort_signal=abort_signal)

    def _receive_model(self, client_task: ClientTask, fl_ctx: FLContext):
        if client_task.result.get_return_code() == ReturnCode.OK:
            self.models[client_task.client.name] = from_shareable(client_task.result)
        client_task.result = None

    def _receive_score(self, client_task: ClientTask, fl_ctx: FLContext):
        owner = client_task.result.get_cookie(AppConstants.MODEL_OWNER)
        score = from_shareable(client_task.result).data["val_accuracy"]
        self.scores.setdefault(owner, {})[client_task.client.name] = score

    def stop_controller(self, fl_ctx: FLContext):
        self.models.clear()

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ):
        self.log_warning(fl_ctx, f"{client.name} is late with {task_name}")
