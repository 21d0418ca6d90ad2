"""A chain of filters: order, failures, and what each chain may write into."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.filter import Filter
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.shareable import Shareable
from hansa.runtime.filter_chain import copy_structure, no_message, run_chain, writes_input
from hansa.runtime.user_code import Failure


class Does(Filter):
    """Calls a function with the data."""

    def __init__(self, function: Callable[[Shareable], Any]) -> None:
        super().__init__()
        self.function = function

    def process(self, data: Shareable, ctx: FLContext) -> Shareable:  # other names: it is called by position
        result: Shareable = self.function(data)
        return result


def appends(name: str) -> Does:
    def note(data: Shareable) -> Shareable:
        data["way"] = [*data.get("way", []), name]
        return data

    return Does(note)


def test_filters_run_in_their_order_two_of_one_class_too() -> None:
    result = run_chain([appends("b"), appends("a"), appends("c")], Shareable(), FLContext())
    assert isinstance(result, Shareable)
    assert result["way"] == ["b", "a", "c"]


def test_no_filter_gives_the_very_message() -> None:
    message = Shareable()
    assert run_chain((), message, FLContext()) is message


def test_what_one_returns_the_next_is_given() -> None:
    other = Shareable()
    assert run_chain([Does(lambda _: other), Does(lambda data: data)], Shareable(), FLContext()) is other


def test_the_first_failure_ends_the_chain_and_is_named() -> None:
    def refuse(data: Shareable) -> Shareable:
        raise PermissionError("not at this site")

    reached = []
    result = run_chain([Does(refuse), Does(reached.append)], Shareable(), FLContext())
    assert isinstance(result, Failure)
    assert result.cause.startswith("filter Does: PermissionError: not at this site (test_filter_chain.py:")
    assert reached == []


def broken_headers() -> Shareable:
    message = Shareable()
    message["__headers__"] = "none"
    return message


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "NoneType, not a Shareable"),
        ({}, "dict, not a Shareable"),
        (broken_headers(), "a Shareable whose headers are a str"),
    ],
)
def test_what_is_no_message_is_a_failure(value: Any, what: str) -> None:
    result = run_chain([Does(lambda _: value)], Shareable(), FLContext())
    assert isinstance(result, Failure)
    assert f"filter Does returned {what}" in result.cause


def test_a_message_without_headers_is_one() -> None:
    message = Shareable()
    message.clear()
    assert no_message(message) is None


def test_a_filter_may_write_unless_it_says_otherwise() -> None:
    class Reads(Does):
        writes_input = False

    assert writes_input([Does(lambda d: d)])
    assert not writes_input([Reads(lambda d: d)])
    assert writes_input([Reads(lambda d: d), Does(lambda d: d)])
    assert not writes_input([])


def message_with(data: dict[str, Any]) -> Shareable:
    message = DXO(DataKind.WEIGHTS, data, {"deep": {"list": [1]}}).to_shareable()
    message.add_cookie("round", 3)
    return message


def test_the_structure_is_a_copy_and_the_arrays_are_shared() -> None:
    array = np.ones(3)
    message = message_with({"w": array})
    own = copy_structure(message, arrays=False)
    assert isinstance(own, Shareable)
    assert from_shareable(own).data["w"] is array
    del from_shareable(own).data["w"]
    from_shareable(own).meta["deep"]["list"].append(2)
    own.add_cookie("round", 4)
    assert list(from_shareable(message).data) == ["w"]
    assert from_shareable(message).meta == {"deep": {"list": [1]}}
    assert message.get_cookie("round") == 3


def test_arrays_are_copied_where_somebody_may_write_into_them() -> None:
    array, tensor, in_tuple, in_list = np.ones(3), torch.ones(3, requires_grad=True), np.ones(2), np.ones(2)
    inner = DXO(DataKind.WEIGHTS, {"w": np.ones(1)})
    message = message_with({"w": array, "t": tensor, "pair": (in_tuple, 1), "list": [in_list], "inner": inner})
    data = from_shareable(copy_structure(message, arrays=True)).data  # type: ignore[arg-type]
    data["w"][:] = data["t"][:] = data["pair"][0][:] = data["list"][0][:] = data["inner"].data["w"][:] = 7
    assert array.tolist() == tensor.tolist() == [1, 1, 1]
    assert in_tuple.tolist() == in_list.tolist() == [1, 1]
    assert inner.data["w"].tolist() == [1]


class Strict(dict[str, Any]):
    """A dict of the user's own, whose constructor wants something."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner


@pytest.mark.parametrize(
    "data",
    [OrderedDict(b=1, a=2), Strict("me"), defaultdict(list, {"a": [1]}), make_model_learnable({"w": 1}, {})],
    ids=lambda data: type(data).__name__,
)
def test_every_dict_keeps_its_class(data: dict[str, Any]) -> None:
    data["x"] = np.ones(2)
    own = copy_structure(data, arrays=False)
    assert type(own) is type(data)
    assert isinstance(own, dict)
    assert list(own) == list(data)
    own["new"] = 1
    assert "new" not in data
