"""The contract of a site's training code that is driven by a LearnerExecutor."""

from __future__ import annotations

from typing import Any

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal


class Learner(FLComponent):
    """Trains, validates and hands out a site's model.

    Override what the site can do; the rest answers TASK_UNSUPPORTED. All methods are called by position.
    """

    def initialize(self, parts: dict[str, Any], fl_ctx: FLContext) -> None:
        """Get ready, once per run, at its start.

        Args:
            parts: The site's components by id.
            fl_ctx: The context of the run's start.
        """

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Train on the received model.

        Args:
            data: The task's data; its arrays may be written to.
            fl_ctx: The task's context.
            abort_signal: Triggered when the result is no longer wanted.

        Returns:
            The update, or a reply with another return code than OK.
        """
        return make_reply(ReturnCode.TASK_UNSUPPORTED)

    def get_model_for_validation(self, model_name: str, fl_ctx: FLContext) -> Shareable:
        """One of the site's own models, for others to validate.

        Args:
            model_name: Which one; see `ModelName`.
            fl_ctx: The task's context.
        """
        return make_reply(ReturnCode.TASK_UNSUPPORTED)

    def validate(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Measure the received model on the site's data.

        Args:
            data: The model; its header VALIDATE_TYPE says why (see `ValidateType`).
            fl_ctx: The task's context.
            abort_signal: Triggered when the result is no longer wanted.

        Returns:
            A DXO of kind METRICS in a Shareable, or a reply with another return code than OK.
        """
        return make_reply(ReturnCode.TASK_UNSUPPORTED)

    def abort(self, fl_ctx: FLContext) -> None:
        """The task under way was aborted; may be called from another thread than the task's."""

    def finalize(self, fl_ctx: FLContext) -> None:
        """Let go of everything, once per run, at its end."""
