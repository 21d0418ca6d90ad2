"""The same numbers as NumPy arrays or as torch tensors, over the same memory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from hansa.tensors import ML_DTYPES, Array

Value = Any  # what a message holds


def with_arrays(value: Value) -> Value:
    """The value with NumPy arrays for the torch tensors in its dicts and lists, where NumPy has their dtype.

    Nothing is copied but what lies on a device or in no row. bfloat16 needs the package `ml_dtypes`; without it such
    a tensor stays as it is, and so does what cannot travel (sparse tensors and their like).
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return value
    return _mapped(value, lambda one: _array_of(one, torch) if isinstance(one, torch.Tensor) else one)


def with_tensors(value: Value) -> Value:
    """The value with torch tensors for the arrays of numbers in its dicts and lists, over the same memory.

    The program must have imported torch. Arrays must be writable; NumPy scalars become tensors of no dimensions.
    """
    torch = sys.modules["torch"]
    return _mapped(value, lambda one: _tensor_of(one, torch) if isinstance(one, np.ndarray | np.generic) else one)


def _mapped(value: Value, change: Callable[[Value], Value]) -> Value:
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return change(value)


def _array_of(tensor: Any, torch: Any) -> Any:  # Any: torch may not be installed
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        return tensor  # the codec says what is wrong with it, and where it stands
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in ML_DTYPES:
        try:
            return tensor.numpy()
        except TypeError:  # a dtype that NumPy lacks
            return tensor
    try:
        dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except ImportError:
        return tensor
    bits: Array = tensor.contiguous().view(torch.int16 if tensor.element_size() == 2 else torch.uint8).numpy()
    return bits.view(dtype)


def _tensor_of(array: Any, torch: Any) -> Any:  # Any: as above
    if array.dtype.name in ML_DTYPES:
        bits = np.asarray(array).view(np.int16 if array.dtype.itemsize == 2 else np.uint8)
        return torch.from_numpy(bits).view(getattr(torch, array.dtype.name))
    try:
        return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.tensor(array)
    except TypeError:  # texts and times are no tensors
        return array
