import json
import os

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.learner_spec import Learner
from nvflare.app_common.app_constant import AppConstants, ValidateType
from nvflare.app_common.widgets.streaming import AnalyticsSender


class CounterLearner(Learner):
    """Reports its number of steps as the difference of every weight."""

    def __init__(self, train_config_filename, analytic_sender_id="analytic_sender"):
        super().__init__()
        self.train_config_filename = train_config_filename
        self.analytic_sender_id = analytic_sender_id

    def initialize(self, parts: dict, fl_ctx: FLContext):
        app_root = fl_ctx.get_prop(FLContextKey.APP_ROOT)
        with open(os.path.join(app_root, "config", self.train_config_filename)) as file:
            self.num_steps = json.load(file)["steps"][fl_ctx.get_identity_name()]
        self.writer = parts.get(self.analytic_sender_id)
        if not isinstance(self.writer, AnalyticsSender):
            self.system_panic("no AnalyticsSender among the parts", fl_ctx)

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        current_round = data.get_header(AppConstants.CURRENT_ROUND)
        self.writer.add_scalar("steps", float(self.num_steps), current_round)
        incoming = from_shareable(data)
        diff = {name: np.full_like(value, self.num_steps) for name, value in incoming.data.items()}
        dxo = DXO(data_kind=DataKind.WEIGHT_DIFF, data=diff)
        dxo.set_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, self.num_steps)
        return dxo.to_shareable()

    def validate(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if data.get_header(AppConstants.VALIDATE_TYPE) != ValidateType.BEFORE_TRAIN_VALIDATE:
            return make_reply(ReturnCode.VALIDATE_TYPE_UNKNOWN)
        score = float(from_shareable(data).data["w"].sum())
        return DXO(DataKind.METRICS, data={MetaKey.INITIAL_METRICS: score}).to_shareable()
