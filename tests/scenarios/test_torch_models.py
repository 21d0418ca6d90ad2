"""Torch modules through whole federations: every dtype comes back as it went out, without a detour through another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import hansa
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.shareable import Shareable
from hansa.jobs import fed_avg


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)


def filled(value: float, dtype: torch.dtype) -> Net:
    net = Net().to(dtype)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


class AddsSite(Executor):
    """Adds the site's number to every tensor, as torch tensors of the same dtype."""

    seen: ClassVar[dict[str, set[str]]] = {}

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: Any, abort_signal: Any) -> Shareable:
        number = int(fl_ctx.get_identity_name().rpartition("-")[2])
        net = Net()
        answer = {}
        for name, value in from_shareable(shareable).data.items():
            self.seen.setdefault(name, set()).add(value.dtype.name)
            bits = torch.from_numpy(value.view("int16")).view(torch.bfloat16) if value.dtype.kind == "V" else value
            answer[name] = torch.as_tensor(bits) + number
        assert answer.keys() == net.state_dict().keys()
        return DXO(DataKind.WEIGHTS, answer).to_shareable()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_module_keeps_its_dtype(tmp_path: Path, dtype: torch.dtype, workers: int) -> None:
    # Sites 1, 2, 3 add 1, 2, 3: each round adds 2, to the integer buffer, too.
    AddsSite.seen.clear()
    run = hansa.simulate(fed_avg(filled(1, dtype), executor=AddsSite, rounds=2), 3, workers=workers, home=tmp_path)
    net = Net().to(dtype)
    net.load_state_dict(run.state_dict())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, torch.full_like(tensor, 5)), name
    assert {name: each.dtype for name, each in run.state_dict().items()} == {
        name: each.dtype for name, each in filled(1, dtype).state_dict().items()
    }
    if not workers:
        name = str(dtype).removeprefix("torch.")
        assert AddsSite.seen["layer.weight"] == {name}
        assert AddsSite.seen["norm.num_batches_tracked"] == {"int64"}


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2)])
def test_what_leaves_a_site_is_as_wide_as_the_model(tmp_path: Path, dtype: torch.dtype, size: int) -> None:
    job = fed_avg({"w": torch.zeros(200_000, dtype=dtype)}, executor=Returns, rounds=1)
    run = hansa.simulate(job, 1, workers=0, home=tmp_path)
    assert run.state_dict()["w"].dtype == dtype
    assert Returns.itemsize == size


class Returns(Executor):
    """Gives back what it got."""

    itemsize = 0

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: Any, abort_signal: Any) -> Shareable:
        type(self).itemsize = from_shareable(shareable).data["w"].itemsize
        return shareable
