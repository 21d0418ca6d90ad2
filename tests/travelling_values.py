"""Values of every kind that can travel, for hypothesis; and when two of them are the same."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hansa.apis.analytix import AnalyticsDataType
from hansa.apis.dxo import DXO
from hansa.apis.fl_constant import MachineStatus
from hansa.apis.learnable import Learnable
from hansa.apis.model import ModelLearnable
from hansa.apis.partial import Partial
from hansa.apis.shareable import Shareable

texts = st.text(st.characters(), max_size=20)  # with lone surrogates, and "~", "[" and the like
names = st.one_of(texts, st.sampled_from(["~t", "~", "a~", "w.weight", '"', "\\", "[", "\ud83d\ude00", ""]))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(),
    st.complex_numbers(),
    names,
    st.binary(max_size=700),  # short ones stand in the structure, longer ones in the payload
    st.binary(max_size=700).map(bytearray),
    st.sampled_from([*AnalyticsDataType, *MachineStatus]),
)
keys = st.recursive(
    st.one_of(names, st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=9)),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=5),
    hnp.byte_string_dtypes(endianness="?", min_len=1, max_len=5),
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Any dtype and shape, zero-size and 0-d among them; now and then a view with strides."""
    array = draw(hnp.arrays(draw(dtypes), draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))))
    if draw(st.booleans()):
        array = array.T
    if array.ndim and draw(st.booleans()):
        array = array[::-1] if draw(st.booleans()) else array[..., ::2]
    return array


scalars = arrays().filter(lambda array: array.size > 0).map(lambda array: array.astype(array.dtype.newbyteorder("="))[
    (0,) * array.ndim
])  # fmt: skip
tensor_dicts = st.dictionaries(
    st.text(max_size=6, alphabet="abc.~é"), arrays(), max_size=20
)  # more than 16 of them have a table of their own


def shareable(content: dict[str, Any], headers: dict[str, Any]) -> Shareable:
    """A message with these entries and headers."""
    result = Shareable()
    result.update({name: item for name, item in content.items() if name != "__headers__"})
    for name, item in headers.items():
        result.set_header(name, item)
    return result


def partial(arrays: dict[str, Any], weight: float, meta: dict[str, Any]) -> Partial:
    """A sum of two sites."""
    return Partial(sum=arrays, weight=weight, participants=("a", "b"), meta={"b": meta})


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One more level around values."""
    by_name = st.dictionaries(names, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
        by_name,
        st.dictionaries(keys, inner, max_size=4),
        by_name.map(OrderedDict),
        by_name.map(Learnable),
        by_name.map(ModelLearnable),
        st.builds(shareable, by_name, by_name),
        st.builds(DXO, names, by_name, by_name),
        st.builds(partial, by_name, st.floats(), by_name),
    )


values = st.recursive(st.one_of(leaves, arrays(), scalars, tensor_dicts), containers, max_leaves=12)


def same(left: Any, right: Any) -> bool:
    """Equal in class, order, dtype, shape and every bit; a big-endian array equals its native twin."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        native = left.astype(left.dtype.newbyteorder("="))
        return native.dtype == right.dtype and left.shape == right.shape and native.tobytes() == right.tobytes()
    if isinstance(left, np.generic):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or left.hex() == right.hex()
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return sorted(map(repr, left)) == sorted(map(repr, right))
    if isinstance(left, (DXO, Partial)):
        return same(vars(left), vars(right))
    return bool(left == right)
