"""A model as the thing that is learned: weights by name, and what is known about them."""

from __future__ import annotations

from typing import Any

from hansa.apis.dxo import DXO, DataKind
from hansa.apis.learnable import Learnable


class ModelLearnableKey:
    """The two entries of a model."""

    WEIGHTS = "weights"
    META = "meta"


class ModelLearnable(Learnable):
    """A dict with `weights` (arrays by name) and `meta` (a dict or None)."""

    def is_empty(self) -> bool:
        """Whether it holds no weights."""
        weights = self.get(ModelLearnableKey.WEIGHTS)
        return weights is None or len(weights) == 0


def validate_model_learnable(model_learnable: ModelLearnable) -> str:
    """What is wrong with a model; "" if nothing."""
    if not isinstance(model_learnable, ModelLearnable):
        return f"expect a ModelLearnable, but got {type(model_learnable)}"
    missing = [key for key in (ModelLearnableKey.WEIGHTS, ModelLearnableKey.META) if key not in model_learnable]
    return f"the ModelLearnable has no {' and no '.join(missing)}" if missing else ""


def make_model_learnable(
    weights: Any,  # Any: a dict of arrays as a rule, but FLARE lets persistors keep what they like
    meta_props: dict[str, Any] | None,
) -> ModelLearnable:
    """A model of these weights and this meta; both are taken as they are, without a copy."""
    model = ModelLearnable()
    model[ModelLearnableKey.WEIGHTS] = weights
    model[ModelLearnableKey.META] = meta_props
    return model


def model_learnable_to_dxo(ml: ModelLearnable) -> DXO:
    """The model as a DXO of kind WEIGHTS over the same arrays.

    Raises:
        ValueError: It is no model; see `validate_model_learnable`.
    """
    problem = validate_model_learnable(ml)
    if problem:
        raise ValueError(problem)
    return DXO(
        data_kind=DataKind.WEIGHTS,
        data=ml[ModelLearnableKey.WEIGHTS],
        meta=ml[ModelLearnableKey.META],
    )
