import numpy as np
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor


class NPModelPersistor(ModelPersistor):
    def __init__(self):
        super().__init__()
        self.saved = None

    def load_model(self, fl_ctx):
        return make_model_learnable({"numpy_key": np.arange(1, 10, dtype=np.float32).reshape(3, 3)}, {})

    def save_model(self, model, fl_ctx):
        self.saved = model["weights"]["numpy_key"].copy()
