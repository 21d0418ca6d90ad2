"""The closed table of tensor dtypes: their names on the wire, and how their bytes lie in a blob.

A tensor of NumPy travels under the name of its dtype (`float32`, `datetime64[ns]`, `str7`, `bytes5`), one of torch
as `torch.float32`. All tensors that share a *region* lie together; it does not matter whose they are.

What has no name here does not travel: objects and structured dtypes (they choose code, or need it), `longdouble`
(its bits differ between machines), masked arrays (they would lose their mask), sparse and quantized torch tensors.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from hansa.errors import DecodeError, EncodeError
from hansa.tensors import CARRIERS, ML_DTYPES, Array


class Refusal(EncodeError):
    """A value has no form on the wire; each level of the message adds its part of the path on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__("", reason)
        self.parts: list[str] = []


@dataclass(frozen=True, slots=True)
class Region:
    """Where tensors of one dtype lie together.

    Args:
        name: Its name in the blob's header.
        tag: Its dtype there, in the layout's words.
        width: How many of those make one element.
        dtype: What NumPy calls one element.
    """

    name: str
    tag: str
    width: int
    dtype: np.dtype[Any]

    @property
    def item_bytes(self) -> int:
        """Size of one of the layout's elements, which is also what the region must be aligned to."""
        return CARRIERS[self.tag].itemsize


@dataclass(frozen=True, slots=True)
class Kind:
    """One dtype of tensors.

    Args:
        name: On the wire.
        region: Where such tensors lie.
        dtype: The NumPy dtype of the bytes.
        torch: The name of the torch dtype, if it is a torch tensor.
        ml: The name in `ml_dtypes`, if NumPy alone has no such dtype.
    """

    name: str
    region: Region
    dtype: np.dtype[Any]
    torch: str = ""
    ml: str = ""


REGIONS = {
    name: Region(name, tag, width, np.dtype(code))
    for name, tag, width, code in (
        ("bool", "BOOL", 1, "?"),
        ("int8", "I8", 1, "i1"), ("int16", "I16", 1, "<i2"), ("int32", "I32", 1, "<i4"), ("int64", "I64", 1, "<i8"),
        ("uint8", "U8", 1, "u1"), ("uint16", "U16", 1, "<u2"), ("uint32", "U32", 1, "<u4"), ("uint64", "U64", 1, "<u8"),
        ("float16", "F16", 1, "<f2"), ("float32", "F32", 1, "<f4"), ("float64", "F64", 1, "<f8"),
        ("complex64", "F32", 2, "<c8"), ("complex128", "F64", 2, "<c16"),
        ("bfloat16", "BF16", 1, "<u2"), ("float8_e4m3fn", "F8_E4M3", 1, "u1"), ("float8_e5m2", "F8_E5M2", 1, "u1"),
        ("time", "I64", 1, "<i8"),  # datetime64 and timedelta64
        ("str", "U32", 1, "<u4"),  # fixed-width text, one code point per element
        ("bytes", "U8", 1, "u1"),  # Python bytes, and fixed-width byte strings
    )
}  # fmt: skip

LONG_BYTES = Kind("bytes", REGIONS["bytes"], REGIONS["bytes"].dtype)
"""Python bytes that are too long for the structure."""

_PLAIN = [name for name in REGIONS if name not in ("time", "str", "bytes")]
_KINDS = {name: Kind(name, REGIONS[name], REGIONS[name].dtype, ml=name if name in ML_DTYPES else "") for name in _PLAIN}
_TORCH_KINDS = {
    f"torch.{name}": Kind(f"torch.{name}", REGIONS[name], REGIONS[name].dtype, torch=name) for name in _PLAIN
}
_BY_NAME = _KINDS | _TORCH_KINDS
_BY_DTYPE = {kind.dtype: kind for kind in _KINDS.values() if not kind.ml}
_TIME = re.compile(r"(datetime64|timedelta64)(\[([1-9]\d{0,5})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?", re.ASCII)
_TEXT = re.compile(r"(str|bytes)([1-9]\d{0,6})", re.ASCII)  # NumPy has no dtype for much more
_MAX_CODE_POINT = 0x10FFFF


def kind_of_name(name: object) -> Kind:
    """The dtype of that name.

    Raises:
        DecodeError: There is none.
    """
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is not None:
        return kind
    if isinstance(name, str) and len(name) < 40:
        if _TIME.fullmatch(name):
            return Kind(name, REGIONS["time"], np.dtype(name).newbyteorder("<"))
        text = _TEXT.fullmatch(name)
        if text:
            return Kind(name, REGIONS[text[1]], np.dtype(f"{'<U' if text[1] == 'str' else 'S'}{text[2]}"))
    raise DecodeError(f"unknown dtype {name!r:.60}")


