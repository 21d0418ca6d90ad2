"""A number, a text or an image that somebody reports while a run goes on."""

from __future__ import annotations

from enum import Enum
from typing import Any

from hansa.apis.dxo import DXO, DataKind

_DATA_TYPE_KEY = "analytics_data_type"
_KWARGS_KEY = "analytics_kwargs"


class AnalyticsDataType(Enum):
    """What a record holds."""

    SCALARS = "SCALARS"
    """Several named numbers under one tag: `{"loss": 0.3, "accuracy": 0.9}`."""
    SCALAR = "SCALAR"
    """One number; a Python float."""
    IMAGE = "IMAGE"
    """Anything that the receiver can draw."""
    TEXT = "TEXT"
    """A string."""
    LOG_RECORD = "LOG_RECORD"
    """A record of the logging module."""


_VALUE_TYPES: dict[AnalyticsDataType, type] = {
    AnalyticsDataType.SCALAR: float,
    AnalyticsDataType.SCALARS: dict,
    AnalyticsDataType.TEXT: str,
}


class AnalyticsData:
    """One record: a tag and its value.

    Args:
        tag: What is measured, such as `train_loss`.
        value: The measurement: a float for SCALAR (an int is refused), a dict for SCALARS, a str for TEXT, else any.
        data_type: What `value` is.
        kwargs: What goes to the receiver's writer beside it, such as `global_step`.

    Raises:
        TypeError: An argument is of another type.
    """

    def __init__(
        self,
        tag: str,
        value: Any,  # Any: its type follows from data_type
        data_type: AnalyticsDataType,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        _expect("tag", tag, str)
        _expect("data_type", data_type, AnalyticsDataType)
        if kwargs:
            _expect("kwargs", kwargs, dict)
        if data_type in _VALUE_TYPES:
            _expect("value", value, _VALUE_TYPES[data_type])
        self.tag = tag
        self.value = value
        self.data_type = data_type
        self.kwargs = kwargs

    def to_dxo(self) -> DXO:
        """The record as a DXO of kind ANALYTIC: data `{tag: value}`, type and kwargs in its meta."""
        return DXO(
            data_kind=DataKind.ANALYTIC,
            data={self.tag: self.value},
            meta={_DATA_TYPE_KEY: self.data_type, _KWARGS_KEY: self.kwargs},
        )

    @classmethod
    def from_dxo(cls, dxo: DXO) -> AnalyticsData:
        """The record that `to_dxo` made; the DXO's kind is not looked at.

        Raises:
            TypeError: Not a DXO, or tag, type, kwargs or value are not of their types.
            ValueError: The DXO's data has not exactly one entry.
        """
        _expect("dxo", dxo, DXO)
        if len(dxo.data) != 1:
            raise ValueError(f"expect dxo to have exactly one entry in its data, but got {len(dxo.data)}.")
        ((tag, value),) = dxo.data.items()
        return cls(tag, value, dxo.get_meta_prop(_DATA_TYPE_KEY), dxo.get_meta_prop(_KWARGS_KEY))


def _expect(name: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise TypeError(f"expect {name} to be an instance of {wanted.__name__}, but got {type(value)}.")
