"""Tensors as bytes: the safetensors layout, read and written without a copy.

::

    8 bytes   length of the header, little-endian
    header    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...},
              and, if there is any, "__metadata__": {str: str}; spaces behind it
    data      the tensors, little-endian, C order, one after the other without a gap

Any safetensors library reads these files, and `read` reads theirs. Ours are stricter in two ways: tensors of one
dtype lie together, the widest dtype first, and the data begin at a multiple of 64 bytes. So every tensor is aligned,
and all tensors of a dtype are one flat region.

NumPy has no bfloat16 and no float8. They are read as `ml_dtypes` types if that package is installed, else as their
bits in unsigned integers; the dtype of the file stands in the `Header`.
"""

from __future__ import annotations

import importlib
import json
import math
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hansa.errors import DecodeError, EncodeError

Array = NDArray[Any]  # Any: tensors of every dtype
OnRefusal = Callable[[OSError], None]
"""Called when a disk refuses something; returns for another try, or raises."""

ALIGNMENT = 64
METADATA = "__metadata__"
MAX_HEADER_BYTES = 16 * 1024 * 1024

CARRIERS: dict[str, np.dtype[Any]] = {
    tag: np.dtype(code)
    for tag, code in {
        "BOOL": "?", "U8": "u1", "I8": "i1", "F8_E4M3": "u1", "F8_E5M2": "u1",
        "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
        "U32": "<u4", "I32": "<i4", "F32": "<f4",
        "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8",
    }.items()
}  # fmt: skip
"""The dtypes of the layout, and the NumPy dtype that holds their bytes."""

ML_DTYPES = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
"""The types of the package `ml_dtypes` that the layout knows."""

_TAGS = {dtype: tag for tag, dtype in CARRIERS.items() if tag[:2] not in ("F8", "BF")}
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_TWICE = "a name stands twice in one object"
_MAX_SIZE = 2**62


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: its dtype in the layout's words, its shape, its first byte and the one after its last."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the data.

    Args:
        entries: The tensors in the order of their bytes.
        metadata: The user's own words.
        data_begin: Where in the file the data begin.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)
    data_begin: int = 0


def _raise(error: OSError) -> None:
    raise error


def write(
    path: str | Path,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    dtypes: Mapping[str, str] | None = None,
    on_refusal: OnRefusal = _raise,
) -> None:
    """Write tensors to a file, which appears whole or not at all.

    The bytes go from the arrays to the file without a copy in between, except for arrays that are not contiguous or
    not little-endian.

    Args:
        path: The file; one that is there is replaced.
        arrays: Tensors by name, of any shape and of a dtype in `CARRIERS` or `ML_DTYPES`.
        metadata: Strings by name.
        dtypes: Names whose bits mean another dtype than the array's, such as {"w": "BF16"} for a uint16 array.
        on_refusal: Called when the disk refuses something; returns for another try, or raises.

    Raises:
        EncodeError: The layout has no such dtype; the path is the tensor's name.
    """
    placed = sorted(
        ((name, _carried(name, array, (dtypes or {}).get(name))) for name, array in arrays.items()),
        key=lambda item: (-item[1][1].itemsize, item[1][0]),  # stable: the given order within a dtype
    )
    entries: dict[str, Entry] = {}
    offset = 0
    for name, (tag, array) in placed:
        entries[name] = Entry(tag, array.shape, offset, offset + array.nbytes)
        offset += array.nbytes
    flats = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for _, (_, array) in placed if array.size)
    write_pieces(path, header_bytes(entries, metadata), flats, on_refusal=on_refusal)


def read(path: str | Path, mmap: bool = True) -> dict[str, Array]:
    """The tensors of a safetensors file by name.

    Args:
        path: The file.
        mmap: True: read-only arrays over the mapped file, no copy. False: one private writable copy of the file.

    Raises:
        DecodeError: The file is no such file.
    """
    memory: Array
    if mmap:
        memory = np.frombuffer(map_file(path), dtype=np.uint8)
    else:
        memory = np.fromfile(path, dtype=np.uint8)
    header = parse_header(memoryview(memory))
    data = memory[header.data_begin :]
    return {name: _array(entry, data) for name, entry in header.entries.items()}


