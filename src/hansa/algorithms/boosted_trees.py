"""Boosted trees of several sites: documents in XGBoost's JSON, appended one after the other or joined side by side.

A model of trees travels as named tensors of bytes: `start`, a model as it was before the first round, and one piece
`trees.000000`, `trees.000001`, ... for whatever a round or a site has added since. Bytes of JSON choose no code, and a
server needs no XGBoost to join them. Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", 2016,
arXiv:1603.02754; bagging over sites as random forests with shrunken leaves: Breiman, "Bagging Predictors", 1996.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.errors import RuleError

START = "start"
"""The name of what a model begins with."""
_PIECE = "trees."
_NO_CHILD = -1

Bytes = NDArray[np.uint8]
Document = dict[str, Any]  # Any: JSON


def piece_name(number: int) -> str:
    """What the piece of this number, from 0, is called."""
    return f"{_PIECE}{number:06d}"


def is_piece(name: str) -> bool:
    """Whether a tensor of this name holds trees that were added."""
    return name.startswith(_PIECE) and name.removeprefix(_PIECE).isdigit()


def next_piece(names: Iterable[str]) -> str:
    """The name of the piece to come after those that a model has."""
    numbers = [int(name.removeprefix(_PIECE)) for name in names if is_piece(name)]
    return piece_name(max(numbers, default=-1) + 1)


def to_tensor(document: bytes | bytearray) -> Bytes:
    """A model's JSON as a tensor, which owns its memory."""
    return np.frombuffer(bytes(document), np.uint8).copy()


def read_trees(value: object, *, name: str) -> Document:
    """A tensor's document, checked as far as joining needs it.

    Args:
        value: A uint8[b] array: the JSON of an XGBoost model.
        name: The tensor's name, for errors.

    Raises:
        RuleError: It is no such array, no JSON, or no model whose trees can be joined.
    """
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 1:
        raise RuleError(f"tensor '{name}' must be a row of bytes (uint8) with a model in XGBoost's JSON")
    try:
        document = json.loads(value.tobytes())
        booster = document["learner"]["gradient_booster"]
        kind, trees = booster["name"], booster["model"]["trees"] if booster["name"] == "gbtree" else []
        ends, classes = _model(document)["iteration_indptr"], _model(document)["tree_info"]
    except (KeyError, TypeError, ValueError, RecursionError):
        kind = _kind(value)
        if kind is None:
            raise RuleError(f"tensor '{name}' is no XGBoost model in JSON") from None
        raise RuleError(f"tensor '{name}' is a booster of kind {kind}; only trees of gbtree can be joined") from None
    if kind != "gbtree":
        raise RuleError(f"tensor '{name}' is a booster of kind {kind}; only trees of gbtree can be joined")
    is_counted = isinstance(trees, list) and isinstance(classes, list) and len(trees) == len(classes)
    if not is_counted or not _are_ends(ends, len(trees)):
        raise RuleError(f"tensor '{name}': its numbers of trees and of iterations do not fit")
    for tree in trees:
        _check_tree(tree, name)
    result: Document = document
    return result


def appended(documents: Sequence[Document]) -> Document:
    """One model with the trees of all documents, in their order; all but its trees is the first one's.

    Raises:
        RuleError: Two of them are for another number of features, classes or targets.
    """
    first, *others = documents
    rounds = _rounds(first)
    for other in others:
        check_alike(other, first)
        rounds += _rounds(other)
    return _with_rounds(first, rounds)


def bagged(documents: Sequence[Document], weights: Sequence[float]) -> Document:
    """One model of trees that grew side by side: what it adds to a prediction is the weighted mean of what they add.

    The i-th iteration of the result holds the i-th of each document. Every leaf is multiplied by its document's weight
    over the sum of weights, in float32, as XGBoost keeps it; with one document nothing changes.

    Args:
        documents: In the order in which the trees shall stand.
        weights: One each, above 0.

    Raises:
        RuleError: Two of them are for another number of features, classes or targets.
    """
    first, *others = documents
    for other in others:
        check_alike(other, first)
    total = math.fsum(weights)
    scaled = [
        [[(_scaled(tree, weight / total), group) for tree, group in iteration] for iteration in _rounds(document)]
        for document, weight in zip(documents, weights, strict=True)
    ]
    longest = max(map(len, scaled))
    rounds = [[pair for each in scaled if number < len(each) for pair in each[number]] for number in range(longest)]
    return _with_rounds(first, rounds)


