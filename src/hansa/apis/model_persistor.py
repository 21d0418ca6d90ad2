"""The contract of whatever keeps the global model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

from hansa.apis.fl_context import FLContext
from hansa.apis.learnable import Learnable
from hansa.apis.learnable_persistor import LearnablePersistor
from hansa.apis.model import ModelLearnable
from hansa.apis.model_desc import ModelDescriptor


class ModelPersistor(LearnablePersistor, ABC):
    """A persistor of models: override `load_model` and `save_model`, and the inventory where there is one."""

    def load(self, fl_ctx: FLContext) -> ModelLearnable:
        """The model to start from; what `load_model` gives."""
        return self.load_model(fl_ctx)

    def save(self, learnable: Learnable, fl_ctx: FLContext) -> None:
        """Keep this version, by `save_model`."""
        # Not checked: a workflow of models hands models over, and FLARE passes on whatever comes.
        self.save_model(cast(ModelLearnable, learnable), fl_ctx)

    @abstractmethod
    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        """The model to start from; an empty one where there is none yet."""

    @abstractmethod
    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        """Keep this version; called with every committed one."""

    def get_model_inventory(self, fl_ctx: FLContext) -> dict[str, ModelDescriptor]:
        """The stored models by name; none unless overridden."""
        return {}

    def get_model(self, model_file: str, fl_ctx: FLContext) -> object:
        """One of the stored models; None unless overridden."""
        return None
