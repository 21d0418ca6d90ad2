"""Choosing tensors by name, and holding dicts of them against each other."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.algorithms.named_tensors import check_alike, check_selection, selected


def test_a_text_is_searched_for_and_a_list_names() -> None:
    names = ["bn.weight", "abn.bias", "fc.weight"]
    assert selected(names, "bn") == ["bn.weight", "abn.bias"]
    assert selected(names, "^bn|fc") == ["bn.weight", "fc.weight"]
    assert selected(names, ["fc.weight", "bn", "bn.weight"]) == ["bn.weight", "fc.weight"]


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        ("(", r"buffers '\(' is no regular expression"),
        ("", "buffers must be a list of names or a regular expression, but got ''"),
        ([], "buffers is empty"),
        ([1], "buffers must be a list of names or a regular expression"),
        (7, "buffers must be a list of names or a regular expression, but got 7"),
    ],
)
def test_a_selection_that_is_none(selection: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_selection(selection, key="buffers")


def test_dicts_are_alike_in_the_names_of_the_first() -> None:
    one = {"w": np.ones(2)}
    check_alike(one, other={"w": np.zeros(2), "more": np.ones(1)})
    with pytest.raises(ValueError, match="other has no tensor 'w'"):
        check_alike(one, other={})
    with pytest.raises(ValueError, match=r"other has 'w' in shape \(1,\), where \(2,\) is expected"):
        check_alike(one, other={"w": np.ones(1)})