def kind_of_array(array: Array) -> Kind:
    """The dtype of a NumPy array or scalar.

    Raises:
        Refusal: It has none on the wire.
    """
    return _BY_DTYPE.get(array.dtype) or _kind_of_dtype(array.dtype)


def kind_of_tensor(tensor: Any) -> Kind:  # Any: torch may not be installed
    """The dtype of a torch tensor.

    Raises:
        Refusal: It has none on the wire, or its values do not lie in a row.
    """
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise Refusal("only dense torch tensors travel (not sparse, quantized, nested or meta tensors)")
    kind = _TORCH_KINDS.get(str(tensor.dtype))
    if kind is None:
        raise Refusal(f"{tensor.dtype} has no form on the wire")
    return kind


def flat_bytes(value: Any, kind: Kind) -> Array:  # Any: an array, a torch tensor or bytes
    """The value's bytes as the blob holds them; a view, unless it is strided, big-endian or on a device."""
    if type(value) is np.ndarray and value.flags.c_contiguous and value.dtype.byteorder in "=|":
        return value.reshape(-1).view(np.uint8)
    if isinstance(value, (bytes, bytearray)):
        return np.frombuffer(value, dtype=np.uint8)
    if kind.torch:
        value = _bits_of_tensor(value)
    array = np.asarray(value)
    if array.dtype.byteorder == ">" or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def tensor_from(array: Array, kind: Kind) -> Any:  # Any: what was sent: an array or a torch tensor
    """An array of `kind.dtype` as what was sent.

    A torch tensor becomes one again where torch is installed, else a NumPy array.

    Raises:
        ImportError: Nothing here can hold such numbers.
    """
    if kind.torch:
        torch = _optional("torch")
        if torch is not None:
            dtype = getattr(torch, kind.torch)
            if kind.torch in ML_DTYPES:
                bits = array.view(np.int16 if array.itemsize == 2 else np.uint8)
                return torch.from_numpy(bits).view(dtype)
            return torch.from_numpy(array)
        if kind.torch in ML_DTYPES:
            raise ImportError(f"{kind.torch} needs torch, which is not installed here")
    elif kind.ml:
        ml_dtypes = _optional("ml_dtypes")
        if ml_dtypes is None:
            raise ImportError(f"{kind.ml} needs the package ml_dtypes, which is not installed here")
        return array.view(getattr(ml_dtypes, kind.ml))
    return array


def check_values(array: Array, kind: Kind) -> None:
    """Refuse bits that are no value of the dtype: NumPy would trust them.

    Raises:
        DecodeError: A boolean that is neither 0 nor 1, a character beyond Unicode.
    """
    if kind.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise DecodeError("a boolean tensor holds a byte that is neither 0 nor 1")
    if kind.dtype.kind == "U" and array.size and array.reshape(-1).view("<u4").max() > _MAX_CODE_POINT:
        raise DecodeError("a text tensor holds a number that is no character")


def region_names(tags: Iterable[str]) -> list[str]:
    """Region names by decreasing alignment, the order in which a blob holds them."""
    return sorted(tags, key=lambda name: (-REGIONS[name].item_bytes, name))


@lru_cache(maxsize=256)
def _kind_of_dtype(dtype: np.dtype[Any]) -> Kind:
    native = dtype.newbyteorder("<")
    if native in _BY_DTYPE:
        return _BY_DTYPE[native]
    if dtype.kind in "mM":
        return Kind(dtype.name, REGIONS["time"], native)
    if dtype.kind in "US" and dtype.itemsize:  # NumPy itself makes no arrays of width 0
        name, width = ("str", dtype.itemsize // 4) if dtype.kind == "U" else ("bytes", dtype.itemsize)
        if not _TEXT.fullmatch(f"{name}{width}"):
            raise Refusal(f"an array of texts of {width} characters has no form on the wire; use a list of str")
        return Kind(f"{name}{width}", REGIONS[name], native)
    if dtype.name in ML_DTYPES:
        return _KINDS[dtype.name]
    reasons = {
        "O": "arrays of Python objects do not travel",
        "V": "structured arrays do not travel; send one array per field",
        "T": "variable-width text arrays do not travel; use a list of str",
    }
    raise Refusal(reasons.get(dtype.kind, f"dtype {dtype} has no form on the wire"))


def _bits_of_tensor(tensor: Any) -> Any:  # Any: torch may not be installed
    """A torch tensor as an array of its bits, on the CPU and without its history."""
    torch = sys.modules["torch"]
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if str(tensor.dtype).removeprefix("torch.") in ML_DTYPES:
        tensor = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
    return tensor.numpy()


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
