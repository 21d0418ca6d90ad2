"""FedProx's penalty: stay near the global model.

Li et al. 2020, *Federated Optimization in Heterogeneous Networks*, arXiv:1812.06127.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.loss import _Loss


class PTFedProxLoss(_Loss):
    """`mu / 2` times the sum of the squared distances between two modules' parameters (arXiv:1812.06127, section 3.2).

    Add it to the loss of each step; it pulls the local parameters, never the global ones. Buffers do not count.

    Args:
        mu: How strong the pull is; >= 0.

    Raises:
        ValueError: `mu` is negative.
    """

    def __init__(self, mu: float = 0.01) -> None:
        super().__init__()
        if mu < 0:
            raise ValueError(f"mu must be >= 0, but got {mu}")
        self.mu = mu

    def forward(self, input: nn.Module, target: nn.Module) -> torch.Tensor:
        """The penalty.

        Args:
            input: The local module; gradients flow into its parameters.
            target: The global one, of the same parameters.

        Returns:
            A scalar of the parameters' dtype, on their device.

        Raises:
            ValueError: The two differ in a parameter's name or shape; the line names it.
        """
        ours, theirs = dict(input.named_parameters()), dict(target.named_parameters())
        if ours.keys() != theirs.keys():
            name = min(ours.keys() ^ theirs.keys())
            raise ValueError(f"only one of the two models has a parameter {name!r}")
        distances = []
        for name, parameter in ours.items():
            anchor = theirs[name].detach()
            if parameter.shape != anchor.shape:
                shapes = f"{tuple(parameter.shape)} in the local and {tuple(anchor.shape)} in the global model"
                raise ValueError(f"layer {name!r} has shape {shapes}")
            distances.append((parameter - anchor).square().sum())
        if not distances:
            return torch.zeros(())
        return self.mu / 2 * torch.stack(distances).sum()
