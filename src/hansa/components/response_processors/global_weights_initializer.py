"""The first global model, from a site that has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.apis.app_constant import AppConstants
from hansa.apis.client import Client
from hansa.apis.dxo import DataKind
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.response_processor import ResponseProcessor
from hansa.apis.shareable import Shareable
from hansa.components.reported import dxo_of
from hansa.components.workflows.contribution import failure_of


class WeightMethod:
    """Whose weights are taken."""

    FIRST = "first"  # of the first response
    CLIENT = "client"  # of a site that is named


class GlobalWeightsInitializer(ResponseProcessor):
    """Takes one site's weights and leaves them as a model to the workflows that follow.

    Args:
        weights_prop_name: The sticky property that gets the `ModelLearnable`; ScatterAndGather and CyclicController
            begin with GLOBAL_MODEL where their persistor has no model.
        weight_method: A `WeightMethod`.
        client_name: The site, for `WeightMethod.CLIENT`.

    Raises:
        ValueError: No such method, or no site for it.
    """

    def __init__(
        self,
        weights_prop_name: str = AppConstants.GLOBAL_MODEL,
        weight_method: str = WeightMethod.FIRST,
        client_name: str = "",
    ) -> None:
        super().__init__()
        if weight_method not in (WeightMethod.FIRST, WeightMethod.CLIENT):
            raise ValueError(f"weight_method must be 'first' or 'client', but got {weight_method!r}")
        if weight_method == WeightMethod.CLIENT and not client_name:
            raise ValueError("weight_method 'client' needs a client_name")
        self.weights_prop_name = weights_prop_name
        self.weight_method = weight_method
        self.client_name = client_name
        self.final_weights: Mapping[str, Any] | None = None  # Any: arrays
        self._weights_of = ""

    def create_task_data(self, task_name: str, fl_ctx: FLContext) -> Shareable:
        """The question says nothing but the task's name."""
        return Shareable()

    def process_client_response(self, client: Client, task_name: str, response: Shareable, fl_ctx: FLContext) -> bool:
        """Look at a site's weights, and take them if they are the ones.

        Returns:
            False if there are none in the response.
        """
        problem = _problem_of(response)
        if problem is not None:
            self.log_error(fl_ctx, f"{client.name}: no weights can be taken from it: {problem}")
            return False
        is_wanted = self.weight_method == WeightMethod.FIRST or client.name == self.client_name
        if is_wanted and self.final_weights is None:
            dxo = dxo_of(response)
            assert dxo is not None
            self.final_weights, self._weights_of = dxo.data, client.name
        return True

    def final_process(self, fl_ctx: FLContext) -> bool:
        """Leave the model; False if nobody has sent one."""
        if self.final_weights is None:
            whose = f" of {self.client_name}" if self.weight_method == WeightMethod.CLIENT else ""
            self.log_error(fl_ctx, f"no weights{whose} have come, so there is no model to begin with")
            return False
        self.log_info(fl_ctx, f"the model begins with the weights of {self._weights_of}")
        model = make_model_learnable(dict(self.final_weights), {})
        fl_ctx.set_prop(self.weights_prop_name, model, private=True, sticky=True)
        return True


def _problem_of(response: object) -> str | None:
    """Why a response holds no weights; None if it does."""
    if not isinstance(response, Shareable):
        return f"it is a {type(response).__name__}"
    dxo = dxo_of(response)
    if dxo is None:
        return failure_of(response) or "it holds no DXO"
    if dxo.data_kind != DataKind.WEIGHTS:
        return f"its data is of kind {dxo.data_kind}, not WEIGHTS"
    return None if dxo.data else "it is empty"
