"""What happens to a message between the one who made it and the one who reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class Filter(FLComponent, ABC):
    """Changes or refuses a message: task data and task results, as they leave and as they arrive."""

    @abstractmethod
    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The message that takes the place of this one; called by position.

        Args:
            shareable: The message. It is this receiver's or this sender's own and may be written into.
            fl_ctx: The context of the task.

        Returns:
            The same message or another one. An exception keeps the message from going on.
        """
