"""The names under which weights of Keras, scikit-learn and PEFT travel; for both sides, without any of them.

A weight of Keras is called by its place in `model.weights` and its own name, `3.bias`: the names that Keras gives to
layers depend on what else a process has made before, and a site's process is another one than the server's.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.errors import RuleError

Arrays = dict[str, Any]  # Any: NumPy's arrays of every dtype

LINEAR = ("coef_", "intercept_")
GAUSSIAN = ("class_count_", "theta_", "var_")
COUNTED = ("class_count_", "feature_count_")
_KINDS = (LINEAR, GAUSSIAN, COUNTED)


def is_keras(model: object) -> bool:
    """Whether it is a model of Keras 3, whatever its backend."""
    return all(hasattr(model, name) for name in ("get_weights", "set_weights", "weights", "built"))


def keras_arrays(model: Any) -> Arrays:  # Any: a Keras model
    """The weights of a Keras model by name, trainable or not; copies."""
    values = (np.array(value) for value in model.get_weights())
    return dict(zip(_keras_names(model), values, strict=True))


def set_keras_arrays(model: Any, arrays: Mapping[str, Any]) -> None:  # Any: a Keras model, arrays or tensors
    """Give a Keras model these weights.

    Raises:
        RuleError: Names or shapes are not the model's.
    """
    names = _keras_names(model)
    _check_names(arrays, names)
    values = [np.asarray(arrays[name]) for name in names]
    for name, value, variable in zip(names, values, model.weights, strict=True):
        if value.shape != tuple(variable.shape):
            raise RuleError(f"tensor '{name}' has shape {value.shape}, the model has {tuple(variable.shape)}")
    model.set_weights(values)


def is_peft(model: object) -> bool:
    """Whether it is a model with adapters of PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def adapter_arrays(model: Any) -> Arrays:  # Any: a PeftModel
    """The tensors of the active adapters, under PEFT's names."""
    peft = importlib.import_module("peft")
    # The default looks on the hub whether embeddings have grown; a site may have no way there.
    return dict(peft.get_peft_model_state_dict(model, save_embedding_layers=False))


def is_estimator(model: object) -> bool:
    """Whether it is an estimator of scikit-learn."""
    return all(callable(getattr(model, name, None)) for name in ("fit", "get_params", "set_params"))


def estimator_names(model: object) -> tuple[str, ...]:
    """What of a fitted estimator travels; nothing where it is not fitted, or of no kind that is known."""
    return next((names for names in _KINDS if all(hasattr(model, name) for name in names)), ())


def estimator_arrays(model: object) -> Arrays:
    """The parameters of a linear model or of naive Bayes; copies."""
    return {name: np.array(getattr(model, name)) for name in estimator_names(model)}


def _keras_names(model: Any) -> list[str]:  # Any: a Keras model
    return [f"{number}.{variable.name.rpartition('/')[2]}" for number, variable in enumerate(model.weights)]


def _check_names(arrays: Mapping[str, object], names: list[str]) -> None:
    if missing := [name for name in names if name not in arrays]:
        raise RuleError(f"tensor '{missing[0]}' is missing ({len(missing)} of the model's {len(names)})")
    if unknown := [name for name in arrays if name not in names]:
        raise RuleError(f"the model has no tensor '{unknown[0]}' ({len(unknown)} too many)")
