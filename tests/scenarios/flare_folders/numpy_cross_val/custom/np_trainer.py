from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import make_reply
from nvflare.app_common.app_constant import AppConstants, ModelName


class NPTrainer(Executor):
    """Every site adds `delta` in training; the model that it hands in for comparison is off by its own number."""

    def __init__(self, delta=1):
        super().__init__()
        self._delta = delta
        self._local = None

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        if task_name == AppConstants.TASK_TRAIN:
            self._local = from_shareable(shareable).data["numpy_key"] + self._delta
            dxo = DXO(DataKind.WEIGHTS, data={"numpy_key": self._local})
            dxo.set_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, 1)
            return dxo.to_shareable()
        if task_name == AppConstants.TASK_SUBMIT_MODEL:
            if shareable.get_header(AppConstants.SUBMIT_MODEL_NAME) != ModelName.BEST_MODEL:
                return make_reply(ReturnCode.MODEL_UNRECOGNIZED)
            number = int(fl_ctx.get_prop(FLContextKey.CLIENT_NAME).rpartition("-")[2])
            return DXO(DataKind.WEIGHTS, data={"numpy_key": self._local + number}).to_shareable()
        return make_reply(ReturnCode.TASK_UNKNOWN)
