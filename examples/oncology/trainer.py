"""What runs at a region: one Newton step with what all regions found, and its own part of the next."""

from __future__ import annotations

from pathlib import Path

from data import load, split
from model import derivatives, step

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal


class CoxSite(Executor):
    """Newton's method on the sum of the regions' partial likelihoods: the Cox model stratified by region.

    What travels has three parts: weights, and gradient and Hessian there, of which the server takes the mean. With them
    every region makes the same step, and looks at its own patients from the new place. So federated averaging does what
    Newton's method would do if all regions' sums were in one place.

    Args:
        data: The data folder.
        seed: Which split.
        num_sites: How many regions there are: the mean times this is the sum.
    """

    def __init__(self, data: str, seed: int, num_sites: int) -> None:
        super().__init__()
        self._data, self._seed, self._num_sites = Path(data), seed, num_sites

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """One step."""
        if task_name != AppConstants.TASK_TRAIN:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        patients = split(load(self._data), self._seed)[0][fl_ctx.get_identity_name()]
        known = from_shareable(shareable).data
        beta = step(known["beta"], known["gradient"] * self._num_sites, known["hessian"] * self._num_sites)
        gradient, hessian = derivatives(beta, patients)
        found = {"beta": beta, "gradient": gradient, "hessian": hessian}
        return DXO(DataKind.WEIGHTS, found, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()
