"""A task as a training script gets it, and the script's answer as the task's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.apis.app_constant import AlgorithmConstants, AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.script import ScriptTask
from hansa.apis.shareable import ReservedHeaderKey, Shareable

Tensors = Mapping[str, Any]  # Any: arrays, tensors or numbers
Answer = Mapping[str, Any]  # Any: what `hansa.client.send` puts together

KINDS = {"full": DataKind.WEIGHTS, "diff": DataKind.WEIGHT_DIFF}
_TYPES = {kind: name for name, kind in KINDS.items()}
_WEIGHTS = AppConstants.MODEL_WEIGHTS
_CONTROL = AlgorithmConstants.SCAFFOLD_CTRL_DIFF
_FIELDS = (AppConstants.CURRENT_ROUND, AppConstants.NUM_ROUNDS)


class ScriptMessages:
    """The two messages of one turn.

    Args:
        shareable: The task.
        asked: What it asks the script for.

    Raises:
        ValueError: The task holds no parameters.
    """

    def __init__(self, shareable: Shareable, asked: ScriptTask) -> None:
        self._asked = asked
        self._headers: Mapping[str, Any] = shareable.get(ReservedHeaderKey.HEADERS) or {}  # Any: see Shareable
        self._content = DXO(DataKind.WEIGHTS, {})
        if asked is not ScriptTask.SUBMIT_MODEL:  # which brings none
            self._content = from_shareable(shareable)
        self._is_collection = self._content.data_kind == DataKind.COLLECTION
        self._model = self._content.data.get(_WEIGHTS) if self._is_collection else self._content
        if not isinstance(self._model, DXO) or self._model.data_kind not in _TYPES:
            kind = getattr(self._model, "data_kind", "none")
            raise ValueError(f"a script takes WEIGHTS or WEIGHT_DIFF, but the task brings data of kind {kind}")

    def task(self, seed: int) -> dict[str, Any]:  # Any: plain values and arrays
        """What the script gets."""
        assert isinstance(self._model, DXO)
        named = {
            name: part.data
            for name, part in (self._content.data.items() if self._is_collection else ())
            if isinstance(part, DXO) and name != _WEIGHTS
        }
        told = {key: value for key, value in self._headers.items() if key not in _FIELDS and not key.startswith("__")}
        return {
            "asked": self._asked.value,
            "params": dict(self._model.data),
            "params_type": _TYPES[self._model.data_kind],
            "meta": {**told, **self._content.meta, **self._model.meta, **named},
            "current_round": self._headers.get(AppConstants.CURRENT_ROUND),
            "total_rounds": self._headers.get(AppConstants.NUM_ROUNDS),
            "seed": seed,
        }

    def result(self, answer: Answer, params_type: str) -> Shareable:
        """The result of the task.

        Args:
            answer: What the script sent.
            params_type: What the server is to get.

        Raises:
            ValueError: It does not fit the task.
        """
        meta = {**answer["meta"], **answer["metrics"]}
        if answer["num_steps"] is not None:
            meta[MetaKey.NUM_STEPS_CURRENT_ROUND] = answer["num_steps"]
        if self._asked is ScriptTask.EVALUATE:
            return DXO(DataKind.METRICS, dict(answer["metrics"]), meta).to_shareable()
        if self._asked is ScriptTask.SUBMIT_MODEL:
            return DXO(KINDS[answer["params_type"]], dict(answer["params"]), meta).to_shareable()
        control = meta.pop(_CONTROL, None)
        model = DXO(KINDS[params_type], self._converted(answer, params_type), meta)
        if not self._is_collection:
            return model.to_shareable()
        if not isinstance(control, dict):
            raise ValueError(f"the task is one of SCAFFOLD's, and the model that was sent has no meta['{_CONTROL}']")
        parts = {_WEIGHTS: model, _CONTROL: DXO(DataKind.WEIGHT_DIFF, control, dict(meta))}
        return DXO(DataKind.COLLECTION, parts).to_shareable()

    def _converted(self, answer: Answer, params_type: str) -> dict[str, Any]:  # Any: arrays, tensors or numbers
        params: dict[str, Any] = dict(answer["params"])
        if answer["params_type"] == params_type:
            return params
        assert isinstance(self._model, DXO)
        for name, base in self._model.data.items():
            if name in params:
                params[name] = _moved(name, params[name], base, back=params_type == "diff")
        return params


def _moved(name: str, value: Any, base: Any, *, back: bool) -> Any:  # Any: arrays, tensors or numbers
    """Trained minus received, or received plus difference; into the value's own memory where that holds it."""
    if np.shape(value) != np.shape(base):
        raise ValueError(f"tensor '{name}' has shape {np.shape(value)}, the task has {np.shape(base)}")
    if getattr(value, "dtype", None) == np.bool_:
        if back and np.array_equal(value, base):
            return np.zeros_like(value)  # a mask that nobody trains
        if not back and not np.any(value):
            return np.array(base)
        raise ValueError(f"tensor '{name}' has changed, and there is no difference of booleans; leave it out of params")
    if isinstance(value, np.ndarray) and isinstance(base, np.ndarray) and value.dtype == base.dtype:
        return np.subtract(value, base, out=value) if back else np.add(value, base, out=value)
    return value - base if back else value + base
