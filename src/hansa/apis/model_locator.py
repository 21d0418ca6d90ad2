"""The contract of whatever knows the server's models."""

from __future__ import annotations

from hansa.apis.dxo import DXO
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext


class ModelLocator(FLComponent):
    """Names the server's models and fetches them, for evaluation across sites."""

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """The models there are; none unless overridden."""
        return []

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO | None:
        """One of the models.

        Returns:
            Its weights, or None where it cannot be found, which ends the run of a workflow that needs it.
        """
        return None
