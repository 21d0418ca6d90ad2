import numpy as np
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor


class TypedPersistor(ModelPersistor):
    def __init__(self, start, keep, label, pattern):
        super().__init__()
        got = (type(start), start, keep, label, pattern)
        if got != (float, 2.5, True, "trial-4 at 2.50", "^fc{1,2}$"):
            raise TypeError(f"got {got}")
        self.start = start

    def load_model(self, fl_ctx):
        return make_model_learnable({"w": np.full(2, self.start)}, {})

    def save_model(self, model, fl_ctx):
        pass
