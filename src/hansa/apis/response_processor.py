"""The contract of the work in a workflow that asks all sites one question."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hansa.apis.client import Client
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class ResponseProcessor(FLComponent, ABC):
    """Makes the question, takes the answers, and draws the conclusion."""

    @abstractmethod
    def create_task_data(self, task_name: str, fl_ctx: FLContext) -> Shareable:
        """What the sites are sent; called by position."""

    @abstractmethod
    def process_client_response(self, client: Client, task_name: str, response: Shareable, fl_ctx: FLContext) -> bool:
        """Take one site's answer; called by keyword.

        Returns:
            False to end the run.
        """

    @abstractmethod
    def final_process(self, fl_ctx: FLContext) -> bool:
        """Draw the conclusion once all answers are in; called by position.

        Returns:
            False to end the run.
        """
