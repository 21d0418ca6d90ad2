"""Torch checkpoints of the server, for evaluation across sites."""

from __future__ import annotations

from hansa.apis.dxo import DXO
from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, model_learnable_to_dxo
from hansa.apis.model_locator import ModelLocator
from hansa.apis.model_persistor import ModelPersistor


class PTFileModelLocator(ModelLocator):
    """Serves the models that a persistor has saved, by the names of their files.

    Args:
        pt_persistor_id: Component id of the `PTFileModelPersistor`; a run without it ends with one line.
    """

    hears = frozenset((EventType.START_RUN,))

    def __init__(self, pt_persistor_id: str) -> None:
        super().__init__()
        self.pt_persistor_id = pt_persistor_id

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Look for the persistor when the run starts."""
        if event_type == EventType.START_RUN:
            self._persistor(fl_ctx)

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """The names in the persistor's inventory."""
        persistor = self._persistor(fl_ctx)
        return list(persistor.get_model_inventory(fl_ctx)) if persistor else []

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO | None:
        """One of these models as weights; None where it is not there or cannot be read."""
        persistor = self._persistor(fl_ctx)
        model = persistor.get_model(model_name, fl_ctx) if persistor else None
        return model_learnable_to_dxo(model) if isinstance(model, ModelLearnable) else None

    def _persistor(self, fl_ctx: FLContext) -> ModelPersistor | None:
        persistor = fl_ctx.get_engine().get_component(self.pt_persistor_id)
        if isinstance(persistor, ModelPersistor):
            return persistor
        found = "there is none" if persistor is None else f"it is a {type(persistor).__name__}"
        reason = f"{self._name}: component {self.pt_persistor_id!r} must be a ModelPersistor, but {found}"
        self.system_panic(reason, fl_ctx)
        return None
