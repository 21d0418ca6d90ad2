import torch
from line_net import LineNet
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal


class LineTrainer(Executor):
    """Moves the weight by the number of its site, and the statistics by a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step
        self.model = LineNet()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if task_name != "train":
            return make_reply(ReturnCode.TASK_UNKNOWN)
        received = from_shareable(shareable).data
        self.model.load_state_dict({name: torch.as_tensor(value) for name, value in received.items()})
        number = int(fl_ctx.get_identity_name().rpartition("-")[2])
        with torch.no_grad():
            self.model.weight += number
            self.model.norm.running_mean += self.step
            self.model.norm.num_batches_tracked += number
        trained = {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}
        diff = {name: trained[name] - received[name] for name in received}
        dxo = DXO(data_kind=DataKind.WEIGHT_DIFF, data=diff)
        dxo.set_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, 1)
        dxo.set_meta_prop(MetaKey.INITIAL_METRICS, float(received["weight"][0]))
        return dxo.to_shareable()
