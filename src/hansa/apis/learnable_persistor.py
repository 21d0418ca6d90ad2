"""The contract of whatever keeps what is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.learnable import Learnable


class LearnablePersistor(FLComponent, ABC):
    """Loads a learnable when a workflow starts and saves each version of it."""

    @abstractmethod
    def load(self, fl_ctx: FLContext) -> Learnable:
        """The learnable to start from."""

    @abstractmethod
    def save(self, learnable: Learnable, fl_ctx: FLContext) -> None:
        """Keep this version."""
