"""Keras in a federation, with any backend: a model's weights, to and from `FLModel`.

::

    import hansa.client as flare
    import hansa.client.keras as fk

    flare.init()
    while flare.is_running():
        fk.load(model, flare.receive().params)
        model.fit(x, y)
        flare.send(flare.FLModel(params=fk.weights_of(model), num_steps=len(x)))

Weights are called by their place in `model.weights` and their own names, `0.kernel`, so any process that builds the
same model has the same names. This module does not import Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.apis.library_weights import is_keras, keras_arrays, set_keras_arrays
from hansa.errors import RuleError

__all__ = ["load", "weights_of"]


def weights_of(model: Any) -> dict[str, Any]:  # Any: a Keras model; arrays
    """All weights of a model by name, trainable or not; copies.

    Raises:
        ValueError: It is no Keras model, or has no weights yet.
    """
    _check(model)
    return keras_arrays(model)


def load(model: Any, params: Mapping[str, Any]) -> None:  # Any: a Keras model, arrays or tensors
    """Give a model these weights. Alone, where nothing comes, it stays as it is.

    Raises:
        ValueError: It is no Keras model or has no weights yet, or names or shapes differ; then nothing is changed.
    """
    _check(model)
    arrays = dict(params)
    if not arrays:
        return
    try:
        set_keras_arrays(model, arrays)
    except RuleError as error:
        raise ValueError(error.reason) from None


def _check(model: Any) -> None:  # Any: a Keras model, or something else
    if not is_keras(model):
        raise ValueError(f"expected a Keras model, not a {type(model).__name__}")
    if not model.built:
        raise ValueError("this Keras model has no weights yet: build it first, or give it an Input layer")
