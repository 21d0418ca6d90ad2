import numpy as np
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor


class OnesPersistor(ModelPersistor):
    def load_model(self, fl_ctx):
        return make_model_learnable({"w": np.ones(3, np.float32)}, {})

    def save_model(self, model, fl_ctx):
        pass
