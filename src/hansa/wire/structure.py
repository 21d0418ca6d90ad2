"""The structure of a message: a value as tagged JSON.

The structure is JSON that stays plain where the value is: a dict with str keys is an object, a list an array. All
else is an object with one key that begins with `~`:

====== ========================================= ====================================================
tag    what follows                              a value of
====== ========================================= ====================================================
`~t`   [dtype, shape, offset(, blob)]            a tensor; without a blob it lies in the envelope
`~w`   [digest of a table, [blob, ...]]          a dict of nothing but tensors
`~s`   [dtype, hex]                              a NumPy scalar
`~b`   base64, or [length, offset(, blob)]       bytes
`~a`   the same                                  bytearray
`~i`   hex                                       an int of more than 64 bits
`~f`   "nan", "inf", "-inf"                      a float
`~c`   [real, imaginary]                         complex
`~u`   hex of UTF-8 with surrogates              a str that is no Unicode text
`~T`   array                                     tuple; `~S` set; `~F` frozenset
`~d`   [[key, value], ...]                       a dict with other keys than plain str
`~O`   an object, `~w` or `~d`                   OrderedDict
`~e`   [class, member]                           an enum of `hansa.apis`
`~v`   [class, {...}]                            a class of `hansa.wire.classes`
====== ========================================= ====================================================
"""

from __future__ import annotations

import binascii
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from hansa.wire.classes import CLASSES, NAMES, enum_name
from hansa.wire.dtypes import LONG_BYTES, Refusal, kind_of_array, kind_of_tensor
from hansa.wire.placing import Group, Placed, Shelf

MIN_TABLE: Final = 16
"""A dict of so many tensors gets a table of its own; a smaller one is cheaper inside the envelope."""
SHORT_BYTES: Final = 512
"""Bytes up to this length stand in the structure."""
SPARE_LEVELS: Final = 6
"""Brackets that the tags of a container and of a leaf may add to the depth at which the container stands."""
_MAX_INT: Final = 2**63 - 1
_ONLY_STR: Final = frozenset((str,))

Value = Any  # whatever the user put into the message
Json = Any  # what json.dumps takes


class Walk:
    """One pass over one value: collects its tensors, and leaves their places in the structure open.

    Args:
        shelf: The tensors that are known already.
        max_depth: How many brackets may be open around a container.
    """

    __slots__ = ("cut", "group_words", "groups", "max_depth", "open", "shelf", "single_words", "singles", "used")

    def __init__(self, shelf: Shelf, max_depth: int) -> None:
        self.shelf = shelf
        self.max_depth = max_depth
        self.open: list[object] = []  # the containers around the present value
        self.cut: int | None = None  # where a path comes back to itself
        self.used: dict[int, int] = {}  # how often each tensor, by id, is in this message
        self.singles: list[Placed] = []
        self.single_words: list[list[Json]] = []  # for each of them the words that its place is appended to
        self.groups: list[Group] = []
        self.group_words: list[list[Json]] = []

    def write(self, value: Value, depth: int) -> Json:
        """The structure of any value; `depth` is the number of brackets open around it, plus one.

        Raises:
            Refusal: It has none.
        """
        return (_WRITERS.get(type(value)) or _writer(type(value)))(self, value, depth)

    def path(self, refusal: Refusal) -> str:
        """Where in the value the refused one sits."""
        text = ""
        for part in refusal.parts[::-1][: self.cut]:
            text += part if part.startswith("[") or not text else f".{part}"
        return text

    def enter(self, value: object, depth: int) -> None:
        """Go into a container."""
        self.open.append(value)
        if depth > self.max_depth:
            ids = [id(one) for one in self.open]
            self.cut = next((index for index, one in enumerate(ids) if one in ids[:index]), None)
            raise Refusal("it is nested too deeply" if self.cut is None else "it contains itself")

    def single(self, value: Value, words: list[Json], *, describe: Callable[[Value], Placed]) -> Placed:
        """Note a tensor; its place will be appended to `words`."""
        item = self._item(value, self._key(value), describe)
        self.singles.append(item)
        self.single_words.append(words)
        return item

    def group(self, value: Mapping[str, Value]) -> Json | None:
        """The structure of a dict of tensors; None if it is none."""
        kinds = set(map(type, value.values()))
        if set(map(type, value)) != {str} or not all(_WRITERS.get(kind, _writer(kind)) is _tensor for kind in kinds):
            return None
        names, ones = tuple(value), list(value.values())  # taken once: a subclass may make them anew each time
        ids = list(map(id, ones))
        keys: Sequence[object] = ids
        first = dict.fromkeys(ids, 1)
        if len(first) == len(ids) and self.used.keys().isdisjoint(first):
            self.used.update(first)
        else:
            keys = [self._key(one) for one in ones]
        known = (names, *keys)
        group = self.shelf.groups.get(known)
        if group is None:
            if not all(map(_is_text, names)):
                raise Refusal("the name of a tensor must be Unicode text")
            items = []
            for name, one, key in zip(names, ones, keys, strict=True):
                try:
                    items.append(self._item(one, key, _describe))
                except Refusal as refusal:
                    refusal.parts.append(name)
                    raise
            group = self.shelf.groups[known] = Group(names, items)
        words: list[Json] = []
        self.groups.append(group)
        self.group_words.append(words)
        return {"~w": words}

    def _key(self, value: object) -> object:
        """By what a tensor is known: its identity. Twice in one message is two tensors: nothing arrives shared."""
        times = self.used.get(id(value), 0)
        self.used[id(value)] = times + 1
        return (id(value), times) if times else id(value)

    def _item(self, value: Value, key: object, describe: Callable[[Value], Placed]) -> Placed:
        item = self.shelf.known.get(key)
        if item is None:
            item = self.shelf.known[key] = describe(value)
        return item


