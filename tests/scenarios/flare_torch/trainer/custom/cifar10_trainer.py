import os

import torch
from image_data import load_images
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.model import make_model_learnable, model_learnable_to_dxo
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.pt.pt_fed_utils import PTModelPersistenceFormatManager
from simple_network import SimpleNetwork
from torch import nn
from torch.utils.data import DataLoader


class Cifar10Trainer(Executor):
    """Trains the global model on the site's images, and hands in by how much it has changed."""

    def __init__(
        self,
        lr=0.01,
        epochs=5,
        train_task_name=AppConstants.TASK_TRAIN,
        submit_model_task_name=AppConstants.TASK_SUBMIT_MODEL,
        exclude_vars=None,
    ):
        super().__init__()
        self._lr = lr
        self._epochs = epochs
        self._train_task_name = train_task_name
        self._submit_model_task_name = submit_model_task_name
        self._exclude_vars = exclude_vars

    def handle_event(self, event_type: str, fl_ctx: FLContext):
        if event_type == EventType.START_RUN:
            self._initialize(fl_ctx)
        elif event_type == EventType.ABORT_TASK:
            self.log_info(fl_ctx, "told to abort")
        elif event_type == EventType.END_RUN:
            self.train_loader = None

    def _initialize(self, fl_ctx: FLContext):
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.model = SimpleNetwork()
        self.model.to(self.device)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self._lr, momentum=0.9)
        site = int(fl_ctx.get_identity_name().split("-")[1])
        self.train_loader = DataLoader(load_images(site), batch_size=16, shuffle=True)
        self.n_iterations = len(self.train_loader) * self._epochs
        self.default_train_conf = {"train": {"model": type(self.model).__name__}}
        self.persistence_manager = PTModelPersistenceFormatManager(
            data=self.model.state_dict(), default_train_conf=self.default_train_conf
        )

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        try:
            if task_name == self._train_task_name:
                return self._train(shareable, fl_ctx, abort_signal)
            if task_name == self._submit_model_task_name:
                return self._submit_model(fl_ctx)
            return make_reply(ReturnCode.TASK_UNKNOWN)
        except Exception as e:
            self.log_exception(fl_ctx, f"Exception in trainer: {e}")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)

    def _train(self, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        try:
            dxo = from_shareable(shareable)
        except ValueError:
            self.log_error(fl_ctx, "Unable to extract dxo from shareable.")
            return make_reply(ReturnCode.BAD_TASK_DATA)
        if dxo.data_kind != DataKind.WEIGHTS:
            self.log_error(fl_ctx, f"data_kind expected WEIGHTS but got {dxo.data_kind} instead.")
            return make_reply(ReturnCode.BAD_TASK_DATA)

        torch_weights = {k: torch.as_tensor(v) for k, v in dxo.data.items()}
        self.local_train(fl_ctx, torch_weights, abort_signal)
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        self._save_local_model(fl_ctx)

        diff = {k: v.cpu().numpy() - dxo.data[k] for k, v in self.model.state_dict().items()}
        outgoing = DXO(
            data_kind=DataKind.WEIGHT_DIFF,
            data=diff,
            meta={MetaKey.NUM_STEPS_CURRENT_ROUND: self.n_iterations},
        )
        return outgoing.to_shareable()

    def local_train(self, fl_ctx: FLContext, weights, abort_signal: Signal):
        self.model.load_state_dict(state_dict=weights)
        self.model.train()
        for epoch in range(self._epochs):
            running_loss = 0.0
            for batch in self.train_loader:
                if abort_signal.triggered:
                    self.log_info(fl_ctx, f"aborted in epoch {epoch}")
                    return
                images, labels = batch[0].to(self.device), batch[1].to(self.device)
                self.optimizer.zero_grad()
                cost = self.loss(self.model(images), labels)
                cost.backward()
                self.optimizer.step()
                running_loss += cost.cpu().detach().numpy() / len(self.train_loader)
            if epoch % 10 == 0:
                self.log_info(fl_ctx, f"Epoch: {epoch}/{self._epochs}, Loss: {running_loss:.4f}")

    def _submit_model(self, fl_ctx: FLContext) -> Shareable:
        self.persistence_manager = PTModelPersistenceFormatManager(
            data=torch.load(self._local_model_file(fl_ctx)), default_train_conf=self.default_train_conf
        )
        model = self.persistence_manager.to_model_learnable(exclude_vars=self._exclude_vars)
        return model_learnable_to_dxo(model).to_shareable()

    def _save_local_model(self, fl_ctx: FLContext):
        path = self._local_model_file(fl_ctx)
        if not os.path.exists(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
        self.persistence_manager.update(make_model_learnable(self.model.state_dict(), {}))
        torch.save(self.persistence_manager.to_persistence_dict(), path)

    def _local_model_file(self, fl_ctx: FLContext):
        workspace = fl_ctx.get_engine().get_workspace()
        run_dir = workspace.get_run_dir(fl_ctx.get_prop(ReservedKey.RUN_NUM))
        return os.path.join(run_dir, "models", "local_model.pt")
