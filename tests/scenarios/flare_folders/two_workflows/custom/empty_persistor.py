from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor


class EmptyPersistor(ModelPersistor):
    """Knows no initial model: a workflow before must bring one."""

    def load_model(self, fl_ctx):
        return make_model_learnable({}, {})

    def save_model(self, model, fl_ctx):
        pass
