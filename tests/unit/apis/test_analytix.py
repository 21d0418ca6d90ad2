"""Records of numbers, texts and images."""

from __future__ import annotations

from typing import Any

import pytest

from hansa.apis.analytix import _DATA_TYPE_KEY, _KWARGS_KEY, AnalyticsData, AnalyticsDataType
from hansa.apis.dxo import DXO, DataKind


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((7, 0.5, AnalyticsDataType.SCALAR), "expect tag to be an instance of str, but got <class 'int'>"),
        (("loss", 0.5, "SCALAR"), "expect data_type to be an instance of AnalyticsDataType, but got <class 'str'>"),
        (("loss", 0.5, AnalyticsDataType.SCALAR, [1]), "expect kwargs to be an instance of dict, but got <class"),
        (("loss", 1, AnalyticsDataType.SCALAR), "expect value to be an instance of float, but got <class 'int'>"),
        (("loss", 0.5, AnalyticsDataType.SCALARS), "expect value to be an instance of dict, but got <class 'float'>"),
        (("note", 0.5, AnalyticsDataType.TEXT), "expect value to be an instance of str, but got <class 'float'>"),
    ],
)
def test_refuses_other_types(arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(TypeError) as refused:
        AnalyticsData(*arguments)
    assert str(refused.value).startswith(text)


def test_kwargs_are_only_looked_at_where_there_are_some() -> None:
    falsy: Any = []
    assert not AnalyticsData("loss", 0.5, AnalyticsDataType.SCALAR, falsy).kwargs


def test_an_image_may_be_anything() -> None:
    assert AnalyticsData("picture", [[0, 1]], AnalyticsDataType.IMAGE).value == [[0, 1]]


def test_the_dxo_holds_value_type_and_kwargs() -> None:
    dxo = AnalyticsData("loss", 0.5, AnalyticsDataType.SCALAR, {"global_step": 3}).to_dxo()
    assert dxo.data_kind == DataKind.ANALYTIC
    assert dxo.data == {"loss": 0.5}
    assert dxo.get_meta_prop(_DATA_TYPE_KEY) is AnalyticsDataType.SCALAR
    assert dxo.get_meta_prop(_KWARGS_KEY) == {"global_step": 3}


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (0.5, AnalyticsDataType.SCALAR),
        ({"a": 1.0, "b": 2.0}, AnalyticsDataType.SCALARS),
        ("hello", AnalyticsDataType.TEXT),
        ([[0]], AnalyticsDataType.IMAGE),
    ],
)
def test_comes_back_from_its_dxo(value: object, data_type: AnalyticsDataType) -> None:
    back = AnalyticsData.from_dxo(AnalyticsData("tag", value, data_type, {"k": 1}).to_dxo())
    assert (back.tag, back.value, back.data_type, back.kwargs) == ("tag", value, data_type, {"k": 1})


def test_from_dxo_wants_a_dxo() -> None:
    with pytest.raises(TypeError) as refused:
        AnalyticsData.from_dxo({"loss": 0.5})  # type: ignore[arg-type]  # the point of the test
    assert str(refused.value).startswith("expect dxo to be an instance of DXO, but got <class 'dict'>")


@pytest.mark.parametrize("data", [{}, {"a": 1.0, "b": 2.0}])
def test_from_dxo_wants_one_entry(data: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one entry"):
        AnalyticsData.from_dxo(DXO(DataKind.ANALYTIC, data, {_DATA_TYPE_KEY: AnalyticsDataType.SCALAR}))


def test_from_dxo_looks_at_the_type_not_at_the_kind() -> None:
    meta = {_DATA_TYPE_KEY: AnalyticsDataType.SCALAR}
    assert AnalyticsData.from_dxo(DXO(DataKind.METRICS, {"loss": 0.5}, meta)).value == 0.5
    with pytest.raises(TypeError) as refused:
        AnalyticsData.from_dxo(DXO(DataKind.ANALYTIC, {"loss": 0.5}))
    assert str(refused.value).startswith("expect data_type to be an instance of AnalyticsDataType, but got <class")
