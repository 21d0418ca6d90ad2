"""A workflow that fetches the first global model from a site."""

from __future__ import annotations

from hansa.apis.app_constant import AppConstants
from hansa.apis.controller_spec import ClientTask
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.response_processors.global_weights_initializer import GlobalWeightsInitializer, WeightMethod
from hansa.components.workflows.broadcast_and_process import BroadcastAndProcess
from hansa.components.workflows.contribution import failure_of


class InitializeGlobalWeights(BroadcastAndProcess):
    """Asks the sites for their weights and leaves one site's to the workflows that follow.

    "first" are the weights of the first site by name that has sent some (see `BroadcastAndProcess`). A site whose task
    fails is left out, with a line in the log; the others stand.

    Args:
        task_name: The task that sites execute; they answer with a DXO of WEIGHTS.
        min_responses_required: How many answers are enough; 0 for those of all sites that are asked.
        wait_time_after_min_received: Seconds that the others get once enough have answered.
        task_timeout: Seconds until it ends whoever has answered; 0 for never.
        weights_prop_name: The sticky property that gets the model.
        weight_method: A `WeightMethod`: "first" or "client".
        weights_client_name: The site, for "client".
        clients: Names of the sites that are asked; None for all.

    Raises:
        TypeError: An argument is of another type.
        ValueError: No such method, no site for it, or a number is out of range.
    """

    def __init__(
        self,
        task_name: str = AppConstants.TASK_GET_WEIGHTS,
        min_responses_required: int = 0,
        wait_time_after_min_received: int = 0,
        task_timeout: int = 0,
        weights_prop_name: str = AppConstants.GLOBAL_MODEL,
        weight_method: str = WeightMethod.FIRST,
        weights_client_name: str | None = None,
        clients: list[str] | None = None,
    ) -> None:
        super().__init__(
            GlobalWeightsInitializer(weights_prop_name, weight_method, weights_client_name or ""),
            task_name,
            min_responses_required,
            wait_time_after_min_received,
            task_timeout,
            clients,
        )

    def _process(self, client_task: ClientTask, result: Shareable, fl_ctx: FLContext) -> None:
        failure = failure_of(result)
        if failure is None:
            super()._process(client_task, result, fl_ctx)
        else:
            site = client_task.client.name
            self.log_error(fl_ctx, f"{site}: task {self.task_name}: {failure}; its weights are left out")
