"""Weights into weight differences and back."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.filter import Filter
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class ConvertWeights(Filter):
    """Turns a result into the difference from the weights that came with the task, or such a difference into weights.

    Works at a site, on task results. Variables that did not come with the task stay as they are. Nothing is written
    into the task's arrays. An executor that trains in place, in the very arrays it was given, is served, too: the
    base is put aside before the task is executed.

    Args:
        direction: WEIGHTS_TO_DIFF or DIFF_TO_WEIGHTS.

    Raises:
        ValueError: Another direction.
    """

    WEIGHTS_TO_DIFF = "weights_to_diff"
    DIFF_TO_WEIGHTS = "diff_to_weights"

    writes_input = False
    stateless = True
    hears = frozenset((EventType.BEFORE_TASK_EXECUTION, EventType.AFTER_SEND_TASK_RESULT))

    _FROM: ClassVar[dict[str, str]] = {
        WEIGHTS_TO_DIFF: DataKind.WEIGHTS,
        DIFF_TO_WEIGHTS: DataKind.WEIGHT_DIFF,
    }

    def __init__(self, direction: str) -> None:
        super().__init__()
        if direction not in self._FROM:
            raise ValueError(f"direction must be one of {', '.join(self._FROM)}, but got {direction!r}")
        self.direction = direction
        self._base: tuple[Shareable, dict[str, Any]] | None = None  # Any: arrays, or numbers

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Put the base aside before somebody trains in it; let it go when the result is sent."""
        if event_type == EventType.BEFORE_TASK_EXECUTION:
            task_data = fl_ctx.get_prop(FLContextKey.TASK_DATA)
            weights = _weights_of(task_data)
            self._base = (task_data, {n: _kept(v) for n, v in weights.items()}) if weights is not None else None
        elif event_type == EventType.AFTER_SEND_TASK_RESULT:
            self._base = None

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The same message with its content converted; what cannot be converted passes unchanged, with a warning."""
        if shareable.get_return_code() != ReturnCode.OK:
            return shareable
        try:
            dxo = from_shareable(shareable)
        except ValueError:
            return shareable
        base = self._base_of(fl_ctx.get_prop(FLContextKey.TASK_DATA))
        problem = self._problem(dxo, base)
        if problem is not None or base is None:
            self.log_warning(fl_ctx, f"{self.direction}: the result stays as it is: {problem}")
            return shareable
        converted = copy.copy(dxo.data)
        for name in dxo.data.keys() & base.keys():
            converted[name] = self._converted(name, dxo.data[name], base[name])
        kind = DataKind.WEIGHT_DIFF if self.direction == self.WEIGHTS_TO_DIFF else DataKind.WEIGHTS
        return DXO(kind, converted, dxo.meta).update_shareable(shareable)

    def _base_of(self, task_data: object) -> dict[str, Any] | None:
        if self._base is not None and self._base[0] is task_data:
            return self._base[1]
        return _weights_of(task_data)

    def _problem(self, dxo: DXO, base: dict[str, Any] | None) -> str | None:
        if base is None:
            return "no plain weights came with the task"
        if dxo.data_kind != self._FROM[self.direction]:
            return f"it is of kind {dxo.data_kind}, not {self._FROM[self.direction]}"
        algorithm = dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
        return f"it is processed by {algorithm}" if algorithm else None

    def _converted(self, name: str, value: Any, base: Any) -> Any:  # Any: arrays of any framework, or numbers
        if isinstance(base, np.ndarray) and hasattr(value, "detach"):  # a tensor, trained from the task's arrays
            value = value.detach().cpu().numpy()
        if np.shape(value) != np.shape(base):
            raise ValueError(f"{name}: shape {np.shape(value)} does not fit the task's {np.shape(base)}")
        if getattr(value, "dtype", None) == np.bool_:
            raise ValueError(f"{name}: there is no difference of bool tensors; leave it out with ExcludeVars")
        return value - base if self.direction == self.WEIGHTS_TO_DIFF else value + base


def _weights_of(task_data: object) -> dict[str, Any] | None:
    if not isinstance(task_data, Shareable):
        return None
    try:
        dxo = from_shareable(task_data)
    except ValueError:
        return None
    processed = dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
    return dxo.data if dxo.data_kind == DataKind.WEIGHTS and not processed else None


def _kept(value: Any) -> Any:  # Any: as above
    """The value as it is now, whatever is written into it later."""
    if isinstance(value, np.ndarray):
        return value.copy() if value.flags.writeable else value
    return value.detach().clone() if hasattr(value, "detach") else value
