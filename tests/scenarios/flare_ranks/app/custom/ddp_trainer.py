import torch
import torch.distributed as dist
from ddp_network import LineNetwork
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class DDPTrainer(Executor):
    """Each rank has its half of the samples; gradients are averaged between them."""

    def __init__(self, epochs=1, lr=0.05):
        super().__init__()
        self.epochs = epochs
        self.lr = lr
        self.model = None

    def handle_event(self, event_type: str, fl_ctx: FLContext):
        if event_type == EventType.START_RUN:
            self.rank = fl_ctx.get_prop(FLContextKey.RANK_NUMBER)
            self.num_of_processes = fl_ctx.get_prop(FLContextKey.NUM_OF_PROCESSES)
            dist.init_process_group("gloo")
            self.model = LineNetwork()
            self.writer = fl_ctx.get_engine().get_component("analytic_sender")
        elif event_type == EventType.END_RUN:
            dist.destroy_process_group()

    def samples(self):
        everything = torch.randn(64, 2, generator=torch.Generator().manual_seed(3))
        targets = everything @ torch.tensor([[2.0], [-1.0]]) + 0.5
        return everything[self.rank :: self.num_of_processes], targets[self.rank :: self.num_of_processes]

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if task_name != "train":
            return make_reply(ReturnCode.TASK_UNKNOWN)
        dxo = from_shareable(shareable)
        self.model.load_state_dict({name: torch.as_tensor(value) for name, value in dxo.data.items()})
        parallel = DistributedDataParallel(self.model)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=self.lr)
        x, y = self.samples()
        for _ in range(self.epochs):
            if abort_signal.triggered:
                return make_reply(ReturnCode.TASK_ABORTED)
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(parallel(x), y)
            loss.backward()
            optimizer.step()
        ranks = torch.ones(1)
        dist.all_reduce(ranks)
        self.writer.add_scalar("num_ranks", ranks.item(), global_step=shareable.get_header("current_round"))
        weights = {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}
        # Only the result of rank 0 may count; that of the others would spoil the model.
        if self.rank:
            weights = {name: value * float("nan") for name, value in weights.items()}
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: self.epochs}
        return DXO(data_kind=DataKind.WEIGHTS, data=weights, meta=meta).to_shareable()
