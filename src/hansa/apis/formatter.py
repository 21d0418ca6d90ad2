"""The contract of whatever turns a run's results into text."""

from __future__ import annotations

from abc import abstractmethod

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext


class Formatter(FLComponent):
    """Makes a person's view of what a workflow left in the context."""

    @abstractmethod
    def format(self, fl_ctx: FLContext) -> str:
        """The text to show, from the properties of this context."""
        raise NotImplementedError
