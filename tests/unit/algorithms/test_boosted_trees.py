"""Documents of trees: what is joined, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from hansa.algorithms.boosted_trees import appended, bagged, dumped, joined_model, next_piece, read_trees, to_tensor
from hansa.errors import RuleError


def document(*leaves: float, features: str = "2") -> dict[str, Any]:
    """A model whose trees split once, and give the first leaf, and its negative."""
    trees = [
        {
            "id": number,
            "left_children": [1, -1, -1],
            "split_conditions": [0.5, leaf, -leaf],
            "tree_param": {"size_leaf_vector": "1"},
        }
        for number, leaf in enumerate(leaves)
    ]
    model = {
        "gbtree_model_param": {"num_trees": str(len(trees))},
        "iteration_indptr": [*range(len(trees) + 1)],
        "tree_info": [0] * len(trees),
        "trees": trees,
    }
    learner = {"gradient_booster": {"model": model, "name": "gbtree"}, "learner_model_param": {"num_feature": features}}
    return {"learner": learner}


def model_of(found: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = found["learner"]["gradient_booster"]["model"]
    return model


def leaves_of(found: dict[str, Any]) -> list[float]:
    return [tree["split_conditions"][1] for tree in model_of(found)["trees"]]


def test_trees_side_by_side_are_a_weighted_mean() -> None:
    joined = bagged([document(1.0, 4.0), document(2.0)], [3, 1])
    assert leaves_of(joined) == [0.75, 0.5, 3.0]  # 1 · 3/4, 2 · 1/4; 4 · 3/4
    assert [tree["split_conditions"][0] for tree in model_of(joined)["trees"]] == [0.5] * 3  # a threshold is no leaf
    assert model_of(joined)["iteration_indptr"] == [0, 2, 3]
    assert model_of(joined)["gbtree_model_param"]["num_trees"] == "3"
    assert [tree["id"] for tree in model_of(joined)["trees"]] == [0, 1, 2]


def test_one_document_is_left_as_it_is() -> None:
    alone = document(0.1, 0.2)
    assert bagged([alone], [7]) == alone


def test_trees_one_after_the_other_keep_their_leaves() -> None:
    first = document()
    before = copy.deepcopy(first)
    together = appended([first, document(1.0), document(2.0, 3.0)])
    assert leaves_of(together) == [1.0, 2.0, 3.0]
    assert model_of(together)["iteration_indptr"] == [0, 1, 2, 3]
    assert first == before


def test_pieces_are_put_together_by_their_numbers() -> None:
    pieces = {"trees.000001": document(2.0), "start": document(), "trees.000000": document(1.0)}
    whole = json.loads(joined_model({name: to_tensor(dumped(each)) for name, each in pieces.items()}))
    assert leaves_of(whole) == [1.0, 2.0]
    assert next_piece(pieces) == "trees.000002"
    assert next_piece(["start"]) == "trees.000000"


def broken(change: Any) -> np.ndarray[Any, Any]:
    found = document(1.0)
    change(found)
    return to_tensor(json.dumps(found).encode())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros(3), "must be a row of bytes"),
        (to_tensor(b"{"), "no XGBoost model in JSON"),
        (to_tensor(b"[" * 100_000), "no XGBoost model in JSON"),
        (to_tensor(b"[1]"), "no XGBoost model in JSON"),
        (broken(lambda found: found["learner"]["gradient_booster"].update(name="dart")), "kind dart; only trees of"),
        (broken(lambda found: model_of(found).update(iteration_indptr=[0, 2])), "do not fit"),
        (broken(lambda found: model_of(found).update(iteration_indptr=[0, 2, 1])), "do not fit"),
        (broken(lambda found: model_of(found).update(tree_info=[])), "do not fit"),
        (broken(lambda found: model_of(found).update(trees=[5])), "a tree that is none"),
        (broken(lambda found: model_of(found)["trees"][0].update(split_conditions=[0, float("nan"), 1])), "NaN or Inf"),
        (broken(lambda found: model_of(found)["trees"][0]["tree_param"].update(size_leaf_vector="3")), "a vector in"),
    ],
)
def test_what_is_no_such_model_is_refused_in_one_line(value: Any, reason: str) -> None:
    with pytest.raises(RuleError, match=reason) as caught:
        read_trees(value, name="trees.000000")
    assert "\n" not in str(caught.value)
    assert "trees.000000" in str(caught.value)


def test_trees_for_other_data_are_refused() -> None:
    with pytest.raises(RuleError, match="for 3 features, the model's for 2"):
        appended([document(), document(1.0, features="3")])
