import copy

import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AlgorithmConstants, AppConstants
from nvflare.app_common.pt.pt_scaffold import PTScaffoldHelper, get_lr_values
from pt.learners.cifar10_learner import CIFAR10Learner


class CIFAR10ScaffoldLearner(CIFAR10Learner):
    """The same learner with control variates."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scaffold_helper = PTScaffoldHelper()

    def initialize(self, parts: dict, fl_ctx: FLContext):
        super().initialize(parts=parts, fl_ctx=fl_ctx)
        self.scaffold_helper.init(model=self.model)

    def local_train(self, fl_ctx, train_loader, model_global, abort_signal: Signal, val_freq: int = 0):
        c_global_para, c_local_para = self.scaffold_helper.get_params()
        norm = sum(control.double().square().sum() for control in c_global_para.values()) ** 0.5
        self.writer.add_scalar("c_global_norm", float(norm), self.epoch_of_start_time)
        for epoch in range(self.aggregation_epochs):
            self.model.train()
            epoch_len = len(train_loader)
            self.epoch_global = self.epoch_of_start_time + epoch
            for i, (inputs, labels) in enumerate(train_loader):
                if abort_signal.triggered:
                    return
                loss = self.train_step(inputs.to(self.device), labels.to(self.device), model_global)
                curr_lr = get_lr_values(self.optimizer)[0]
                self.scaffold_helper.model_update(
                    model=self.model, curr_lr=curr_lr, c_global_para=c_global_para, c_local_para=c_local_para
                )
                self.writer.add_scalar("train_loss", loss, epoch_len * self.epoch_global + i)
        self.scaffold_helper.terms_update(
            model=self.model,
            curr_lr=curr_lr,
            c_global_para=c_global_para,
            c_local_para=c_local_para,
            model_global=model_global,
        )

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        dxo_collection = from_shareable(data)
        if dxo_collection.data_kind != DataKind.COLLECTION:
            self.log_error(fl_ctx, f"expected a collection of two DXOs but got data kind {dxo_collection.data_kind}.")
            return make_reply(ReturnCode.ERROR)
        dxo_global_weights = dxo_collection.data.get(AppConstants.MODEL_WEIGHTS)
        dxo_global_ctrl = dxo_collection.data.get(AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL)
        if dxo_global_ctrl is None:
            self.log_error(fl_ctx, "DXO collection doesn't contain the SCAFFOLD controls!")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        ctrl = dxo_global_ctrl.data
        for k in ctrl:
            ctrl[k] = torch.as_tensor(ctrl[k])
        self.scaffold_helper.load_global_controls(weights=ctrl)

        # What remains of the shareable is the model alone, which the parent class trains.
        result = super().train(dxo_global_weights.update_shareable(data), fl_ctx, abort_signal)
        if result.get_return_code() != ReturnCode.OK:
            return result
        dxo_diff = from_shareable(result)
        dxo_ctrl_diff = DXO(data_kind=DataKind.WEIGHT_DIFF, data=self.scaffold_helper.get_delta_controls())
        num_steps = dxo_diff.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND)
        dxo_ctrl_diff.set_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, num_steps)
        collection = {
            AppConstants.MODEL_WEIGHTS: dxo_diff,
            AlgorithmConstants.SCAFFOLD_CTRL_DIFF: dxo_ctrl_diff,
        }
        return DXO(data_kind=DataKind.COLLECTION, data=collection).to_shareable()

    def validate(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        dxo = from_shareable(data)
        if dxo.data_kind == DataKind.COLLECTION:
            data = copy.deepcopy(data)
            data = dxo.data.get(AppConstants.MODEL_WEIGHTS).update_shareable(data)
        return super().validate(data, fl_ctx, abort_signal)
