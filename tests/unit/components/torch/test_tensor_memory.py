"""Arrays and tensors over one memory."""

from __future__ import annotations

import gc
import sys

import ml_dtypes
import numpy as np
import pytest
import torch

from hansa.components.torch.tensor_memory import array_over, bits_of, from_bits, tensor_over

PLAIN = ["bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", "complex64"]
ML = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_dtypes_share_their_memory_both_ways(name: str) -> None:
    array = np.array([[0, 1], [1, 0]], dtype=name)
    tensor = tensor_over(array)
    assert str(tensor.dtype) == f"torch.{name}"
    assert tensor.data_ptr() == array.ctypes.data
    back = array_over(tensor)
    assert back.dtype == array.dtype
    assert np.shares_memory(back, array)
    tensor[0, 0] = 1
    assert array[0, 0] == back[0, 0] == 1


@pytest.mark.parametrize("name", ML)
def test_narrow_floats_share_their_bits(name: str) -> None:
    array = np.array([1.5, -2.0, 0.0], dtype=getattr(ml_dtypes, name))
    tensor = tensor_over(array)
    assert str(tensor.dtype) == f"torch.{name}"
    assert tensor.tolist() == [1.5, -2.0, 0.0]
    assert tensor.data_ptr() == array.ctypes.data
    back = array_over(tensor)
    assert back.dtype == array.dtype
    assert np.shares_memory(back, array)
    assert torch.equal(from_bits(bits_of(tensor), name).view(torch.int8), tensor.view(torch.int8))


def test_a_bfloat16_value_that_float32_would_round_keeps_its_bits() -> None:
    bits = np.arange(2**16, dtype=np.uint16)  # all there are, with every NaN
    array = bits.view(ml_dtypes.bfloat16)
    assert array_over(tensor_over(array)).view(np.uint16).tolist() == bits.tolist()


def test_without_ml_dtypes_bfloat16_stays_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    tensor = torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True)
    found = array_over(tensor)
    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.requires_grad, found.data_ptr()) == (torch.bfloat16, False, tensor.data_ptr())


def test_read_only_arrays_are_shared_without_a_warning_and_kept_alive() -> None:
    def made() -> tuple[torch.Tensor, int]:
        array = np.arange(1000.0)
        array.flags.writeable = False
        return tensor_over(array), array.ctypes.data

    pairs = [made() for _ in range(20)]
    gc.collect()
    for tensor, address in pairs:
        assert tensor.data_ptr() == address
        assert torch.equal(tensor, torch.arange(1000.0, dtype=torch.float64))


def test_what_torch_cannot_share_is_copied() -> None:
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert tensor_over(array[::-1]).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert tensor_over(array.astype(">f4")).tolist() == array.tolist()
    assert tensor_over(array.T).data_ptr() == array.ctypes.data  # strides are no obstacle


def test_numbers_and_tensors_with_a_history() -> None:
    assert tensor_over(2.5).item() == 2.5
    assert tensor_over(np.float16(1)).dtype == torch.float16
    weight = torch.ones(2, requires_grad=True)
    assert not tensor_over(weight).requires_grad
    assert np.shares_memory(array_over(weight), weight.detach().numpy())


@pytest.mark.parametrize("value", ["text", object(), np.longdouble(1), [1, [2]]])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        tensor_over(value)