def header_bytes(entries: Mapping[str, Entry], metadata: Mapping[str, str] | None = None) -> bytes:
    """The length and the header, so padded that the data begin at a multiple of `ALIGNMENT`."""
    table: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for name, entry in entries.items():
        table[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [entry.begin, entry.end]}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def parse_header(data: memoryview) -> Header:
    """Read and check what stands before the data: every length, shape and offset.

    Raises:
        DecodeError: It is no header, or does not fit the data.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(len(data) - 8, MAX_HEADER_BYTES):
        raise DecodeError(f"a tensor file of {len(data)} bytes cannot have a header of {length}")
    table = strict_json(bytes(data[8 : 8 + length]), max_depth=4, max_nodes=1_000_000)
    if not isinstance(table, dict):
        raise DecodeError("the header of a tensor file must be an object")
    metadata = table.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(word, str) for word in metadata.values()):
        raise DecodeError("the metadata of a tensor file must be strings by name")
    entries = sorted(
        ((name, _entry(name, fields)) for name, fields in table.items()), key=lambda e: (e[1].begin, e[1].end)
    )
    offset = 0
    for name, entry in entries:
        if entry.begin != offset:
            raise DecodeError(f"tensor {name!r} begins at {entry.begin}, but the one before it ends at {offset}")
        offset = entry.end
    if offset != len(data) - 8 - length:
        raise DecodeError(f"the tensors end at {offset}, but there are {len(data) - 8 - length} bytes of data")
    return Header(dict(entries), metadata, 8 + length)


def write_pieces(path: str | Path, first: bytes, rest: Iterable[Array], *, on_refusal: OnRefusal = _raise) -> None:
    """Write pieces one after the other to a file, which appears whole or not at all; without joining them.

    Args:
        path: The file.
        first: The first piece.
        rest: The others.
        on_refusal: Called when the disk refuses something; returns for another try, or raises.

    Raises:
        OSError: The disk.
    """
    target = Path(path)
    handle, temporary = _made(target, on_refusal)
    try:
        try:
            for batch in _batches(first, rest):
                _write_all(handle, batch, on_refusal)
            os.fchmod(handle, 0o644)
        finally:
            os.close(handle)
        Path(temporary).replace(target)
    except OSError:
        Path(temporary).unlink()
        raise


def _made(target: Path, on_refusal: OnRefusal) -> tuple[int, str]:
    while True:
        try:
            return tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        except OSError as error:
            on_refusal(error)


def map_file(path: str | Path, *, private: bool = False) -> mmap.mmap:
    """A file as memory: read-only, or private (writable, copy on write; the file does not change).

    Raises:
        DecodeError: The file is empty.
    """
    with Path(path).open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY if private else mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise DecodeError(f"{path}: the file is empty") from error


def strict_json(
    raw: bytes,
    *,
    max_depth: int,
    max_nodes: int,
    maker: Maker | None = None,
) -> Any:  # Any: JSON
    """JSON from a stranger: depth and number of values are bounded before anything is built.

    Args:
        raw: UTF-8.
        max_depth: How many brackets may be open at once.
        max_nodes: How many values there may be.
        maker: What makes a value of each object; by default it stays a dict.

    Raises:
        DecodeError: It is no JSON, not within the bounds, or a name stands twice in one object.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"no UTF-8: {error.reason} at byte {error.start}") from None
    check_nesting(text, max_depth, max_nodes)
    hooks: dict[str, Any] = {"object_pairs_hook": _unique} if maker is None else {"object_hook": maker.object}
    try:
        value = json.JSONDecoder(parse_constant=_no_constant, **hooks).decode(text)
    except ValueError as error:  # a syntax error, or an integer of more digits than Python reads
        raise DecodeError(f"no JSON: {error}") from None
    # Each name has one colon. Counting them is exact, and takes less than to look at each object's list of names.
    if maker is not None and maker.num_names != text.count(":") and maker.num_names != _STRING.sub("", text).count(":"):
        raise DecodeError(_TWICE)
    return value


class Maker(Protocol):
    """Makes a value of each JSON object, the innermost first."""

    num_names: int
    """How many names its objects had so far."""

    def object(self, fields: dict[str, Any], /) -> Any:  # Any: JSON, and what was made of it
        """The value; adds to `num_names`."""
        ...


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise DecodeError(_TWICE)
    return result


