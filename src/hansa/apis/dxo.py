"""The learning content of a message: weights, differences, metrics, and what belongs to them."""

from __future__ import annotations

from typing import Any

from hansa.apis import byte_form
from hansa.apis.shareable import ReservedHeaderKey, Shareable

_CONTENT_TYPE = "DXO"
_ENTRY = "DXO"
_KIND = "kind"
_DATA = "data"
_META = "meta"


class DataKind:
    """What the data of a DXO is."""

    ANALYTIC = "ANALYTIC"  # one tagged value for a curve or a log
    WEIGHTS = "WEIGHTS"  # a model's parameters by name
    WEIGHT_DIFF = "WEIGHT_DIFF"  # trained minus received, by name
    METRICS = "METRICS"  # numbers by name
    MODEL = "MODEL"  # a model in a form of its own
    COLLECTION = "COLLECTION"  # DXOs by name


class MetaKey:
    """What the meta of a DXO says."""

    NUM_STEPS_CURRENT_ROUND = "NUM_STEPS_CURRENT_ROUND"  # local work behind the weights; the weight of the mean
    PROCESSED_ALGORITHM = "PROCESSED_ALGORITHM"  # how a filter encoded the data
    PROCESSED_KEYS = "PROCESSED_KEYS"  # which names it encoded
    INITIAL_METRICS = "initial_metrics"  # how the received model did, before training
    MODEL_OWNER = "MODEL_OWNER"  # who trained the model


class DXO:
    """A kind, a dict of data and a dict of meta.

    Nothing is copied on the way into a Shareable and out of it: what is written into `data` shows in the message.

    Args:
        data_kind: A `DataKind`, or a word of the application's own; not checked.
        data: By name: arrays, numbers, nested DXOs, any dict subclass. None: empty.
        meta: By `MetaKey`. None: empty.

    Raises:
        ValueError: The data or the meta is no dict.
    """

    def __init__(self, data_kind: str, data: dict[str, Any], meta: dict[str, Any] | None = None) -> None:
        self.data_kind = data_kind
        self.data: dict[str, Any] = {} if data is None else data
        self.meta: dict[str, Any] = {} if meta is None else meta
        problem = self.validate()
        if problem:
            raise ValueError(f"invalid DXO: {problem}")

    def get_meta_prop(self, key: str, default: Any = None) -> Any:  # Any: whatever the codec can carry
        """One entry of the meta, or the default."""
        return self.meta.get(key, default)

    def set_meta_prop(self, key: str, value: Any) -> None:  # Any: whatever the codec can carry
        """Set one entry of the meta."""
        self.meta[key] = value

    def get_meta_props(self) -> dict[str, Any]:
        """The meta itself, not a copy."""
        return self.meta

    def update_meta_props(self, meta: dict[str, Any]) -> None:
        """Set several entries of the meta."""
        self.meta.update(meta)

    def remove_meta_props(self, keys: list[str]) -> None:
        """Take entries out of the meta; those that are not there are ignored."""
        for key in keys or ():
            self.meta.pop(key, None)

    def to_shareable(self) -> Shareable:
        """A new message with this content."""
        return self.update_shareable(Shareable())

    def update_shareable(self, s: Shareable) -> Shareable:
        """Make this the content of a message, which keeps its other headers and entries; returns the message."""
        s.set_header(ReservedHeaderKey.CONTENT_TYPE, _CONTENT_TYPE)
        s[_ENTRY] = {_KIND: self.data_kind, _DATA: self.data, _META: self.meta}
        return s

    def validate(self) -> str:
        """What is wrong with it, in words; empty if nothing is."""
        if not isinstance(self.data, dict):
            return f"data must be a dict, but got {type(self.data)}"
        if not isinstance(self.meta, dict):
            return f"meta must be a dict, but got {type(self.meta)}"
        return ""

    def to_bytes(self) -> bytes:
        """The DXO as bytes, for a file or a message of one's own.

        Raises:
            EncodeError: A value has no form on the wire; the error names its path.
        """
        return byte_form.encode(self)

    def __repr__(self) -> str:
        return f"DXO({self.data_kind}, {len(self.data)} entries, meta {list(self.meta)})"


def from_shareable(s: Shareable) -> DXO:
    """The DXO in a message, over the message's own dicts.

    Raises:
        TypeError: Not a Shareable.
        ValueError: The message holds no DXO.
    """
    if not isinstance(s, Shareable):
        raise TypeError(f"expect a Shareable, but got {type(s)}")
    content_type = s.get_header(ReservedHeaderKey.CONTENT_TYPE)
    if content_type != _CONTENT_TYPE:
        raise ValueError(f"the Shareable holds no DXO: its content type is {content_type!r}")
    content = s.get(_ENTRY)
    if not isinstance(content, dict) or not content:
        raise ValueError("the Shareable holds no DXO: it has no content")
    return DXO(content.get(_KIND, ""), content.get(_DATA, {}), content.get(_META))


def from_bytes(data: bytes) -> DXO:
    """The DXO that `DXO.to_bytes` wrote.

    Raises:
        DecodeError: The bytes are something else.
    """
    return byte_form.decode(data, DXO)
