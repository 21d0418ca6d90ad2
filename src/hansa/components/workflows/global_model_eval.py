"""Evaluation of the server's models on every site's data."""

from __future__ import annotations

from hansa.apis.app_constant import AppConstants
from hansa.components.workflows.cross_site_model_eval import CrossSiteModelEval


class GlobalModelEval(CrossSiteModelEval):
    """`CrossSiteModelEval` with the server's models alone: no site is asked for one.

    Args:
        task_check_period: As there, like all others.
        cross_val_dir: Likewise.
        validation_timeout: Likewise.
        model_locator_id: Likewise, but compulsory.
        formatter_id: Likewise.
        validation_task_name: Likewise.
        cleanup_models: Likewise.
        participating_clients: Likewise.
        wait_for_clients_timeout: Likewise.

    Raises:
        TypeError: An argument is of another type.
        ValueError: There is no locator, or a number is out of range.
    """

    def __init__(
        self,
        task_check_period: float = 0.5,
        cross_val_dir: str = AppConstants.CROSS_VAL_DIR,
        validation_timeout: int = 6000,
        model_locator_id: str = "",
        formatter_id: str = "",
        validation_task_name: str = AppConstants.TASK_VALIDATION,
        cleanup_models: bool = False,
        participating_clients: list[str] | None = None,
        wait_for_clients_timeout: int = 300,
    ) -> None:
        if not model_locator_id:
            raise ValueError("GlobalModelEval needs a model_locator_id")
        super().__init__(
            task_check_period=task_check_period,
            cross_val_dir=cross_val_dir,
            validation_timeout=validation_timeout,
            model_locator_id=model_locator_id,
            formatter_id=formatter_id,
            submit_model_task_name="",
            validation_task_name=validation_task_name,
            cleanup_models=cleanup_models,
            participating_clients=participating_clients,
            wait_for_clients_timeout=wait_for_clients_timeout,
        )