Write = Callable[[Walk, Value, int], Json]


def _describe(value: Value) -> Placed:
    if isinstance(value, np.ndarray):
        return Placed(value, kind_of_array(value), shape=value.shape, size_bytes=value.nbytes)
    return Placed(value, kind_of_tensor(value), shape=value.shape, size_bytes=value.numel() * value.element_size())


def _describe_bytes(value: bytes) -> Placed:
    return Placed(value, LONG_BYTES, shape=(len(value),), size_bytes=len(value))


def _tensor(walk: Walk, value: Value, depth: int) -> Json:
    words: list[Json] = []
    item = walk.single(value, words, describe=_describe)
    words += (item.kind.name, item.shape)
    return {"~t": words}


def _scalar(walk: Walk, value: Value, depth: int) -> Json:
    if value.dtype.kind in "US" and not value.dtype.itemsize:  # an empty text; NumPy has no arrays of width 0
        return {"~s": ["str1", "00000000"] if value.dtype.kind == "U" else ["bytes1", "00"]}
    return {"~s": [kind_of_array(value).name, value.tobytes().hex()]}


def _none(walk: Walk, value: None, depth: int) -> Json:
    return None


def _bool(walk: Walk, value: bool, depth: int) -> Json:
    return value


def _int(walk: Walk, value: int, depth: int) -> Json:
    if -_MAX_INT <= value <= _MAX_INT:
        return int(value)  # of a subclass only the number travels
    return {"~i": format(int(value), "x")}  # hex: Python reads and writes no decimals of more than 4,300 digits


def _float(walk: Walk, value: float, depth: int) -> Json:
    return float(value) if math.isfinite(value) else {"~f": float.__repr__(value)}


def _complex(walk: Walk, value: complex, depth: int) -> Json:
    return {"~c": [_float(walk, value.real, depth), _float(walk, value.imag, depth)]}


def _str(walk: Walk, value: str, depth: int) -> Json:
    if value.isascii() or _is_text(value):
        return str.__str__(value)
    return {"~u": value.encode("utf-8", "surrogatepass").hex()}


def _bytes(walk: Walk, value: bytes | bytearray, depth: int) -> Json:
    tag = "~a" if isinstance(value, bytearray) else "~b"
    if len(value) <= SHORT_BYTES:
        return {tag: binascii.b2a_base64(value, newline=False).decode()}
    words: list[Json] = [len(value)]
    walk.single(value, words, describe=_describe_bytes)
    return {tag: words}


def _dict(walk: Walk, value: Mapping[Any, Value], depth: int) -> Json:
    if len(value) >= MIN_TABLE:
        group = walk.group(value)
        if group is not None:
            return group
    if not _are_plain_keys(value):
        return _general_dict(walk, value, depth)
    if type(value) is dict and depth <= walk.max_depth and _is_flat(value):
        return value
    walk.enter(value, depth)
    result: dict[str, Json] = {}
    for key, item in value.items():
        kind = type(item)
        if (kind is str and item.isascii()) or (kind is int and -_MAX_INT <= item <= _MAX_INT) or item is None:
            result[key] = item
        else:
            try:
                result[key] = (_WRITERS.get(kind) or _writer(kind))(walk, item, depth + 1)
            except Refusal as refusal:
                refusal.parts.append(key)
                raise
    walk.open.pop()
    return result


