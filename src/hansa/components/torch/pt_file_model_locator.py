"""Torch checkpoints of the server, for evaluation across sites."""

from __future__ import annotations

from typing import final

from hansa.apis.event_type import EventType
from hansa.apis.fl_context import FLContext
from hansa.components.np_model import NPModelLocator


@final
class PTFileModelLocator(NPModelLocator):
    """Serves the models that a persistor has saved, by the names of their files.

    Args:
        pt_persistor_id: Component id of the `PTFileModelPersistor`; a run without it ends with one line.
    """

    hears = frozenset((EventType.START_RUN,))

    def __init__(self, pt_persistor_id: str) -> None:
        super().__init__(pt_persistor_id)
        self.pt_persistor_id = pt_persistor_id

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Look for the persistor when the run starts."""
        if event_type == EventType.START_RUN:
            self._persistor(fl_ctx)
