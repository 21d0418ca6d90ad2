"""Ditto's personal model, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hansa.apis.signal import Signal
from hansa.components.torch.pt_ditto import PTDittoHelper
from hansa.wire.codec import from_bytes, to_bytes

BATCH = (torch.ones(1, 1), torch.full((1, 1), 4.0))


def scalar(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def half_square(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (found - wanted).square().sum() / 2


def ditto(ditto_lambda: float, **options: Any) -> PTDittoHelper:
    model = scalar(100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, **options)
    return PTDittoHelper(model, optimizer, criterion=half_square, ditto_lambda=ditto_lambda)


def test_two_steps_by_hand() -> None:
    # F(v) = (v - 4)^2 / 2, w = 0, lambda = 0.5, rate 0.5; v begins at w.
    # v1 = 0 - 0.5 * (0 - 4 + 0) = 2; v2 = 2 - 0.5 * (2 - 4 + 0.5 * 2) = 2.5.
    helper, received = ditto(0.5), scalar(0)
    assert helper.local_train([BATCH], received) == 1
    assert helper.model.weight.item() == 2
    assert helper.local_train([BATCH], received) == 1
    assert helper.model.weight.item() == 2.5
    # w moves to 6, the personal model goes on: v3 = 2.5 - 0.5 * (2.5 - 4 + 0.5 * (2.5 - 6)) = 4.125.
    helper.local_train([BATCH], scalar(6))
    assert helper.model.weight.item() == 4.125
    assert received.weight.item() == 0
    assert received.weight.grad is None


def test_without_a_pull_it_is_training_alone() -> None:
    helper = ditto(0)
    assert helper.local_train([BATCH, BATCH], scalar(0), num_epochs=10) == 20
    assert helper.model.weight.item() == pytest.approx(4, abs=1e-5)


def test_an_abort_ends_it_before_the_next_batch() -> None:
    signal = Signal()

    def batches() -> Any:
        yield BATCH
        signal.trigger(True)
        yield BATCH

    assert ditto(1).local_train(batches(), scalar(0), abort_signal=signal) == 1


def test_a_restored_site_goes_on_with_model_and_momentum() -> None:
    first = ditto(0.5, momentum=0.9)
    first.local_train([BATCH] * 3, scalar(0))
    state = from_bytes(to_bytes(first.state()))
    assert state["has_begun"]
    second = ditto(0.5, momentum=0.9)
    second.restore(state)
    for helper in (first, second):
        helper.local_train([BATCH], scalar(1))
    assert second.model.weight.item() == first.model.weight.item()
    third = ditto(0.5)  # and without the momentum it would be another one
    third.restore({**state, "optimizer": third.state()["optimizer"]})
    third.local_train([BATCH], scalar(1))
    assert third.model.weight.item() != first.model.weight.item()
    assert state["model"]["weight"].item() != first.model.weight.item()


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="ditto_lambda must be >= 0, but got -1"):
        ditto(-1)
    with pytest.raises(ValueError, match=r"layer 'weight' has shape \(1, 2\) in the given weights and \(1, 1\)"):
        ditto(1).local_train([BATCH], nn.Linear(2, 1, bias=False))
    with pytest.raises(ValueError, match="this is the state of another SGD"):
        ditto(1).restore({**ditto(1).state(), "optimizer": {"state": {}}})
