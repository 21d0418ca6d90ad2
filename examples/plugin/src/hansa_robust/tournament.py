"""A workflow in which no mean is taken: the best model of a round is the next round's global model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.apis.app_constant import AppConstants
from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class Tournament(Controller):
    """All sites train the same model; the one whose result has the best score wins the round.

    A site answers the task with a DXO of WEIGHTS and its score in the DXO's meta; what that is worth the job knows. The
    workflow commits each round, so it goes on after any process has died.

    Args:
        num_rounds: How many rounds.
        min_clients: How many answers a round needs.
        persistor_id: Component id of the `LearnablePersistor` that has the first model and keeps the winner.
        score: The key of the score; larger is better.
        grace_s: How many seconds the other sites get once enough have answered.
    """

    def __init__(
        self,
        num_rounds: int = 3,
        *,
        min_clients: int = 1,
        persistor_id: str = AppConstants.DEFAULT_PERSISTOR_ID,
        score: str = "score",
        grace_s: int = 10,
    ) -> None:
        super().__init__()
        self.num_rounds = num_rounds
        self.min_clients = min_clients
        self.persistor_id = persistor_id
        self.score = score
        self.grace_s = grace_s
        self._next_round = 0
        self._answers: dict[str, DXO] = {}  # of the open round, by site

    def state(self) -> Mapping[str, Any]:
        """The round to go on with; the winner is a sticky property, which a commit keeps as well."""
        return {"next_round": self._next_round}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self._next_round = int(state["next_round"])

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Load the first model, unless a commit has brought one."""
        self._persistor = fl_ctx.get_engine().get_component(self.persistor_id)
        if fl_ctx.get_prop(AppConstants.GLOBAL_MODEL) is None:
            model = self._persistor.load(fl_ctx)
            fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Play the rounds."""
        model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        while self._next_round < self.num_rounds and not abort_signal.triggered:
            self._answers = {}
            task = Task(AppConstants.TASK_TRAIN, self._data(model), result_received_cb=self._take)
            self.broadcast_and_wait(task, fl_ctx, None, self.min_clients, self.grace_s, abort_signal)
            if abort_signal.triggered:
                return
            if not self._answers:
                self.system_panic(f"round {self._next_round}: no site has sent a model with a {self.score!r}", fl_ctx)
                return
            # The first by name where two are as good: the same winner whoever was faster.
            winner = max(sorted(self._answers), key=lambda site: self._answers[site].meta[self.score])
            best = self._answers[winner]
            self.log_info(fl_ctx, f"round {self._next_round}: {winner} wins with {best.meta[self.score]:.4f}")
            model[ModelLearnableKey.WEIGHTS] = {name: np.asarray(value) for name, value in best.data.items()}
            fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
            self._persistor.save(model, fl_ctx)
            self._next_round += 1
            self.commit(fl_ctx, self.state())

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is left to be done."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A result that comes after its round."""
        self.log_warning(fl_ctx, f"{client.name} was too late")

    def _data(self, model: Mapping[str, Any]) -> Shareable:
        data = DXO(DataKind.WEIGHTS, dict(model[ModelLearnableKey.WEIGHTS])).to_shareable()
        data.set_header(AppConstants.CURRENT_ROUND, self._next_round)
        data.set_header(AppConstants.NUM_ROUNDS, self.num_rounds)
        return data

    def _take(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        if result is None or result.get_return_code() != ReturnCode.OK:
            self.log_warning(fl_ctx, f"{site} has failed, and sits the round out")
            return
        dxo = from_shareable(result)
        score = dxo.meta.get(self.score)
        if dxo.data_kind != DataKind.WEIGHTS or not isinstance(score, int | float):
            self.log_warning(fl_ctx, f"{site}: no weights with a {self.score!r}: it sits the round out")
            return
        self._answers[site] = dxo
