"""The whole model to the sites; weights or differences back into the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.algorithms.arrays import Array, DType, Kind, as_value, kind_of
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.learnable import Learnable
from hansa.apis.model import ModelLearnable, ModelLearnableKey, model_learnable_to_dxo
from hansa.apis.shareable import Shareable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.components.shareablegenerators.train_settings import TrainSettings
from hansa.errors import RuleError


class FullModelShareableGenerator(ShareableGenerator):
    """Sends all weights, and applies what comes back: WEIGHTS replace the model's, WEIGHT_DIFF is added by name.

    The model object of the context is updated in place, its arrays are not: a task that still stands may refer to
    them, so each changed variable becomes a new array. Variables keep the dtype that the model has for them.

    Args:
        train_settings: What the sites are told with each task, by name of the header: a number, a text, or a schedule
            of numbers by round (`hansa.algorithms.schedules`), such as
            `{"learning_rate": {"schedule": "cosine", "initial": 0.1}, "fed_prox_mu": 0.01}`.
        keep_missing: Whether variables that WEIGHTS lack stay in the model as they are; else, as in FLARE, what comes
            back is the whole model, and they are gone.

    Raises:
        ValueError: A setting is none of these; names its key.
    """

    def __init__(
        self,
        *,
        train_settings: Mapping[str, Any] | None = None,  # Any: plain JSON
        keep_missing: bool = False,
    ) -> None:
        super().__init__()
        self._train_settings = TrainSettings(train_settings) if train_settings else None
        self._keep_missing = keep_missing

    def learnable_to_shareable(self, model_learnable: Learnable, fl_ctx: FLContext) -> Shareable:
        """The model as a DXO of kind WEIGHTS, over the model's arrays but in a dict of its own; and the settings.

        Raises:
            ValueError: It is no ModelLearnable, or a schedule has no value in this round.
        """
        dxo = model_learnable_to_dxo(model_learnable)  # type: ignore[arg-type]  # it looks at the class itself
        # Its own dict, because `shareable_to_learnable` puts new arrays into the model's while a task may stand.
        dxo.data = copy.copy(dxo.data)
        shareable = dxo.to_shareable()
        if self._train_settings is not None:
            self._train_settings.put_into(shareable, fl_ctx)
        return shareable

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        """Update the context's GLOBAL_MODEL with an aggregated result, and set its meta to the result's.

        Args:
            shareable: A DXO of kind WEIGHTS or WEIGHT_DIFF. Empty WEIGHTS leave the model as it is; differences for
                names that the model lacks are ignored with a warning.
            fl_ctx: Holds the model under GLOBAL_MODEL; without one the run is ended (`system_panic`).

        Returns:
            The context's model object; an empty one if there is none.

        Raises:
            TypeError: Not a Shareable.
            ValueError: No DXO in it, one of another kind, or a difference of another shape than the model's variable.
        """
        if not isinstance(shareable, Shareable):
            raise TypeError(f"shareable must be Shareable, but got {type(shareable)}")
        model: ModelLearnable | None = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        if not model:
            self.system_panic("there is no global model to update", fl_ctx)
            return ModelLearnable()
        dxo = from_shareable(shareable)
        if dxo.data_kind == DataKind.WEIGHT_DIFF:
            self._add(dxo, model[ModelLearnableKey.WEIGHTS], fl_ctx)
        elif dxo.data_kind == DataKind.WEIGHTS:
            if dxo.data:
                new = _in_dtypes_of(model[ModelLearnableKey.WEIGHTS], dxo.data)
                model[ModelLearnableKey.WEIGHTS] = self._completed(model[ModelLearnableKey.WEIGHTS], new)
        else:
            raise ValueError(f"data_kind must be WEIGHTS or WEIGHT_DIFF, but got {dxo.data_kind}")
        model[ModelLearnableKey.META] = dxo.get_meta_props()
        return model

    def _completed(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:  # Any: arrays, tensors, numbers
        if not self._keep_missing or old.keys() <= new.keys():
            return new
        result = copy.copy(old)
        result.update(new)
        return result

    def _add(self, dxo: DXO, weights: dict[str, Any], fl_ctx: FLContext) -> None:  # Any: arrays, tensors, numbers
        unknown = [name for name in dxo.data if name not in weights]
        if unknown:
            self.log_warning(fl_ctx, f"the model has no variable {unknown[0]!r}; {len(unknown)} difference(s) ignored")
        for name, difference in dxo.data.items():
            if name in weights:
                weights[name] = _sum(name, weights[name], difference)


def _sum(name: str, weight: Any, difference: Any) -> Any:  # Any: arrays, tensors or numbers, and so is the sum
    try:
        old, step = as_value(name, weight), as_value(name, difference)
    except RuleError as error:
        raise ValueError(error.reason) from error
    if old.array.shape != step.array.shape:
        raise ValueError(f"the difference of '{name}' has shape {step.array.shape}, the model has {old.array.shape}")
    dtype = old.array.dtype
    if dtype.kind == "b":
        total = np.add(old.array, step.array, dtype=np.float64)  # NumPy's own sum of booleans is an "or"
    else:
        total = np.add(old.array, step.array)
    total = _cast(np.asarray(total), dtype)
    return total[()] if old.is_scalar else total


def _in_dtypes_of(old: object, new: dict[str, Any]) -> dict[str, Any]:  # Any: arrays, tensors, numbers
    """The new variables, each in the dtype that it had in the old ones; the very dict if nothing differs."""
    if not isinstance(old, Mapping):
        return new
    changed = {}
    for name, value in new.items():
        before = old.get(name)
        if not isinstance(before, np.ndarray) or not isinstance(value, np.ndarray) or before.dtype == value.dtype:
            continue
        if kind_of(before.dtype) is not None and kind_of(value.dtype) is not None:
            changed[name] = _cast(value, before.dtype)
    if not changed:
        return new
    result = copy.copy(new)
    result.update(changed)
    return result


def _cast(array: Array, dtype: DType) -> Array:
    """To another width or class of numbers; to integers and booleans rounded half to even. Complex stays complex."""
    if array.dtype == dtype:
        return array
    if kind_of(array.dtype) is Kind.COMPLEX and dtype.kind != "c":
        return array
    if kind_of(array.dtype) is Kind.FLOAT and dtype.kind in "biu":
        array = np.rint(array)
    return array.astype(dtype)