def _general_dict(walk: Walk, value: Mapping[Any, Value], depth: int) -> Json:
    walk.enter(value, depth)
    pairs = []
    for key, item in value.items():
        try:
            if not isinstance(key, (str, int, float, complex, bytes, tuple, frozenset, Enum, np.generic, type(None))):
                raise Refusal(f"a {type(key).__qualname__} cannot be the key of a dict on the wire")
            pairs.append([walk.write(key, depth + 3), walk.write(item, depth + 3)])
        except Refusal as refusal:
            refusal.parts.append(key if type(key) is str else f"[{key!r:.60}]")
            raise
    walk.open.pop()
    return {"~d": pairs}


def _list(walk: Walk, value: Collection[Value], depth: int) -> list[Json]:
    walk.enter(value, depth)
    result: list[Json] = []
    for item in value:
        kind = type(item)
        if (kind is str and item.isascii()) or (kind is int and -_MAX_INT <= item <= _MAX_INT) or item is None:
            result.append(item)
        else:
            try:
                result.append((_WRITERS.get(kind) or _writer(kind))(walk, item, depth + 1))
            except Refusal as refusal:
                refusal.parts.append(f"[{len(result)}]")
                raise
    walk.open.pop()
    return result


def _tuple(walk: Walk, value: tuple[Value, ...], depth: int) -> Json:
    return {"~T": _list(walk, value, depth + 1)}


def _set(walk: Walk, value: Collection[Value], depth: int) -> Json:
    # In a fixed order: that of a set of str differs from process to process, and so would the bytes.
    tag = "~F" if isinstance(value, frozenset) else "~S"
    return {tag: sorted(_list(walk, value, depth + 1), key=json.dumps)}


def _ordered_dict(walk: Walk, value: Mapping[Any, Value], depth: int) -> Json:
    return {"~O": _dict(walk, value, depth + 1)}


def _enum(walk: Walk, value: Enum, depth: int) -> Json:
    name = enum_name(type(value))
    if name is None:
        raise Refusal(f"{type(value).__qualname__} is no enum of hansa.apis; send its value")
    return {"~e": [name, value.name]}


def _class_of_table(walk: Walk, value: Value, depth: int) -> Json:
    name = NAMES.get(type(value)) or next(NAMES[kind] for kind in type(value).__mro__ if kind in NAMES)
    give = CLASSES[name].give
    fields = {field: getattr(value, field) for field in give} if give else value
    return {"~v": [name, _dict(walk, fields, depth + 2)]}


def _refuse(walk: Walk, value: Value, depth: int) -> Json:
    kind = type(value)
    what = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, np.ma.MaskedArray):
        raise Refusal("a masked array would lose its mask; send data and mask as two arrays")
    if is_dataclass(value) or isinstance(value, tuple):
        raise Refusal(f"a {what} has no form on the wire; send its fields as a dict")
    raise Refusal(f"a {what} has no form on the wire")


_WRITERS: dict[type, Write] = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
    bytearray: _bytes,
    dict: _dict,
    OrderedDict: _ordered_dict,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    np.ndarray: _tensor,
}
_WRITERS.update(dict.fromkeys(NAMES, _class_of_table))


def _writer(kind: type) -> Write:
    """What writes a value of a class that is not in the table itself: as the nearest class that is."""
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(kind, getattr(torch, "Tensor", ())):
        return _tensor
    if issubclass(kind, Enum):
        return _enum
    if issubclass(kind, np.generic):
        return _scalar
    if issubclass(kind, np.ma.MaskedArray) or hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__"):
        # A dataclass or namedtuple that is no member of the table must not lose its class on the way.
        return _WRITERS.get(kind, _refuse)
    return next((_WRITERS[parent] for parent in kind.__mro__ if parent in _WRITERS), _refuse)


def _is_flat(value: dict[str, Value]) -> bool:
    """Whether the values of a dict are their own structure, as those of headers mostly are."""
    for item in value.values():
        kind = type(item)
        if kind is str:
            if not item.isascii():
                return False
        elif kind is int:
            if not -_MAX_INT <= item <= _MAX_INT:
                return False
        elif item is not None and kind is not bool:
            return False
    return True


def _are_plain_keys(value: Mapping[Any, object]) -> bool:
    """Whether a dict can be an object as it is: keys of str that are Unicode text and do not look like a tag."""
    if not _ONLY_STR.issuperset(map(type, value)):
        return False
    joined = "".join(value)
    if "~" not in joined and joined.isascii():
        return True
    return all(key[:1] != "~" and _is_text(key) for key in value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
