"""What runs at a site: a few steps on one role's text. A process holds any number of such sites."""

from __future__ import annotations

from pathlib import Path

from data import load
from model import NextCharacter, train

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.torch.tensor_memory import tensor_over


class RoleTrainer(Executor):
    """Trains on the text of the role that the site is called after.

    Args:
        data: The data folder.
        characters: How many the site reads in a round.
    """

    stateless = True  # it keeps nothing from task to task, so that all sites of a process may share one

    def __init__(self, data: str, characters: int) -> None:
        super().__init__()
        self._data, self._characters = data, characters

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """A few steps from the received weights on; every site weighs the same, since all read the same number."""
        if task_name != AppConstants.TASK_TRAIN:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        role = load(Path(self._data))[fl_ctx.get_identity_name()]
        network = NextCharacter()
        network.load_state_dict({name: tensor_over(value) for name, value in from_shareable(shareable).data.items()})
        train(network, role.train, self._characters)
        weights = {name: value.numpy() for name, value in network.state_dict().items()}
        return DXO(DataKind.WEIGHTS, weights).to_shareable()
