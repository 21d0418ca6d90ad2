"""The exceptions that are part of FLARE's vocabulary; Hansa's own tree is in `hansa.errors`."""

from __future__ import annotations


class WorkflowError(Exception):
    """A workflow cannot go on; raised in a task's callback it also stops the run."""


class FLCommunicationError(Exception):
    """A message did not get through.

    Args:
        exception: What the link raised, or a text.
    """

    def __init__(self, exception: BaseException | str) -> None:
        super().__init__(exception)
        self.exception = exception
