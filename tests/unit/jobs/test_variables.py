"""`{name}` in a config."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.errors import ConfigError
from hansa.jobs.place import Place
from hansa.jobs.variables import escape, fill

PLACE = Place("f.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{rounds}", 5),
        ("{rate}", 0.5),
        ("{quick}", True),
        ("{root}", "/data"),
        ("{root}/train", "/data/train"),
        ("{rounds} of {num_sites}", "5 of 8"),
        ("{rate:.2f}", "0.50"),
        ("{root!r}", "'/data'"),
        ("{{rounds}}", "{rounds}"),
        ("a{{2}}", "a{2}"),
        ("plain", "plain"),
        ("{below}", "/data/x"),
    ],
)
def test_a_text_that_is_a_variable_takes_its_type(text: str, value: object) -> None:
    config = {"rounds": 5, "rate": 0.5, "quick": True, "root": "/data", "below": "{root}/x", "components": [text]}
    filled = fill(config, {"num_sites": 8}, PLACE)["components"][0]
    assert filled == value
    assert type(filled) is type(value)


def test_variables_reach_any_depth_and_containers_are_new() -> None:
    inner: dict[str, Any] = {"c": ["{n}", {"d": "{n}"}]}
    config = {"n": 2, "args": {"a": {"b": inner}}}
    filled = fill(config, {}, PLACE)
    assert filled["args"] == {"a": {"b": {"c": [2, {"d": 2}]}}}
    assert inner == {"c": ["{n}", {"d": "{n}"}]}


def test_the_config_own_variable_wins_and_handlers_are_left_alone() -> None:
    config = {"num_sites": 3, "handlers": ["{nothing}"], "workflows": ["{num_sites}"]}
    filled = fill(config, {"num_sites": 8}, PLACE)
    assert filled["workflows"] == [3]
    assert filled["handlers"] == ["{nothing}"]


@pytest.mark.parametrize("text", ["{x}", "{}", "{n.real}", "{n[0]}", "{n:{w}}", "{", "}", "{n!z}", "{n:>99999999}"])
def test_what_is_no_variable_is_an_error_that_names_the_key(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fill({"n": 1, "args": {"a": [text]}}, {}, PLACE)
    assert caught.value.key == "args.a[0]"


@settings(max_examples=1000, deadline=None)
@given(st.text())
def test_an_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert fill({"args": [escape(text)]}, {}, PLACE)["args"] == [text]
