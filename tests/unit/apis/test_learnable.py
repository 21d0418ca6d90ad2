"""Learnables and models as dicts and as bytes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from hansa.apis import byte_form
from hansa.apis.dxo import DataKind
from hansa.apis.learnable import Learnable
from hansa.apis.model import (
    ModelLearnable,
    ModelLearnableKey,
    make_model_learnable,
    model_learnable_to_dxo,
    validate_model_learnable,
)
from hansa.errors import DecodeError


def test_a_learnable_is_a_dict() -> None:
    assert Learnable() == {}
    assert Learnable(a=1) == {"a": 1}
    assert not Learnable().is_empty()  # it cannot know


@pytest.mark.parametrize("weights", [None, {}])
def test_a_model_without_weights_is_empty(weights: dict[str, object] | None) -> None:
    assert ModelLearnable().is_empty()
    assert make_model_learnable(weights, {"epoch": 1}).is_empty()


def test_a_model_with_weights_is_not_empty() -> None:
    assert not make_model_learnable({"w": np.zeros(3)}, None).is_empty()


def test_make_model_learnable_copies_nothing() -> None:
    weights, meta = {"w": np.zeros(3)}, {"epoch": 1}
    model = make_model_learnable(weights, meta)
    assert model[ModelLearnableKey.WEIGHTS] is weights
    assert model[ModelLearnableKey.META] is meta


def test_validate_names_what_is_wrong() -> None:
    assert validate_model_learnable(make_model_learnable({}, None)) == ""
    assert "dict" in validate_model_learnable({"weights": {}, "meta": {}})  # type: ignore[arg-type]  # the point
    assert "weights" in validate_model_learnable(ModelLearnable(meta={}))
    assert "meta" in validate_model_learnable(ModelLearnable(weights={}))


def test_a_models_dxo_is_over_the_same_arrays() -> None:
    weights = {"w": np.arange(3.0)}
    dxo = model_learnable_to_dxo(make_model_learnable(weights, None))
    assert dxo.data_kind == DataKind.WEIGHTS
    assert dxo.data is weights
    assert dxo.meta == {}


def test_what_is_no_model_has_no_dxo() -> None:
    with pytest.raises(ValueError, match="no weights and no meta"):
        model_learnable_to_dxo(ModelLearnable())


def test_pickle_and_deepcopy_keep_class_and_content() -> None:
    model = make_model_learnable({"w": np.arange(3.0)}, {"epoch": 1})
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(copied) is ModelLearnable
        np.testing.assert_array_equal(copied["weights"]["w"], [0.0, 1.0, 2.0])
        assert copied["weights"]["w"] is not model["weights"]["w"]
        assert copied["meta"] == {"epoch": 1}


def test_comes_back_from_bytes_as_what_it_was() -> None:
    model = make_model_learnable({"w": np.arange(3, dtype=np.float32)}, {"epoch": 1})
    back = Learnable.from_bytes(model.to_bytes())
    assert type(back) is ModelLearnable
    assert back["weights"]["w"].dtype == np.float32
    np.testing.assert_array_equal(back["weights"]["w"], [0.0, 1.0, 2.0])
    assert back["meta"] == {"epoch": 1}


def test_a_plain_dict_in_the_bytes_becomes_this_class() -> None:
    assert type(ModelLearnable.from_bytes(byte_form.encode({"weights": {}, "meta": None}))) is ModelLearnable


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(DecodeError):
        Learnable.from_bytes(byte_form.encode([1, 2]))
    with pytest.raises(DecodeError):
        Learnable.from_bytes(b"no message")
