"""FedOpt: an optimizer between the sites' aggregate and the global model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from hansa.algorithms import fed_opt
from hansa.algorithms.arrays import Array, Kind, Value, as_value, kind_of, rule_dtype
from hansa.algorithms.named_tensors import Selection, check_selection, selected
from hansa.algorithms.schedules import Schedule, from_config
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from hansa.components.shareablegenerators.train_settings import in_this_round
from hansa.errors import RuleError

_NO_STEP = {"sgd": 1.0}
_ADAPTIVE = 0.01


@final
class FedOptShareableGenerator(FullModelShareableGenerator):
    """Sends all weights; what comes back is the negated gradient of an optimizer, which moves the model.

    The mathematics, and what each argument means, is in `hansa.algorithms.fed_opt`; no torch is needed. Only floats are
    optimised. Integers, booleans and what `buffers` names (statistics of batch normalisation) move by the plain mean,
    as in federated averaging, and so does everything with `sgd` at learning rate 1 without momentum.

    An aggregate of WEIGHTS or of WEIGHT_DIFF will do. What it lacks stays in the model as it is, and an empty one
    changes neither model nor optimizer. The optimizer's memory is part of each commit (`state`).

    Args:
        optimizer: `sgd`, `adam`, `yogi` or `adagrad`.
        learning_rate: The server's step size, > 0; 1.0 for `sgd` and 0.01 for the others if None.
        schedule: In place of `learning_rate` one by round: see `hansa.algorithms.schedules`.
        buffers: Tensors that are not optimised: a list of names, or a regular expression that is searched for.
        train_settings: See `FullModelShareableGenerator`.
        arguments: Of the optimizer: `momentum` and `nesterov` of `sgd`; `beta_1`, `beta_2`, `epsilon`,
            `initial_accumulator` of `adam` and `yogi`, and of `adagrad` without `beta_2`; `bias_correction` of `adam`.

    Raises:
        ValueError: An unknown optimizer, an argument that it does not take, or a value out of range; names the key.
    """

    def __init__(
        self,
        optimizer: str = "adam",
        learning_rate: float | None = None,
        *,
        schedule: Mapping[str, Any] | None = None,  # Any: plain JSON
        buffers: Selection | None = None,
        train_settings: Mapping[str, Any] | None = None,  # Any: plain JSON
        **arguments: Any,  # Any: checked one by one
    ) -> None:
        super().__init__(train_settings=train_settings)
        self._rule = fed_opt.make_rule(optimizer, **arguments)
        self._learning_rate = _learning_rate(optimizer, learning_rate, schedule)
        if buffers is not None:
            check_selection(buffers, key="buffers")
        self._buffers = buffers
        self._state = fed_opt.init()

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The optimizer's memory."""
        return self._state.to_plain()

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self._state = fed_opt.State.from_plain(state)

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        """Move the context's GLOBAL_MODEL by one step of the optimizer, and set its meta to the result's.

        Args:
            shareable: A DXO of kind WEIGHTS or WEIGHT_DIFF. Names that the model lacks are ignored with a warning.
            fl_ctx: Holds the model under GLOBAL_MODEL; without one the run is ended (`system_panic`).

        Returns:
            The context's model object; an empty one if there is none.

        Raises:
            TypeError: Not a Shareable.
            ValueError: No DXO in it, one of another kind or one that is encoded, or a tensor of another shape than the
                model's.
        """
        model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        if not isinstance(shareable, Shareable) or not model:
            return super().shareable_to_learnable(shareable, fl_ctx)
        dxo = from_shareable(shareable)
        if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            return super().shareable_to_learnable(shareable, fl_ctx)
        algorithm = dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
        if algorithm is not None:
            raise ValueError(f"the aggregate is encoded with {algorithm}, which an optimizer cannot read")
        updates = self._updates(dxo, model[ModelLearnableKey.WEIGHTS], fl_ctx)
        return super().shareable_to_learnable(DXO(DataKind.WEIGHT_DIFF, updates, dxo.meta).to_shareable(), fl_ctx)

    def _updates(self, dxo: DXO, weights: Mapping[str, Any], fl_ctx: FLContext) -> dict[str, Any]:  # Any: any numbers
        """What to add to each tensor; those that the model lacks are handed on as they came."""
        updates = dict(dxo.data)
        buffers = frozenset(selected(updates, self._buffers)) if self._buffers is not None else frozenset()
        optimised: dict[str, Array] = {}
        for name, value in dxo.data.items():
            if name not in weights:
                continue
            old = _numbers(name, weights[name])
            mean_diff = _mean_diff(name, old, _numbers(name, value), is_diff=dxo.data_kind == DataKind.WEIGHT_DIFF)
            if name not in buffers and kind_of(old.array.dtype) is Kind.FLOAT:
                optimised[name] = mean_diff
            else:
                updates[name] = mean_diff
        if optimised:
            rate = self._learning_rate
            if isinstance(rate, Schedule):
                rate = in_this_round(rate, fl_ctx)
            steps, self._state = fed_opt.step(self._rule, self._state, optimised, learning_rate=rate)
            updates.update(steps)
        return updates


def _learning_rate(
    optimizer: str, learning_rate: float | None, schedule: Mapping[str, Any] | None
) -> float | Schedule:  # Any: plain JSON
    if schedule is not None:
        if learning_rate is not None:
            raise ValueError("give learning_rate or schedule, not both")
        return from_config(schedule, key="schedule")
    if learning_rate is None:
        return _NO_STEP.get(optimizer, _ADAPTIVE)
    number = isinstance(learning_rate, int | float) and not isinstance(learning_rate, bool)
    if not number or not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a number above 0, but got {learning_rate!r}")
    return float(learning_rate)


def _numbers(name: str, value: object) -> Value:
    try:
        return as_value(name, value)
    except RuleError as error:
        raise ValueError(error.reason) from error


def _mean_diff(name: str, old: Value, new: Value, *, is_diff: bool) -> Array:
    """The difference in an array of its own, in the type in which sums of the model's are formed."""
    if old.array.shape != new.array.shape:
        raise ValueError(f"the aggregate has '{name}' in shape {new.array.shape}, the model has {old.array.shape}")
    dtype = rule_dtype(old.array.dtype)
    if is_diff:
        return np.asarray(new.array, dtype=dtype)
    return np.asarray(np.subtract(new.array, old.array, dtype=dtype, casting="unsafe"))
