"""NumPy arrays as torch tensors and back, over the same memory."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from hansa.wire.tensor_forms import with_arrays, with_tensors

DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int64", "int8", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(3, 2), (), (0, 4)])
def test_there_and_back_without_a_copy(name: str, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(getattr(torch, name))
    array = with_arrays({"a": {"w": tensor}})["a"]["w"]
    assert (array.dtype.name, array.shape) == (name, shape)
    again = with_tensors([{"w": array}])[0]["w"]
    assert (again.dtype, tuple(again.shape)) == (tensor.dtype, shape)
    assert again.data_ptr() == tensor.data_ptr()


def test_parameters_lose_their_history_and_strides_stay() -> None:
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    array = with_arrays({"w": parameter, "t": parameter.T})
    assert array["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert array["t"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_numbers_become_tensors_and_other_things_stay_as_they_are() -> None:
    text, plain = np.array(["a"]), {"round": 3, "rate": 0.5, "name": "x", "none": None}
    found = with_tensors({"b": np.float32(0.5), "half": ml_dtypes.bfloat16(1.5), "text": text, **plain})
    assert (found["b"].dtype, found["b"].item()) == (torch.float32, 0.5)
    assert (found["half"].dtype, found["half"].item()) == (torch.bfloat16, 1.5)
    assert found["text"] is text
    assert {key: found[key] for key in plain} == plain


def test_what_cannot_travel_is_left_for_the_codec() -> None:
    sparse = torch.eye(2).to_sparse()
    assert with_arrays({"w": sparse})["w"] is sparse
