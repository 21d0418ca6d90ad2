"""DXO: what a message is about."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_bytes, from_shareable
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.errors import DecodeError


def test_nothing_is_copied_in_either_direction() -> None:
    data: dict[str, Any] = {"w": np.zeros(2)}
    meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: 4}
    message = DXO(DataKind.WEIGHTS, data, meta).to_shareable()

    again = from_shareable(message)

    assert again.data is message["DXO"]["data"] is data
    assert again.meta is message["DXO"]["meta"] is meta
    again.data["w"][0] = 7.0
    assert message["DXO"]["data"]["w"][0] == 7.0


def test_an_empty_dict_stays_the_callers_own() -> None:
    data: dict[str, Any] = {}

    assert DXO(DataKind.WEIGHTS, data).data is data


def test_the_form_inside_a_message() -> None:
    message = DXO("my own kind", data={"a": 1}, meta={"m": 2}).to_shareable()

    assert message["DXO"] == {"kind": "my own kind", "data": {"a": 1}, "meta": {"m": 2}}
    assert message["__headers__"] == {"__content_type__": "DXO"}


def test_update_shareable_keeps_what_is_there() -> None:
    message = make_reply("EMPTY_RESULT")
    message["note"] = 1

    returned = DXO(DataKind.METRICS, {"a": 1}).update_shareable(message)

    assert returned is message
    assert message.get_return_code() == "EMPTY_RESULT"
    assert message["note"] == 1
    assert from_shareable(message).data == {"a": 1}


def test_none_becomes_an_empty_dict() -> None:
    dxo = DXO(DataKind.METRICS, None, None)  # type: ignore[arg-type]  # what applications do

    assert dxo.data == {}
    assert dxo.meta == {}
    assert dxo.validate() == ""


@pytest.mark.parametrize(("data", "meta"), [([1], None), ("text", None), ({}, [1]), ({}, "text")])
def test_data_or_meta_that_is_no_dict_is_refused(data: Any, meta: Any) -> None:
    with pytest.raises(ValueError, match="must be a dict"):
        DXO(DataKind.WEIGHTS, data, meta)


def test_validate_looks_again() -> None:
    dxo = DXO(DataKind.WEIGHTS, {})
    dxo.data = [1]  # type: ignore[assignment]  # attributes are plain
    assert dxo.validate().startswith("data must be a dict")


def test_meta_props() -> None:
    dxo = DXO(DataKind.WEIGHTS, {})
    dxo.set_meta_prop("a", 1)
    dxo.update_meta_props({"b": 2, "c": 3})
    dxo.remove_meta_props(["a", "not there"])

    assert dxo.get_meta_prop("a") is None
    assert dxo.get_meta_prop("a", 9) == 9
    assert dxo.get_meta_prop("b") == 2
    assert dxo.get_meta_props() is dxo.meta
    assert dxo.meta == {"b": 2, "c": 3}


def test_from_shareable_without_a_dxo() -> None:
    no_type = Shareable()
    no_type["DXO"] = {"kind": "WEIGHTS", "data": {}, "meta": {}}
    other_type = Shareable()
    other_type.set_header(ReservedHeaderKey.CONTENT_TYPE, "text")
    no_content = Shareable()
    no_content.set_header(ReservedHeaderKey.CONTENT_TYPE, "DXO")
    odd_content = Shareable()
    odd_content.set_header(ReservedHeaderKey.CONTENT_TYPE, "DXO")
    odd_content["DXO"] = {"kind": "WEIGHTS", "data": [1], "meta": {}}

    for message in (Shareable(), no_type, other_type, no_content, odd_content):
        with pytest.raises(ValueError, match="DXO"):
            from_shareable(message)
    with pytest.raises(TypeError, match="expect a Shareable"):
        from_shareable({})  # type: ignore[arg-type]


def test_bytes_and_back() -> None:
    inner = DXO(DataKind.WEIGHT_DIFF, {"w": np.array([1.0, 2.0], dtype=np.float32)})
    dxo = DXO(DataKind.COLLECTION, OrderedDict(inner=inner), {MetaKey.MODEL_OWNER: "site-1"})

    again = from_bytes(dxo.to_bytes())

    assert type(again) is DXO
    assert again.data_kind == "COLLECTION"
    assert again.meta == {"MODEL_OWNER": "site-1"}
    assert type(again.data) is OrderedDict
    assert type(again.data["inner"]) is DXO
    assert again.data["inner"].data["w"].tolist() == [1.0, 2.0]
    assert again.data["inner"].data["w"].dtype == np.float32


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(DecodeError, match="not a DXO"):
        from_bytes(Shareable().to_bytes())
