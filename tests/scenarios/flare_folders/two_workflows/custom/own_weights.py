import numpy as np
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor
from nvflare.app_common.app_constant import AppConstants


class OwnWeights(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        if task_name == AppConstants.TASK_GET_WEIGHTS:
            number = float(fl_ctx.get_identity_name()[len("site-") :])
            return DXO(DataKind.WEIGHTS, {"w": np.full(3, number)}).to_shareable()
        dxo = from_shareable(shareable)
        dxo.data["w"] += 1
        return dxo.to_shareable()
