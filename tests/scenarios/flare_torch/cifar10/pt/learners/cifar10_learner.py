import copy
import os

import numpy as np
import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.learner_spec import Learner
from nvflare.app_common.app_constant import AppConstants, ModelName, ValidateType
from nvflare.app_common.pt.pt_fedproxloss import PTFedProxLoss
from pt.data.cifar10_idx import CIFAR10_Idx, load_cifar10, site_indices
from pt.networks.cifar10_nets import ModerateCNN
from torch import optim
from torch.utils.data import DataLoader


class CIFAR10Learner(Learner):
    def __init__(
        self,
        dataset_root: str = "./dataset",
        aggregation_epochs: int = 1,
        train_task_name: str = AppConstants.TASK_TRAIN,
        submit_model_task_name: str = AppConstants.TASK_SUBMIT_MODEL,
        lr: float = 1e-2,
        fedproxloss_mu: float = 0.0,
        central: bool = False,
        analytic_sender_id: str = "analytic_sender",
    ):
        super().__init__()
        self.dataset_root = dataset_root
        self.aggregation_epochs = aggregation_epochs
        self.train_task_name = train_task_name
        self.submit_model_task_name = submit_model_task_name
        self.lr = lr
        self.fedproxloss_mu = fedproxloss_mu
        self.central = central
        self.analytic_sender_id = analytic_sender_id
        self.best_acc = 0.0
        self.writer = None
        self.epoch_of_start_time = 0
        self.epoch_global = 0

    def initialize(self, parts: dict, fl_ctx: FLContext):
        self.app_root = fl_ctx.get_prop(FLContextKey.APP_ROOT)
        fl_args = fl_ctx.get_prop(FLContextKey.ARGS)
        self.client_id = fl_ctx.get_identity_name()
        self.log_info(fl_ctx, f"Client {self.client_id} initialized at \n {self.app_root} \n with args: {fl_args}")
        self.local_model_file = os.path.join(self.app_root, "local_model.pt")
        self.best_local_model_file = os.path.join(self.app_root, "best_local_model.pt")

        self.writer = parts.get(self.analytic_sender_id)
        if not self.writer:
            self.system_panic(f"no component {self.analytic_sender_id}", fl_ctx)
            return

        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.model = ModerateCNN(seed=1).to(self.device)
        self.optimizer = optim.SGD(self.model.parameters(), lr=self.lr, momentum=0.9)
        self.criterion = torch.nn.CrossEntropyLoss()
        if self.fedproxloss_mu > 0:
            self.log_info(fl_ctx, f"using FedProx loss with mu {self.fedproxloss_mu}")
            self.criterion_prox = PTFedProxLoss(mu=self.fedproxloss_mu)

        _, labels = load_cifar10(self.dataset_root)
        own = None if self.central else site_indices(labels, int(self.client_id.split("-")[1]))
        self.train_dataset = CIFAR10_Idx(root=self.dataset_root, data_idx=own, train=True)
        self.valid_dataset = CIFAR10_Idx(root=self.dataset_root, train=False)
        self.train_loader = DataLoader(self.train_dataset, batch_size=16, shuffle=True)
        self.valid_loader = DataLoader(self.valid_dataset, batch_size=64, shuffle=False)

    def finalize(self, fl_ctx: FLContext):
        self.log_info(fl_ctx, f"{self.client_id} has trained {self.epoch_of_start_time} epochs")

    def abort(self, fl_ctx: FLContext):
        self.log_info(fl_ctx, f"{self.client_id} was told to abort")

    def local_train(self, fl_ctx, train_loader, model_global, abort_signal: Signal, val_freq: int = 0):
        for epoch in range(self.aggregation_epochs):
            if abort_signal.triggered:
                return
            self.model.train()
            epoch_len = len(train_loader)
            self.epoch_global = self.epoch_of_start_time + epoch
            for i, (inputs, labels) in enumerate(train_loader):
                if abort_signal.triggered:
                    return
                loss = self.train_step(inputs.to(self.device), labels.to(self.device), model_global)
                self.writer.add_scalar("train_loss", loss, epoch_len * self.epoch_global + i)
            if val_freq > 0 and epoch % val_freq == 0:
                acc = self.local_valid(self.valid_loader, abort_signal, tb_id="val_acc_local_model")
                if acc > self.best_acc:
                    self.best_acc = acc
                    self.save_model(is_best=True)

    def train_step(self, inputs, labels, model_global):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(inputs), labels)
        if self.fedproxloss_mu > 0:
            loss += self.criterion_prox(self.model, model_global)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def save_model(self, is_best=False):
        save_dict = {"model_weights": self.model.state_dict(), "epoch": self.epoch_global}
        if is_best:
            save_dict.update({"best_acc": self.best_acc})
            torch.save(save_dict, self.best_local_model_file)
        else:
            torch.save(save_dict, self.local_model_file)

    def load_global(self, global_weights):
        """Load what has come, in the shapes of the local model, and leave it in these shapes for the difference."""
        local_var_dict = self.model.state_dict()
        for var_name in local_var_dict:
            if var_name in global_weights:
                try:
                    global_weights[var_name] = np.reshape(global_weights[var_name], local_var_dict[var_name].shape)
                    local_var_dict[var_name] = torch.as_tensor(global_weights[var_name])
                except Exception as e:
                    raise ValueError(f"Convert weight from {var_name} failed with error: {e}") from e
        self.model.load_state_dict(local_var_dict)

    def load_for_validation(self, weights):
        """Load a model of anybody's, which may have come as tensors."""
        local_var_dict = self.model.state_dict()
        for var_name in local_var_dict:
            if var_name in weights:
                value = torch.as_tensor(weights[var_name], device=self.device)
                local_var_dict[var_name] = torch.reshape(value, local_var_dict[var_name].shape)
        self.model.load_state_dict(local_var_dict)

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        current_round = data.get_header(AppConstants.CURRENT_ROUND)
        total_rounds = data.get_header(AppConstants.NUM_ROUNDS)
        self.log_info(fl_ctx, f"Current/Total Round: {current_round + 1}/{total_rounds}")

        global_weights = from_shareable(data).data
        self.load_global(global_weights)
        model_global = copy.deepcopy(self.model)
        for param in model_global.parameters():
            param.requires_grad = False

        self.local_train(
            fl_ctx=fl_ctx,
            train_loader=self.train_loader,
            model_global=model_global,
            abort_signal=abort_signal,
            val_freq=1 if self.central else 0,
        )
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        self.epoch_of_start_time += self.aggregation_epochs

        acc = self.local_valid(self.valid_loader, abort_signal, tb_id="val_acc_local_model")
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        self.log_info(fl_ctx, f"val_acc_local_model: {acc:.4f}")
        self.save_model(is_best=False)
        if acc > self.best_acc:
            self.best_acc = acc
            self.save_model(is_best=True)
        return self.difference_from(global_weights, fl_ctx)

    def difference_from(self, global_weights, fl_ctx: FLContext) -> Shareable:
        local_weights = self.model.state_dict()
        model_diff = {}
        for name in global_weights:
            if name not in local_weights:
                continue
            model_diff[name] = local_weights[name].cpu().numpy() - global_weights[name]
            if np.any(np.isnan(model_diff[name])):
                self.system_panic(f"{name} weights became NaN...", fl_ctx)
                return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        dxo = DXO(data_kind=DataKind.WEIGHT_DIFF, data=model_diff)
        dxo.set_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, len(self.train_loader))
        return dxo.to_shareable()

    def get_model_for_validation(self, model_name: str, fl_ctx: FLContext) -> Shareable:
        if model_name != ModelName.BEST_MODEL:
            raise ValueError(f"Unknown model_type: {model_name}")
        try:
            model_data = torch.load(self.best_local_model_file, map_location="cpu")
        except OSError as e:
            self.log_error(fl_ctx, f"Unable to load best model: {e}")
            return make_reply(ReturnCode.EXECUTION_RESULT_ERROR)
        return DXO(data_kind=DataKind.WEIGHTS, data=model_data["model_weights"]).to_shareable()

    def local_valid(self, valid_loader, abort_signal: Signal, tb_id=None):
        self.model.eval()
        with torch.no_grad():
            correct, total = 0, 0
            for batch in valid_loader:
                if abort_signal.triggered:
                    return None
                inputs, labels = batch[0].to(self.device), batch[1].to(self.device)
                _, pred_label = torch.max(self.model(inputs).data, 1)
                total += inputs.data.size()[0]
                correct += (pred_label == labels.data).sum().item()
            metric = correct / float(total)
            if tb_id:
                self.writer.add_scalar(tb_id, metric, self.epoch_global)
        return metric

    def validate(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        model_owner = data.get_header(AppConstants.MODEL_OWNER)
        self.load_for_validation(from_shareable(data).data)
        validate_type = data.get_header(AppConstants.VALIDATE_TYPE)
        if validate_type == ValidateType.BEFORE_TRAIN_VALIDATE:
            global_acc = self.local_valid(self.valid_loader, abort_signal, tb_id="val_acc_global_model")
            if abort_signal.triggered:
                return make_reply(ReturnCode.TASK_ABORTED)
            self.log_info(fl_ctx, f"val_acc_global_model ({model_owner}): {global_acc}")
            return DXO(data_kind=DataKind.METRICS, data={MetaKey.INITIAL_METRICS: global_acc}).to_shareable()
        if validate_type == ValidateType.MODEL_VALIDATE:
            acc = self.local_valid(self.valid_loader, abort_signal)
            if abort_signal.triggered:
                return make_reply(ReturnCode.TASK_ABORTED)
            return DXO(data_kind=DataKind.METRICS, data={"val_accuracy": acc}).to_shareable()
        return make_reply(ReturnCode.VALIDATE_TYPE_UNKNOWN)
