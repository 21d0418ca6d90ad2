import os

import numpy as np
from constants import NPConstants
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor


class NPModelPersistor(ModelPersistor):
    def __init__(self, model_dir="models", model_name="server.npy"):
        super().__init__()
        self._model_dir = model_dir
        self._model_name = model_name
        self._run_dir = None

    def handle_event(self, event: str, fl_ctx: FLContext):
        if event == EventType.START_RUN:
            engine = fl_ctx.get_engine()
            self._run_dir = engine.get_workspace().get_run_dir(fl_ctx.get_prop(FLContextKey.CURRENT_RUN))

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        data = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
        self.log_info(fl_ctx, f"initial model: {data}")
        return make_model_learnable(weights={NPConstants.NUMPY_KEY: data}, meta_props={})

    def save_model(self, model_learnable: ModelLearnable, fl_ctx: FLContext):
        folder = os.path.join(self._run_dir, self._model_dir)
        os.makedirs(folder, exist_ok=True)
        np.save(os.path.join(folder, self._model_name), model_learnable[ModelLearnableKey.WEIGHTS]["numpy_key"])