def num_bytes(shape: Sequence[Any], itemsize: int) -> int:
    """How many bytes a tensor takes.

    Raises:
        DecodeError: The shape is no list of non-negative integers, has more than 64 of them, or is beyond any memory.
    """
    if type(shape) not in (list, tuple) or len(shape) > 64:
        raise DecodeError("a shape must be a list of at most 64 integers")
    for size in shape:
        if type(size) is not int or size < 0:  # type: a bool is an int
            raise DecodeError(f"a shape cannot hold {size!r}")
    product: int = math.prod(shape) * itemsize
    # NumPy computes the size of an empty array without its zeros, and refuses what overflows.
    if product > _MAX_SIZE or (not product and math.prod(size or 1 for size in shape) * max(itemsize, 1) > _MAX_SIZE):
        raise DecodeError("a tensor's shape is beyond any memory")
    return product


def check_nesting(text: str, max_depth: int, max_nodes: int) -> None:
    """Bound the depth and the number of values of a JSON text without parsing it.

    Raises:
        DecodeError: It is deeper, or holds more.
    """
    # Upper bounds by counting first: exact for almost every message, and as fast as a memory scan.
    opened = text.count("[") + text.count("{")
    if opened <= max_depth and opened + text.count(",") < max_nodes:
        return
    bare = _STRING.sub("", text)
    if bare.count("[") + bare.count("{") + bare.count(",") >= max_nodes:
        raise DecodeError(f"more than {max_nodes} values in one message")
    depth = 0
    for bracket in re.findall(r"[\[{\]}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > max_depth:
            raise DecodeError(f"more than {max_depth} levels in one message")


def _no_constant(name: str) -> float:
    raise DecodeError(f"{name} is no JSON")


def _entry(name: str, fields: Any) -> Entry:  # Any: unchecked JSON
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise DecodeError(f"tensor {name!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    carrier = CARRIERS.get(dtype) if isinstance(dtype, str) else None
    if carrier is None:
        raise DecodeError(f"tensor {name!r} has the unknown dtype {dtype!r}")
    size = num_bytes(shape, carrier.itemsize)
    if type(offsets) is not list or len(offsets) != 2 or any(type(offset) is not int for offset in offsets):
        raise DecodeError(f"tensor {name!r} must have two offsets")
    begin, end = offsets
    if begin < 0 or end - begin != size:
        raise DecodeError(f"tensor {name!r} of {size} bytes cannot lie at {begin}:{end}")
    return Entry(dtype, tuple(shape), begin, end)


def _carried(name: str, array: Array, tag: str | None) -> tuple[str, Array]:
    """An array as the layout holds it: the tag of its dtype, and the array in a dtype of `CARRIERS`."""
    array = np.asarray(array)
    ml_tag = ML_DTYPES.get(array.dtype.name)
    if ml_tag:
        array, tag = array.view(CARRIERS[ml_tag]), tag or ml_tag
    native = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    tag = tag or _TAGS.get(native)
    if tag is None or CARRIERS.get(tag) is None or CARRIERS[tag].itemsize != native.itemsize:
        raise EncodeError(name, f"a tensor file cannot hold {array.dtype} as {tag or 'any of its dtypes'}")
    if tag in _TAGS.values() and CARRIERS[tag] != native:
        raise EncodeError(name, f"{array.dtype} is not {tag}")
    return tag, array.astype(native, copy=False)


def _array(entry: Entry, data: Array) -> Array:
    carrier = CARRIERS[entry.dtype]
    array: Array = (
        np.ndarray(entry.shape, carrier, data, entry.begin)
        if entry.end > entry.begin
        else np.zeros(entry.shape, carrier)
    )
    ml_name = next((name for name, tag in ML_DTYPES.items() if tag == entry.dtype), None)
    if ml_name:
        try:
            return array.view(getattr(importlib.import_module("ml_dtypes"), ml_name))
        except ImportError:
            return array
    return array


def _write_all(handle: int, batch: Sequence[bytes | Array], on_refusal: OnRefusal) -> None:
    """`writev`, which may write less than asked (2 GiB at most): go on where it stopped."""
    pieces = [memoryview(piece) for piece in batch]
    index = 0
    while index < len(pieces):
        try:
            written = os.writev(handle, pieces[index:])
        except OSError as error:
            on_refusal(error)
            continue
        while index < len(pieces) and written >= pieces[index].nbytes:
            written -= pieces[index].nbytes
            index += 1
        if written:
            pieces[index] = pieces[index].cast("B")[written:]


def _batches(first: bytes, rest: Iterable[Array]) -> Iterator[list[bytes | Array]]:
    """A few pieces at a time, so that copies of strided arrays do not pile up."""
    batch: list[bytes | Array] = [first]
    for piece in rest:
        batch.append(piece)
        if len(batch) == 128:
            yield batch
            batch = []
    if batch:
        yield batch
