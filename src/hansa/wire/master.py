"""One message for many receivers in the same process: decoded once, then copied for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hansa.apis.dxo import DXO
from hansa.apis.shareable import Shareable
from hansa.tensors import Array
from hansa.wire.blobs import Allocate
from hansa.wire.decoder import decode
from hansa.wire.message import Message
from hansa.wire.tables import TableCache

Value = Any  # what the message holds

_ATOMS = frozenset((str, int, float, bool, type(None), bytes))


class Master:
    """Gives each receiver what `decode` would give it, for less.

    The first one pays for the decoding. Others get containers of their own and, where they may write, one copy of each
    blob. What holds other classes than the usual ones is decoded anew each time.

    Args:
        message: What came.
        tables: The tables of tensors that came before.
    """

    def __init__(self, message: Message, tables: TableCache | None) -> None:
        self._message = message
        self._tables = tables
        self._value: Value = decode(message, arrays="readonly", tables=tables)
        self._blobs = [blob.data for blob in message.blobs]
        self._begins = [_address(data) for data in self._blobs]
        self._places: dict[int, tuple[int, int]] = {}  # by id of an array: its blob, and its first byte there
        self._is_simple = self._look(self._value)

    def give(self, *, writable: bool, allocate: Allocate) -> Value:
        """The value, nothing of it shared with anybody who may write.

        Args:
            writable: Whether arrays are the receiver's own; else they are read-only views of the one memory.
            allocate: Where copies go.
        """
        if not self._is_simple:
            arrays = "copy" if writable else "readonly"
            return decode(self._message, arrays=arrays, tables=self._tables, allocate=allocate)  # type: ignore[arg-type]  # a Literal
        if not writable:
            return _clone(self._value, _same)
        copies: dict[int, Array] = {}

        def copied(array: Array) -> Array:
            place = self._places.get(id(array))
            if place is None:  # in the envelope, and small
                return array.copy()
            number, offset = place
            memory = copies.get(number)
            if memory is None:
                memory = copies[number] = allocate(self._blobs[number].nbytes)
                memory[:] = self._blobs[number]
                self._message.blobs[number].num_copies += 1
            return np.ndarray(array.shape, array.dtype, memory, offset)

        return _clone(self._value, copied)

    def _look(self, value: Value) -> bool:
        kind = type(value)
        if kind in _ATOMS:
            return True
        if kind is np.ndarray:
            self._place(value)
            return True
        if kind is DXO:
            return self._look(value.data) and self._look(value.meta)
        if kind is dict or kind is Shareable:
            return not (kind is Shareable and vars(value)) and all(map(self._look, value.values()))
        return kind is list and all(map(self._look, value))

    def _place(self, array: Array) -> None:
        if not array.nbytes:
            return
        address = _address(array)
        for number, (begin, data) in enumerate(zip(self._begins, self._blobs, strict=True)):
            if begin <= address < begin + data.nbytes:
                self._places[id(array)] = number, address - begin


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _same(array: Array) -> Array:
    return array


def _clone(value: Value, copied: Callable[[Array], Array]) -> Value:
    kind = type(value)
    if kind is np.ndarray:
        return copied(value)
    if kind is DXO:
        return DXO(value.data_kind, _clone(value.data, copied), _clone(value.meta, copied))
    if kind is list:
        return [item if type(item) in _ATOMS else _clone(item, copied) for item in value]
    own: dict[Any, Any] = {}
    for key, item in value.items():
        own[key] = item if type(item) in _ATOMS else _clone(item, copied)
    if kind is dict:
        return own
    result = Shareable()
    result.clear()  # its own order of entries
    result.update(own)
    return result
