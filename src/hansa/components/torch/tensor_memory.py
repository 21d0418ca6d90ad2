"""Arrays and tensors over one memory: neither way copies a number.

bfloat16 and float8 have no dtype of NumPy's own. Arrays of the package `ml_dtypes` become tensors by their bits, and
tensors become such arrays where that package is installed.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch

from hansa.tensors import ML_DTYPES, Array

_SHARED_KINDS = "biufc"
"""NumPy's own kinds of numbers: torch has a dtype for each, longdouble apart."""


def tensor_over(value: object) -> torch.Tensor:
    """A tensor of the value's numbers, in its dtype; over the array's own memory.

    Args:
        value: An array (bfloat16 and float8 of `ml_dtypes`, too), a tensor (comes back as it is, without its history),
            or numbers. Only big-endian arrays and those with negative strides are copied. The tensor of a read-only
            array must not be written to.

    Raises:
        TypeError: It is not made of numbers, or torch has no such dtype.
        ValueError: Likewise, as lists of unlike lengths.
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.name in ML_DTYPES:
        return _over(array.view(_bits(array.itemsize))).view(getattr(torch, array.dtype.name))
    if array.dtype.kind not in _SHARED_KINDS:
        raise TypeError(f"no tensor can be made of {array.dtype}")
    return _over(array)


def array_over(tensor: torch.Tensor) -> Any:  # Any: an array, or the tensor
    """An array over the tensor's own memory; a tensor on a device is brought to the CPU.

    bfloat16 and float8 stay what they are: an array of `ml_dtypes` where that package is installed, else the tensor
    itself (without its history), which also travels.
    """
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    if name not in ML_DTYPES:
        return plain.numpy()
    try:
        dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except ImportError:
        return plain
    return bits_of(plain).view(dtype)


def bits_of(tensor: torch.Tensor) -> Array:
    """The bits of a tensor whose dtype NumPy lacks, as signed integers over its memory."""
    array: Array = tensor.detach().cpu().view(torch.int16 if tensor.element_size() == 2 else torch.int8).numpy()
    return array


def from_bits(array: Array, name: str) -> torch.Tensor:
    """The tensor of dtype `name` (one of `ML_DTYPES`) whose bits an array holds; over the array's memory."""
    return _over(array.view(_bits(array.itemsize))).view(getattr(torch, name))


def _bits(itemsize: int) -> type[np.signedinteger[Any]]:  # Any: of either width
    return np.int16 if itemsize == 2 else np.int8


class _Writable:
    """Says of a read-only array that it may be written to, since torch warns of every other; keeps it alive."""

    def __init__(self, array: Array) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _over(array: Array) -> torch.Tensor:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))
