"""The weights of a torch network as arrays, and back."""

from __future__ import annotations

from typing import Any

from torch import nn

from hansa.apis.fl_context import FLContext
from hansa.apis.model_processor import ModelProcessor
from hansa.components.torch.pt_model_format import feed_vars
from hansa.components.torch.tensor_memory import array_over


class PTModelReaderWriter(ModelProcessor):
    """Reads and writes modules; where several devices or processes train one, the module inside."""

    def __init__(self) -> None:
        self._name = type(self).__name__

    def extract_model(
        self,
        network: nn.Module,
        multi_processes: bool,
        model_vars: dict[str, Any],
        fl_ctx: FLContext,
    ) -> dict[str, Any]:
        """All variables of the network as arrays over its own memory; see `ModelProcessor`.

        Training on changes them: copy what is to stay.

        Raises:
            TypeError: The network is no torch module.
        """
        variables = _bare(network, multi_processes).state_dict()
        return {name: array_over(variable) for name, variable in variables.items()}

    def apply_model(
        self,
        network: nn.Module,
        multi_processes: bool,
        model_params: dict[str, Any],
        fl_ctx: FLContext,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Load the arrays whose names the network has; its other variables stay.

        Raises:
            TypeError: The network is no torch module.
            ValueError: A shape is another one (the line names the layer and both), or not a single name fits.
        """
        feed_vars(_bare(network, multi_processes), model_params, strict=False)


def _bare(network: object, multi_processes: bool) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, but got {type(network)}")
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = getattr(network, "module", None)
    if (multi_processes or isinstance(network, wrappers)) and isinstance(inner, nn.Module):
        return inner
    return network
