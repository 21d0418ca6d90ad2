"""From a message to the value.

Everything is checked before memory is taken for it, and what the bytes can make is a closed list: plain values,
tensors, and the classes of `hansa.wire.classes`. Whatever the bytes, the only error is DecodeError.
"""

from __future__ import annotations

import binascii
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import numpy as np

from hansa.apis.dxo import DXO
from hansa.apis.partial import Partial
from hansa.errors import DecodeError
from hansa.tensors import Array, num_bytes, strict_json
from hansa.wire.blobs import Allocate, fresh
from hansa.wire.classes import CLASSES, enum_member
from hansa.wire.dtypes import LONG_BYTES, Kind, check_values, kind_of_name, tensor_from
from hansa.wire.limits import Limits
from hansa.wire.message import Message, unseal
from hansa.wire.placing import INLINE
from hansa.wire.sources import Ownership, Source
from hansa.wire.tables import TableCache, check_overlap

Value = Any  # what the message holds

_FLOATS: Final = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def decode(
    message: Message,
    *,
    arrays: Ownership = "copy",
    limits: Limits = Limits(),  # noqa: B008  frozen
    tables: TableCache | None = None,
    allocate: Allocate = fresh,
) -> Value:
    """The value of a message.

    Args:
        message: What came.
        arrays: "copy": one private writable copy of each blob, and tensors are views of it. "own": the receiver gets
            the blob's own memory, writable, and the blob is of no use any more; a mapped file gives a copy-on-write
            map and stays whole. "readonly": views of the blob's memory; a torch tensor, which cannot be read-only,
            gets memory as under "own" from a file, as under "copy" otherwise.
        limits: What to accept.
        tables: The tables that this connection has brought before.
        allocate: Where copies go.

    Returns:
        The value; equal to what was encoded, with nothing shared inside it. Its arrays keep their memory alive.

    Raises:
        DecodeError: The bytes are no message, break a limit, or hold what cannot exist here (bfloat16 without torch
            or `ml_dtypes`; the error then names the place).
    """
    structure, begin = unseal(message.envelope, limits.max_envelope_bytes)
    reader = _Reader(message, limits, tables)
    reader.sources = {
        index: Source.of_blob(blob, arrays, allocate=allocate) for index, blob in enumerate(message.blobs)
    }
    reader.sources[INLINE] = Source.of_bytes(message.envelope, begin, arrays=arrays, allocate=allocate)
    value = strict_json(structure, max_depth=limits.max_depth, max_nodes=limits.max_nodes, maker=reader)
    if len(reader.places) > 1:
        check_overlap(reader.places)
    if reader.missing:
        raise DecodeError(f"{_path_of(value, '')}: {reader.missing}")
    return value


class _Missing:
    """Stands where a tensor should, until its path is known."""


