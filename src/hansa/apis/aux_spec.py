"""Messages between components of the two sides, outside the tasks."""

from __future__ import annotations

from enum import Enum

from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class MessageSendStatus(Enum):
    """What became of a message."""

    OK = "ok"  # answered
    FAILURE = "failure"  # not sent
    TIMEOUT = "timeout"  # no answer in time
    REPLY_ERROR = "reply_error"  # the answer makes no sense


def aux_request_handle_func_signature(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
    """The form of a handler; called by keyword. This one declines every request.

    Args:
        topic: What the request is about.
        request: The request.
        fl_ctx: A context whose peer context is that of the sender.

    Returns:
        The reply.
    """
    raise NotImplementedError("a handler of aux messages must be written by the application")
