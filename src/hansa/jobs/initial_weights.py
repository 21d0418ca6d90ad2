"""The initial weights of a job: arrays by name, or a model's own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import tensors
from hansa.apis.library_weights import adapter_arrays, estimator_arrays, is_estimator, is_keras, is_peft, keras_arrays
from hansa.jobs.place import Place

_CARRIED = frozenset(tensors.CARRIERS.values())
_STATISTICS = "running_mean"
"""What every kind of batch normalisation has."""


@dataclass(frozen=True)
class InitialWeights:
    """What a job starts from.

    Attributes:
        arrays: The weights by name; copies.
        buffers: Names of those that are not trained, such as the statistics of batch normalisation; None where only
            arrays were given, which do not say.
        batch_norm: Names of everything that belongs to batch normalisation; likewise.
    """

    arrays: dict[str, NDArray[Any]]  # Any: every dtype
    buffers: list[str] | None = None
    batch_norm: list[str] | None = None

    @classmethod
    def of(cls, model: object) -> InitialWeights:
        """The weights of a recipe's argument `model`: a dict of arrays or tensors, or a model of a library.

        Raises:
            ConfigError: It is something else, or has a weight that cannot travel.
        """
        place = Place(key="model")
        if isinstance(model, Mapping):
            return cls(_arrays(model, place))
        if isinstance(model, type):
            raise place.error(f"give an instance, whose weights are the initial ones: model={model.__name__}(...)")
        for read in (_of_booster, _of_keras, _of_adapters, _of_estimator):
            if (found := read(model, place)) is not None:
                return found
        state_dict = getattr(model, "state_dict", None)
        if not callable(state_dict) or not hasattr(model, "named_modules"):
            kind = type(model).__name__
            raise place.error(
                f"must be a torch module or a dict of arrays by name (or another library's model), not a {kind}"
            )
        arrays = _arrays(state_dict(), place)
        return cls(arrays, _buffers(model, arrays), _batch_norm(model, arrays))


def _of_booster(model: Any, place: Place) -> InitialWeights | None:  # Any: XGBoost may not be installed
    """The trees of an `xgboost.Booster`, as bytes of its JSON; see `hansa.algorithms.boosted_trees`."""
    if not callable(getattr(model, "save_raw", None)):
        return None
    return InitialWeights({"start": np.frombuffer(bytes(model.save_raw("json")), np.uint8).copy()})


def _of_keras(model: Any, place: Place) -> InitialWeights | None:  # Any: Keras may not be installed
    if not is_keras(model):
        return None
    if not model.built:
        raise place.error("this Keras model has no weights yet: build it first, or give it an Input layer")
    arrays = _arrays(keras_arrays(model), place)
    kept = {id(variable) for variable in model.non_trainable_weights}
    pairs = list(zip(arrays, model.weights, strict=True))
    norm = {id(variable) for layer in _layers(model) if hasattr(layer, "moving_mean") for variable in layer.weights}
    return InitialWeights(
        arrays,
        buffers=[name for name, variable in pairs if id(variable) in kept],
        batch_norm=[name for name, variable in pairs if id(variable) in norm],
    )


def _layers(model: Any) -> Iterator[Any]:  # Any: of Keras
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _of_adapters(model: Any, place: Place) -> InitialWeights | None:  # Any: PEFT may not be installed
    if not is_peft(model):
        return None
    return InitialWeights(_arrays(adapter_arrays(model), place), buffers=[], batch_norm=[])


def _of_estimator(model: Any, place: Place) -> InitialWeights | None:  # Any: scikit-learn may not be installed
    if not is_estimator(model):
        return None
    arrays = estimator_arrays(model)
    if not arrays:
        name = type(model).__name__
        raise place.error(f"this {name} has no parameters yet: hansa.client.sklearn.prepare({name}(...), ...)")
    return InitialWeights(_arrays(arrays, place))


def _buffers(module: Any, arrays: Mapping[str, object]) -> list[str]:  # Any: torch may not be installed
    # Tied weights stand in the state dict under each of their names, so these are asked for, too.
    trained = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return [name for name in arrays if name not in trained]


def _batch_norm(module: Any, arrays: Mapping[str, object]) -> list[str]:  # Any: as above
    layers = {name for name, part in module.named_modules() if hasattr(part, _STATISTICS)}
    return [name for name in arrays if name.rpartition(".")[0] in layers]


def _arrays(model: Mapping[Any, object], place: Place) -> dict[str, NDArray[Any]]:
    if not model:
        raise place.error("has no weights")
    return {name: _array(name, value, place) for name, value in model.items()}


def _array(name: object, value: object, place: Place) -> NDArray[Any]:
    if not isinstance(name, str):
        raise place.error(f"the names of weights are texts, not {name!r}")
    if name == tensors.METADATA:
        raise place.error(f"no tensor can be called {name!r}: files of tensors keep their metadata under it")
    detach = getattr(value, "detach", None)  # a torch tensor, which may take part in autograd
    try:
        array = np.array(_of_tensor(detach(), place.at(name)) if callable(detach) else value)
    except (TypeError, ValueError) as error:
        raise place.at(name).error(f"is no array: {error}") from None
    if array.dtype.kind in "fV" and _is_number(array.dtype) and not np.isfinite(array.astype(np.float64)).all():
        raise place.at(name).error("has NaN or Inf, so that no result could count")
    if array.dtype.newbyteorder("<") not in _CARRIED and array.dtype.name not in tensors.ML_DTYPES:
        raise place.at(name).error(f"weights are numbers, not {array.dtype}")
    return array


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name in tensors.ML_DTYPES


def _of_tensor(tensor: Any, place: Place) -> NDArray[Any]:  # Any: torch may not be installed
    """A torch tensor as an array of the same dtype, without a detour through a wider one."""
    name = str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type == "meta":
        raise place.error("has no values yet (it lies on the device meta)")
    if name not in tensors.ML_DTYPES:
        array: NDArray[Any] = tensor.cpu().numpy()
        return array
    try:
        dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except ImportError:
        raise place.error(f"NumPy knows no {name}: pip install ml_dtypes") from None
    torch = importlib.import_module("torch")
    bits = tensor.cpu().contiguous().view(torch.int16 if dtype.itemsize == 2 else torch.uint8)
    ml: NDArray[Any] = bits.numpy().view(dtype)
    return ml