class _Reader:
    """Turns the objects of a structure into values, the innermost first, as JSON's parser finds them."""

    def __init__(self, message: Message, limits: Limits, tables: TableCache | None) -> None:
        self.message = message
        self.limits = limits
        self.tables = tables
        self.sources: dict[int, Source] = {}
        self.places: list[tuple[int, int, int]] = []  # blob, offset and size of each tensor that has no table
        self.missing = ""
        self.num_tensors = 0
        self.num_names = 0

    def object(self, fields: dict[str, Value]) -> Value:
        """A tagged value, or a dict."""
        self.num_names += len(fields)
        if "~" in "".join(fields):
            for key, body in fields.items():
                if key[:1] != "~":
                    continue
                if len(fields) > 1:
                    raise DecodeError(f"the tag {key!r:.40} does not stand alone")
                read = _READERS.get(key)
                if read is None:
                    raise DecodeError(f"unknown tag {key!r:.40}")
                return read(self, body)
        return fields

    def tensor(self, body: Value) -> Value:
        """`[dtype, shape, offset(, blob)]`."""
        if type(body) is not list or not 3 <= len(body) <= 4:
            raise _unlike("tensor", body)
        kind = kind_of_name(body[0])
        size_bytes = num_bytes(body[1], kind.dtype.itemsize)
        source, offset = self._place(body[2:], kind, size_bytes)
        return self._make(source, kind, body[1], offset, size_bytes)

    def table(self, body: Value) -> Value:
        """`[digest, [blob, ...]]`."""
        _expect(type(body) is list and len(body) == 2 and type(body[0]) is str and type(body[1]) is list, "table", body)
        if self.tables is None:
            self.tables = TableCache()
        table = self.tables.find(body[0], self.message.tables, limits=self.limits)
        _expect(len(body[1]) == len(table.sizes), "table", body)
        sources = [self._source(number) for number in body[1]]
        _expect(len(set(body[1])) == len(body[1]), "table", body)
        self._count(len(table.rows))
        for source, size_bytes in zip(sources, table.sizes, strict=True):
            source.claim(size_bytes)
        for (local, region), (begin, end) in table.extents.items():
            sources[local].check(region, begin, end=end)
        return {
            row.name: self._make(sources[row.source], row.kind, row.shape, row.offset, row.size_bytes)
            for row in table.rows
        }

    def long_bytes(self, body: Value) -> bytes:
        """Base64, or `[length, offset(, blob)]`."""
        if type(body) is str:
            try:
                return binascii.a2b_base64(body, strict_mode=True)
            except ValueError:
                raise DecodeError("these are no bytes in base64") from None
        _expect(type(body) is list and 2 <= len(body) <= 3 and type(body[0]) is int and body[0] >= 0, "bytes", body)
        source, offset = self._place(body[1:], LONG_BYTES, body[0])
        return source.view[offset : offset + body[0]].tobytes()

    def _place(self, body: list[Value], kind: Kind, size_bytes: int) -> tuple[Source, int]:
        """Check `[offset(, blob)]` of a single tensor."""
        number = body[1] if len(body) == 2 else INLINE
        source, offset = self._source(number), body[0]
        if type(offset) is not int or offset < 0 or offset % kind.region.item_bytes:
            raise _unlike("offset", offset)
        self._count(1)
        source.claim(size_bytes)
        source.check(kind.region.name, offset, end=offset + size_bytes)
        self.places.append((number, offset, size_bytes))
        return source, offset

    def _source(self, number: Value) -> Source:
        source = self.sources.get(number) if type(number) is int else None
        if source is None:
            raise DecodeError(f"the message has no blob {number!r:.40}")
        return source

    def _count(self, number: int) -> None:
        self.num_tensors += number
        if self.num_tensors > self.limits.max_tensors:
            raise DecodeError(f"more than {self.limits.max_tensors} tensors in one message")

    def _make(self, source: Source, kind: Kind, shape: Any, offset: int, size_bytes: int) -> Value:
        """A checked tensor."""
        array: Array
        if size_bytes:
            array = np.ndarray(shape, kind.dtype, source.writable if kind.torch else source.memory, offset)
            if kind.dtype.kind in "bU":
                check_values(array, kind)
        else:
            array = np.empty(shape, kind.dtype)
            array.flags.writeable = bool(kind.torch) or source.is_writable
        if not kind.torch and not kind.ml:
            return array
        try:
            return tensor_from(array, kind)
        except ImportError as error:
            self.missing = str(error)
            return _Missing()


def _scalar(reader: _Reader, body: Value) -> Value:
    _expect(type(body) is list and len(body) == 2 and type(body[1]) is str, "scalar", body)
    kind = kind_of_name(body[0])
    data = _hex(body[1])
    _expect(not kind.torch and len(data) == kind.dtype.itemsize, "scalar", body)
    array = np.frombuffer(data, kind.dtype)
    check_values(array, kind)
    try:
        return tensor_from(array, kind)[0]
    except ImportError as error:
        reader.missing = str(error)
        return _Missing()


