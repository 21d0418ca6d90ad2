"""FedProx's penalty, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hansa.components.torch.pt_fedproxloss import PTFedProxLoss


def line(weight: float, bias: float, *, size: int = 1) -> nn.Linear:
    layer = nn.Linear(size, 1)
    with torch.no_grad():
        layer.weight.fill_(weight)
        layer.bias.fill_(bias)
    return layer


def test_half_mu_times_the_squared_distance() -> None:
    # (3 - 1)^2 + (5 - 2)^2 = 13; 0.1 / 2 * 13 = 0.65. Its gradient is mu * (y - x): 0.2 and 0.3.
    local, received = line(3, 5), line(1, 2)
    penalty = PTFedProxLoss(mu=0.1)(local, received)
    penalty.backward()
    assert penalty.item() == pytest.approx(0.65)
    assert local.weight.grad is not None
    assert local.bias.grad is not None
    assert local.weight.grad.item() == pytest.approx(0.2)
    assert local.bias.grad.item() == pytest.approx(0.3)
    assert received.weight.grad is None


def test_without_a_distance_or_a_pull_it_is_nothing() -> None:
    assert PTFedProxLoss()(line(1, 2), line(1, 2)).item() == 0
    assert PTFedProxLoss(mu=0)(line(1, 2), line(3, 4)).item() == 0
    assert PTFedProxLoss()(nn.ReLU(), nn.ReLU()).item() == 0


def test_buffers_do_not_count() -> None:
    local, received = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    received.running_mean = torch.tensor([100.0])
    assert PTFedProxLoss()(local, received).item() == 0


def test_it_keeps_half_precision() -> None:
    assert PTFedProxLoss()(line(1, 2).bfloat16(), line(3, 4).bfloat16()).dtype is torch.bfloat16


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="mu must be >= 0, but got -0.1"):
        PTFedProxLoss(mu=-0.1)
    with pytest.raises(ValueError, match=r"layer 'weight' has shape \(1, 2\) in the local and \(1, 1\) in the global"):
        PTFedProxLoss()(line(1, 1, size=2), line(1, 1))
    with pytest.raises(ValueError, match="only one of the two models has a parameter '0.bias'"):
        PTFedProxLoss()(nn.Sequential(nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1, bias=False)))
