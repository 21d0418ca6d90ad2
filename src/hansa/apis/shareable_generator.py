"""The contract of the translation between what is learned and what is sent."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.learnable import Learnable
from hansa.apis.shareable import Shareable


class ShareableGenerator(FLComponent, ABC):
    """Turns the global model into a task's data, and an aggregated update into the next global model."""

    @abstractmethod
    def learnable_to_shareable(self, model: Learnable, fl_ctx: FLContext) -> Shareable:
        """What the sites are sent of this model; it may share the model's arrays."""

    @abstractmethod
    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> Learnable:
        """The next global model: the present one of the context, updated."""
