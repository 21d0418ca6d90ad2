"""SCAFFOLD: federated averaging whose sites correct their steps by control variates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hansa.algorithms import scaffold
from hansa.algorithms.arrays import Array, Kind, as_value, kind_of
from hansa.apis.app_constant import AlgorithmConstants, AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.components.reported import dxo_of
from hansa.components.workflows.round_tally import RoundTally
from hansa.components.workflows.scatter_and_gather import ScatterAndGather
from hansa.components.workflows.targets import names_of_eligible
from hansa.errors import RuleError

_WEIGHTS = AppConstants.MODEL_WEIGHTS
_DIFF = AlgorithmConstants.SCAFFOLD_CTRL_DIFF
_GLOBAL = AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL


class ScatterAndGatherScaffold(ScatterAndGather):
    """SCAFFOLD's loop; Karimireddy et al. 2020, arXiv:1910.06378, algorithm 1; see `hansa.algorithms.scaffold`.

    The rounds are those of `ScatterAndGather`, whose arguments these are. Sites get a COLLECTION of the global weights
    (`_model_weights_`, WEIGHTS) and the global control variates c (`scaffold_c_global`, WEIGHT_DIFF); they send one of
    their weights (`_model_weights_`) and of what their own control has changed by (`scaffold_c_diff`). Both names must
    be in the aggregator's `expected_data_kind`:
    `{"_model_weights_": "WEIGHT_DIFF", "scaffold_c_diff": "WEIGHT_DIFF"}`.

    c has every name of the model and begins at zero; tensors that are not of floats stay there. After a round
    c <- c + |S|/N · mean over S of the sites' differences, with S the sites whose results count and N all sites: those
    that are live and may be asked, and never fewer than the round's own. So the factor is 1 where all take part, and
    |S|/N with a `sampling` and after a refused, failed or late result. (FLARE always adds the mean as it is.)

    Which sites weigh how much in that mean their control's own NUM_STEPS_CURRENT_ROUND says; one that is left off
    counts as 1. The paper has no weights: leave it off both DXOs. Weights that stand on the model's DXO alone are of no
    use, since the controls decide which loss is minimised in the end; with the same steps on both, as FLARE's learners
    have it, that is FedAvg's loss, the sites' losses weighted by steps. With a `sampling` only equal weights keep c the
    mean of the sites' controls.

    A site whose result does not count has moved its own control all the same, and c never hears of it.

    c is part of the workflow's state, so that a restart goes on with it.

    Raises:
        ConfigError: `sampling` is wrong.
        TypeError: An argument is of another type.
        ValueError: A number is out of range.
    """

    _control: Mapping[str, Array] | None = None  # c; None before the model is known

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The round to go on with, and the global control variates."""
        return {**super().state(), "control": dict(self._control or {})}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        super().restore(state)
        self._control = dict(state["control"])

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Find the components, load the initial model, and begin with controls of zero."""
        super().start_controller(fl_ctx)
        weights = self._global_weights.get(ModelLearnableKey.WEIGHTS) or {}
        zeros = scaffold.init_control({name: as_value(name, weight).array for name, weight in weights.items()})
        self._control = {**zeros, **(self._control or {})}

    def _task_data(self, fl_ctx: FLContext) -> Shareable:
        data = super()._task_data(fl_ctx)
        parts = {_WEIGHTS: from_shareable(data), _GLOBAL: DXO(DataKind.WEIGHT_DIFF, dict(self._control or {}))}
        return DXO(DataKind.COLLECTION, parts).update_shareable(data)

    def _examine(self, result: Shareable) -> None:
        """Refuse controls of another shape, of which the aggregator has no model; without steps all weigh the same."""
        difference = _part(dxo_of(result), _DIFF)
        if difference is None:
            return  # the aggregator says what is missing
        try:
            for name, control in (self._control or {}).items():
                if name in difference.data:
                    _check_shape(name, difference.data[name], control)
        except RuleError as error:
            raise RuleError(f"in '{_DIFF}': {error.reason}") from error
        difference.meta.setdefault(MetaKey.NUM_STEPS_CURRENT_ROUND, 1.0)

    def _learn(self, update: Shareable, tally: RoundTally, *, must_stop: Callable[[], bool], fl_ctx: FLContext) -> bool:
        collection = dxo_of(update)
        weights, difference = _part(collection, _WEIGHTS), _part(collection, _DIFF)
        if weights is None or difference is None:
            self._give_up(
                f"{self._name}: component {self.aggregator_id!r} must make a COLLECTION of '{_WEIGHTS}' and '{_DIFF}'; "
                "both must be in its expected_data_kind",
                fl_ctx,
            )
            return False
        if not super()._learn(weights.to_shareable(), tally, must_stop=must_stop, fl_ctx=fl_ctx):
            return False
        if tally.num_counted:
            self._move(difference.data, tally.num_counted / self._num_sites(tally, fl_ctx))
        return True

    def _move(self, difference: Mapping[str, Any], fraction: float) -> None:  # Any: arrays and numbers
        # c becomes new arrays: a task that still stands may refer to the old ones.
        control = dict(self._control or {})
        moving = {name: value for name, value in difference.items() if name in control and _moves(control[name])}
        state = scaffold.ServerState({}, control)
        moved = scaffold.server_update(state, mean_weight_diff={}, mean_control_diff=moving, fraction=fraction)
        self._control = moved.control

    def _num_sites(self, tally: RoundTally, fl_ctx: FLContext) -> int:
        live = names_of_eligible(fl_ctx.get_engine(), self._sampling)
        return max(len(live), len(tally.asked or ()), tally.num_counted)


def _part(collection: DXO | None, name: str) -> DXO | None:
    part = collection.data.get(name) if collection is not None else None
    return part if isinstance(part, DXO) else None


def _check_shape(name: str, value: object, control: Array) -> None:
    shape = as_value(name, value).array.shape
    if shape != control.shape:
        raise RuleError(f"'{name}' has shape {shape}, the model has {control.shape}")


def _moves(control: Array) -> bool:
    return kind_of(np.asarray(control).dtype) is Kind.FLOAT
