from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal


class NPValidator(Executor):
    """A site's data are its number: the metric is how far the model's mean is from it."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        model = from_shareable(shareable).data["numpy_key"]
        number = int(fl_ctx.get_prop(ReservedKey.IDENTITY_NAME).rpartition("-")[2])
        return DXO(DataKind.METRICS, data={"distance": abs(float(model.mean()) - number)}).to_shareable()