def _int(reader: _Reader, body: Value) -> int:
    _expect(type(body) is str, "int", body)
    try:
        return int(body, 16)
    except ValueError:
        raise DecodeError("these are no digits of an int") from None


def _float(reader: _Reader, body: Value) -> float:
    _expect(type(body) is str and body in _FLOATS, "float", body)
    return _FLOATS[body]


def _complex(reader: _Reader, body: Value) -> complex:
    _expect(type(body) is list and len(body) == 2 and all(type(part) is float for part in body), "complex", body)
    return complex(*body)


def _str(reader: _Reader, body: Value) -> str:
    _expect(type(body) is str, "str", body)
    try:
        return _hex(body).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise DecodeError("these are no characters") from None


def _bytearray(reader: _Reader, body: Value) -> bytearray:
    return bytearray(reader.long_bytes(body))


def _tuple(reader: _Reader, body: Value) -> tuple[Value, ...]:
    _expect(type(body) is list, "tuple", body)
    return tuple(body)


def _set(reader: _Reader, body: Value) -> set[Value]:
    _expect(type(body) is list and all(map(_is_key, body)), "set", body)
    result = set(body)
    if len(result) != len(body):
        raise DecodeError("a value stands twice in one set")
    return result


def _frozenset(reader: _Reader, body: Value) -> frozenset[Value]:
    return frozenset(_set(reader, body))


def _dict(reader: _Reader, body: Value) -> dict[Value, Value]:
    _expect(
        type(body) is list and all(type(pair) is list and len(pair) == 2 and _is_key(pair[0]) for pair in body),
        "dict",
        body,
    )
    result = dict(body)
    if len(result) != len(body):
        raise DecodeError("a key stands twice in one dict")
    return result


def _ordered_dict(reader: _Reader, body: Value) -> OrderedDict[Value, Value]:
    _expect(type(body) is dict, "OrderedDict", body)
    return OrderedDict(body)


def _class_of_table(reader: _Reader, body: Value) -> object:
    if type(body) is not list or len(body) != 2 or type(body[0]) is not str or type(body[1]) is not dict:
        raise _unlike("class", body)
    entry = CLASSES.get(body[0])
    if entry is None:
        raise DecodeError(f"no class is called {body[0]!r:.60}")
    return entry.take(body[1])


def _enum(reader: _Reader, body: Value) -> Enum:
    return enum_member(body)


_READERS: Final[dict[str, Callable[[_Reader, Value], Value]]] = {
    "~t": _Reader.tensor,
    "~w": _Reader.table,
    "~s": _scalar,
    "~b": _Reader.long_bytes,
    "~a": _bytearray,
    "~i": _int,
    "~f": _float,
    "~c": _complex,
    "~u": _str,
    "~T": _tuple,
    "~S": _set,
    "~F": _frozenset,
    "~d": _dict,
    "~O": _ordered_dict,
    "~e": _enum,
    "~v": _class_of_table,
}
_KEYS: Final = (str, int, float, complex, bytes, type(None), Enum, np.generic)


def _expect(condition: bool, what: str, body: Value) -> None:
    if not condition:
        raise _unlike(what, body)


def _unlike(what: str, body: Value) -> DecodeError:
    return DecodeError(f"no {what}: a {type(body).__name__}")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise DecodeError("these are no bytes in hex") from None


def _is_key(value: Value) -> bool:
    """Whether a value can be hashed; a tuple or frozenset can if its values can."""
    return isinstance(value, _KEYS) or (isinstance(value, (tuple, frozenset)) and all(map(_is_key, value)))


def _path_of(value: Value, path: str) -> str:
    """Where the first missing tensor sits; "" if not in here."""
    if isinstance(value, _Missing):
        return path or "the value"
    children: list[tuple[str, Value]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, (DXO, Partial)):
        return _path_of(vars(value), path)
    return next((found for name, item in children if (found := _path_of(item, name))), "")
