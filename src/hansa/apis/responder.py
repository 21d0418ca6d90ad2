"""What answers the sites: hands tasks out and takes results."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hansa.apis.client import Client
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class Responder(FLComponent, ABC):
    """The side of a workflow that faces the sites; a `Controller` is one.

    Attributes:
        workflow_index: The place of the workflow in its job, from 0; the first part of the ids of its client tasks.
            The runtime sets it.
        waits_for: What the control flow waits for, in one line, if it is not the answers to its tasks. Whoever finds
            that nothing can come any more says it.
    """

    workflow_index: int = 0
    waits_for: str | None = None

    def initialize_run(self, fl_ctx: FLContext) -> None:
        """Called before the first request."""

    @abstractmethod
    def process_task_request(self, client: Client, fl_ctx: FLContext) -> tuple[str, str, Shareable | None]:
        """Answer a site that asks for work.

        Returns:
            Task name, id and data; `("", "", None)` where there is nothing to do.
        """

    def candidates(self) -> list[str] | None:
        """The sites, by code point, that `process_task_request` might give something now.

        A subclass that answers requests in its own way overrides this, too, or is asked for every site.

        Returns:
            Names; nobody else would be given anything. None (the default): any site might be.
        """
        return None

    @abstractmethod
    def handle_exception(self, task_id: str, fl_ctx: FLContext) -> None:
        """What `process_task_request` gave could not be sent.

        Args:
            task_id: The id that it gave.
            fl_ctx: The context of the request.
        """

    @abstractmethod
    def process_submission(
        self, client: Client, task_name: str, task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """Take a site's result.

        Args:
            client: Who sends it.
            task_name: The task's name as it was handed out.
            task_id: The id as it was handed out.
            result: What it sends.
            fl_ctx: The context of the submission.
        """

    @abstractmethod
    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """The workflow itself: schedules tasks, works with their results; returns when it is done.

        Args:
            abort_signal: Triggered when the run is to end.
            fl_ctx: A new context with the sticky properties of `start_controller`.
        """

    def finalize_run(self, fl_ctx: FLContext) -> None:
        """Called after the last submission."""