def joined_model(tensors: Mapping[str, object]) -> bytes:
    """The whole model of named tensors, as JSON that XGBoost loads.

    Raises:
        RuleError: There is no `start`, or a piece cannot be read.
    """
    if START not in tensors:
        raise RuleError(f"a model of trees has a tensor '{START}', and this one has {sorted(tensors)[:3]}")
    names = [START, *sorted(name for name in tensors if is_piece(name))]
    return dumped(appended([read_trees(tensors[name], name=name) for name in names]))


def dumped(document: Document) -> bytes:
    """A document as bytes."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def check_alike(document: Document, other: Document) -> None:
    """Refuse trees that are not for the same data.

    Raises:
        RuleError: The number of features, classes or targets differs.
    """
    mine, yours = (each["learner"].get("learner_model_param", {}) for each in (document, other))
    for key, noun in (("num_feature", "features"), ("num_class", "classes"), ("num_target", "targets")):
        if mine.get(key) != yours.get(key):
            raise RuleError(f"its trees are for {mine.get(key)} {noun}, the model's for {yours.get(key)}")


def _kind(value: Bytes) -> str | None:
    try:
        return str(json.loads(value.tobytes())["learner"]["gradient_booster"]["name"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _model(document: Document) -> Document:
    model: Document = document["learner"]["gradient_booster"]["model"]
    return model


def _are_ends(ends: object, num_trees: int) -> bool:
    if not isinstance(ends, list) or not ends or any(type(end) is not int for end in ends):
        return False
    return ends[0] == 0 and ends[-1] == num_trees and all(a <= b for a, b in pairwise(ends))


def _check_tree(tree: object, name: str) -> None:
    try:
        if str(tree["tree_param"].get("size_leaf_vector", "1")) not in ("0", "1"):  # type: ignore[index]  # or TypeError
            raise RuleError(f"tensor '{name}': trees with a vector in each leaf cannot be joined")
        children, leaves = tree["left_children"], tree["split_conditions"]  # type: ignore[index]  # as above
        is_whole = len(children) == len(leaves) and all(math.isfinite(value) for value in leaves)
    except (AttributeError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise RuleError(f"tensor '{name}' has a tree that is none, or NaN or Inf in one")


def _rounds(document: Document) -> list[list[tuple[Document, Any]]]:  # Any: JSON
    """The trees of each iteration, each with the class that it is for."""
    model = _model(document)
    pairs = list(zip(model["trees"], model["tree_info"], strict=True))
    ends = model["iteration_indptr"]
    return [pairs[start:stop] for start, stop in pairwise(ends)]


def _with_rounds(document: Document, rounds: Sequence[Sequence[tuple[Document, Any]]]) -> Document:  # Any: JSON
    """The document with these trees in place of its own; shares the rest with it."""
    pairs = [pair for each in rounds for pair in each]
    old = _model(document)
    model = {
        **old,
        "gbtree_model_param": {**old["gbtree_model_param"], "num_trees": str(len(pairs))},
        "iteration_indptr": [0, *np.cumsum([len(each) for each in rounds], dtype=int).tolist()],
        "tree_info": [group for _, group in pairs],
        "trees": [{**tree, "id": number} for number, (tree, _) in enumerate(pairs)],
    }
    learner = document["learner"]
    booster = {**learner["gradient_booster"], "model": model}
    return {**document, "learner": {**learner, "gradient_booster": booster}}


def _scaled(tree: Document, share: float) -> Document:
    if share == 1.0:
        return tree
    factor = np.float32(share)
    values = [
        float(np.float32(value) * factor) if child == _NO_CHILD else value
        for value, child in zip(tree["split_conditions"], tree["left_children"], strict=True)
    ]
    return {**tree, "split_conditions": values}
