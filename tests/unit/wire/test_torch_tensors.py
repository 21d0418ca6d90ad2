"""torch tensors travel as torch tensors; where torch is missing, as arrays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.apis.dxo import DXO
from hansa.errors import DecodeError, EncodeError
from hansa.wire.codec import Encoder, FileSink, decode

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
         "complex128", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"]  # fmt: skip


def equal(left: Any, right: Any) -> bool:
    return (
        type(right) is torch.Tensor
        and left.dtype == right.dtype
        and left.shape == right.shape
        and left.detach().contiguous().view(-1).view(torch.uint8).tolist()
        == right.contiguous().view(-1).view(torch.uint8).tolist()
    )


@pytest.mark.parametrize("arrays", ["copy", "own", "readonly"])
@pytest.mark.parametrize("inline_limit", [0, 64 * 1024])
def test_every_dtype_arrives(inline_limit: int, arrays: Any, tmp_path: Path) -> None:
    value = {name: torch.tensor([[0, 1], [1, 0]]).to(getattr(torch, name)) for name in NAMES}
    value |= {f"{name}.empty": torch.empty((0, 3), dtype=getattr(torch, name)) for name in NAMES}
    value |= {f"{name}.scalar": torch.ones((), dtype=getattr(torch, name)) for name in NAMES}
    for encoder in (Encoder(inline_limit), Encoder(inline_limit, FileSink(tmp_path))):
        arrived = decode(encoder.encode(value), arrays=arrays)
        assert list(arrived) == list(value)
        assert [name for name in value if not equal(value[name], arrived[name])] == []


def test_strided_and_conjugated_tensors_and_parameters_arrive_plain() -> None:
    value = {
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "conjugated": torch.tensor([1 + 2j]).conj(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "with history": torch.ones(2, requires_grad=True) * 2,
    }
    arrived = decode(Encoder().encode(value))
    assert arrived["transposed"].tolist() == value["transposed"].tolist()
    assert arrived["conjugated"].tolist() == [1 - 2j]
    assert arrived["parameter"].tolist() == [1, 1]
    assert not any(tensor.requires_grad for tensor in arrived.values())


def test_a_state_dict_is_written_once_and_arrives_in_one_copy() -> None:
    net = torch.nn.Sequential(*(torch.nn.Linear(40, 40) for _ in range(15)))
    state = net.state_dict()
    encoder = Encoder()
    messages = [encoder.encode(DXO("WEIGHTS", state, {"site": i}).to_shareable()) for i in range(3)]
    assert encoder.num_tensors_encoded == 30
    assert encoder.num_blobs == 1
    arrived = decode(messages[2])["DXO"]["data"]
    assert type(arrived) is type(state)
    assert all(torch.equal(arrived[name], state[name]) for name in state)
    assert messages[0].blobs[0].num_copies == 1


def test_writing_to_a_read_only_tensor_changes_nobody_else(tmp_path: Path) -> None:
    for sink in (FileSink(tmp_path), None):
        encoder = Encoder(0, sink) if sink else Encoder(0)
        message = encoder.encode({"t": torch.zeros(3), "a": np.zeros(3, np.float32)})
        arrived = decode(message, arrays="readonly")
        arrived["t"] += 1
        assert arrived["a"].tolist() == [0, 0, 0]
        assert decode(message)["t"].tolist() == [0, 0, 0]
        assert message.blobs[0].num_copies == (1 if sink else 2)


def test_without_torch_tensors_arrive_as_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Encoder().encode(DXO("WEIGHTS", {"w": torch.arange(3.0)}))
    half = Encoder().encode({"DXO": {"data": [DXO("WEIGHTS", {"w": torch.zeros(2, dtype=torch.bfloat16)})]}})
    monkeypatch.setitem(sys.modules, "torch", None)
    arrived = decode(message)
    assert type(arrived.data["w"]) is np.ndarray
    assert arrived.data["w"].tolist() == [0, 1, 2]
    with pytest.raises(DecodeError, match=r"DXO\.data\[0\]\.data\.w: bfloat16 needs torch"):
        decode(half)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
    ],
)
def test_other_tensors_are_refused_by_name(tensor: Any) -> None:
    with pytest.raises(EncodeError, match="dense torch tensors") as caught:
        Encoder().encode({"model": {"w": tensor}})
    assert caught.value.path == "model.w"
