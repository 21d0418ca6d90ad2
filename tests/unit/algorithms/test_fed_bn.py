"""Which tensors FedBN leaves at their site, and that they stay as they are there."""

from __future__ import annotations

import numpy as np

from hansa.algorithms import fed_bn
from hansa.algorithms.weighted_mean import weighted_mean

TORCH = [
    "conv1.weight",
    "bn1.weight",
    "bn1.bias",
    "bn1.running_mean",
    "bn1.running_var",
    "bn1.num_batches_tracked",
    "layer1.0.weight",
    "layer1.1.weight",  # of a Sequential, whose layers have no names
    "layer1.1.running_mean",
    "fc.bias",
]
KERAS = ["conv/kernel:0", "norm/gamma:0", "norm/beta:0", "norm/moving_mean:0", "norm/moving_variance:0", "dense/bias:0"]


def test_layers_are_known_by_their_statistics_whatever_they_are_called() -> None:
    assert fed_bn.batch_norm_names(TORCH) == [
        *TORCH[1:6],
        "layer1.1.weight",
        "layer1.1.running_mean",
    ]
    assert fed_bn.batch_norm_names(KERAS) == KERAS[1:5]
    # "bn1" is no prefix of "bn10", and a module may itself be a batch normalisation.
    assert fed_bn.batch_norm_names(["bn10.weight", "bn1.running_mean"]) == ["bn1.running_mean"]
    assert fed_bn.batch_norm_names(["weight", "running_mean", "head.weight"]) == ["weight", "running_mean"]
    assert fed_bn.batch_norm_names(["w", "b"]) == []


def test_torch_and_its_own_names() -> None:
    import torch

    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.GroupNorm(1, 2), torch.nn.Linear(2, 2)
    )
    assert fed_bn.local_names(net.state_dict()) == [name for name in net.state_dict() if name.startswith("1.")]


def test_names_may_be_given() -> None:
    assert fed_bn.local_names(TORCH, "running_(mean|var)") == [
        "bn1.running_mean",
        "bn1.running_var",
        "layer1.1.running_mean",
    ]
    assert fed_bn.local_names(TORCH, ["fc.bias", "unknown"]) == ["fc.bias"]


def test_local_tensors_are_left_alone_and_the_others_are_averaged() -> None:
    sites = {"a": 1.0, "b": 3.0}
    trained = {s: {"w": np.full(2, value), "n.running_mean": np.full(1, 10 * value)} for s, value in sites.items()}
    own, shared = {}, {}
    for site, model in trained.items():
        local = fed_bn.local_names(model)
        own[site] = {name: model[name] for name in local}
        shared[site] = ({name: value for name, value in model.items() if name not in local}, 1.0)
    mean = weighted_mean(shared)
    for site, value in sites.items():
        model = fed_bn.merged({**mean, "n.running_mean": np.zeros(1)}, own[site])
        assert model["w"].tolist() == [2.0, 2.0]
        assert model["n.running_mean"].tolist() == [10 * value]
