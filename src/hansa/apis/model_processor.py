"""The contract of whatever moves weights between a network and the federation's arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from hansa.apis.fl_context import FLContext


class ModelProcessor(ABC):
    """Reads a framework's network into arrays by name and writes such arrays into it."""

    @abstractmethod
    def extract_model(
        self,
        network: Any,  # Any: whatever the framework calls a network
        multi_processes: bool,
        model_vars: dict[str, Any],
        fl_ctx: FLContext,
    ) -> dict[str, Any]:
        """The network's weights as arrays by name.

        Args:
            network: The network to read.
            multi_processes: Whether several processes train it together.
            model_vars: The weights that are wanted, by name.
            fl_ctx: The task's context.
        """

    @abstractmethod
    def apply_model(
        self,
        network: Any,  # Any: as above
        multi_processes: bool,
        model_params: dict[str, Any],
        fl_ctx: FLContext,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Write weights into the network.

        Args:
            network: The network to write to.
            multi_processes: Whether several processes train it together.
            model_params: Arrays by name.
            fl_ctx: The task's context.
            options: What else the framework's own reader needs.
        """
