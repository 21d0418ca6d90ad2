"""What the rules take as numbers: arrays, tensors of other libraries, NumPy and Python scalars, lists."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hansa.errors import RuleError

Array = NDArray[Any]  # Any: of every dtype that `kind_of` knows
DType = np.dtype[Any]  # Any: likewise


class Kind(Enum):
    """The classes of numbers; within one of them only the width differs."""

    BOOL = "bool"
    INT = "int"  # signed and unsigned
    FLOAT = "float"
    COMPLEX = "complex"


_KINDS = {"b": Kind.BOOL, "i": Kind.INT, "u": Kind.INT, "f": Kind.FLOAT, "c": Kind.COMPLEX}
_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)


class Value(NamedTuple):
    """One variable of a contribution."""

    array: Array
    """The numbers; may be the very array that was handed in, and is only read."""
    is_scalar: bool
    """Whether it came as a number rather than as an array of no dimensions."""


def kind_of(dtype: DType) -> Kind | None:
    """The class of a dtype; None for what is no number (text, objects, dates, records)."""
    kind = _KINDS.get(dtype.kind)
    if kind is None and dtype.name == "bfloat16":  # registers itself with NumPy as a type of bytes
        return Kind.FLOAT
    return kind


def rule_dtype(dtype: DType) -> DType:
    """The type in which sums of this type are formed.

    float32, float64, longer floats and complex in themselves; float16 and bfloat16 in float32; integers and booleans
    in float64 (exact up to 2**53).
    """
    kind = dtype.kind
    if kind == "f":
        return _FLOAT32 if dtype.itemsize == 2 else dtype.newbyteorder("=")
    if kind in "biu":
        return _FLOAT64
    return _FLOAT32 if kind == "V" else dtype.newbyteorder("=")


def dtype_text(dtype: DType) -> str:
    """A dtype as a text that `dtype_from` reads."""
    return dtype.name if dtype.kind == "V" else dtype.str


def dtype_from(text: str) -> DType:
    """The dtype that `dtype_text` wrote.

    Raises:
        RuleError: It is no dtype of numbers.
    """
    try:
        if text == "bfloat16":
            importlib.import_module("ml_dtypes")  # whereby NumPy comes to know it
        dtype = np.dtype(text)
    except (ImportError, TypeError, ValueError):
        dtype = np.dtype(object)
    if kind_of(dtype) is None:
        raise RuleError(f"{text!r:.40} is no dtype of numbers")
    return dtype


def flat_pieces(array: Array, size: int) -> Iterator[Array]:
    """The numbers in C order, flat, at most `size` in a piece: views where they lie so, else copies of a piece."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        for start in range(0, len(flat), size):
            yield flat[start : start + size]
    elif array.ndim == 1 or array.size <= size:
        for start in range(0, len(array), size):
            yield array[start : start + size].reshape(-1)
    else:
        rows = size // (array.size // len(array))
        for start in range(0, len(array), max(1, rows)):
            yield from flat_pieces(array[start : start + rows] if rows else array[start], size)


def as_value(name: str, value: object) -> Value:
    """A variable's numbers as an array, without a copy where it is one already.

    Python numbers and lists have no dtype of their own and become float64. Tensors of other libraries are taken
    through `detach().cpu()` (where they have it) and the array protocol; a torch tensor in bfloat16, which NumPy does
    not know, is taken as it is where `ml_dtypes` is installed, and else becomes float32.

    Raises:
        RuleError: It is not made of numbers.
    """
    if isinstance(value, Value):
        return value
    if isinstance(value, np.ndarray):
        # A matrix or a masked array has arithmetic of its own; only its numbers count here.
        result = Value(value if type(value) is np.ndarray else np.asarray(value), is_scalar=False)
    elif isinstance(value, np.generic):
        result = Value(np.asarray(value), is_scalar=True)
    elif isinstance(value, (bool, int, float, complex)):
        return Value(_plain(name, value), is_scalar=True)
    elif isinstance(value, (list, tuple)):
        return Value(_plain(name, value), is_scalar=False)
    else:
        result = Value(_from_tensor(name, value), is_scalar=False)
    if kind_of(result.array.dtype) is None:
        raise RuleError(f"tensor '{name}' holds no numbers but {result.array.dtype}")
    return result


def _plain(name: str, value: object) -> Array:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):  # rows of unlike lengths, among others
        array = np.empty((), dtype=object)
    kind = kind_of(array.dtype)
    if kind is None:
        raise RuleError(f"'{name}' is a {type(value).__name__} that is no array of numbers")
    return array if kind is Kind.COMPLEX else array.astype(np.float64)


def _bfloat16_bits(tensor: Any) -> Any:  # Any: a torch tensor
    try:
        dtype = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError:
        return tensor.float()
    return tensor.contiguous().view(importlib.import_module("torch").int16).numpy().view(dtype)


def _from_tensor(name: str, value: Any) -> Array:  # Any: tensors of libraries that are not imported here
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        value = _bfloat16_bits(value)
    if not hasattr(value, "__array__"):
        raise RuleError(f"'{name}' is a {type(value).__name__}, not an array of numbers")
    return np.asarray(value)
