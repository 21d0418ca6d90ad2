"""Cyclic transfer: the model goes from site to site, and each trains on what the one before has made of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from hansa.algorithms.checks import Names
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, SendOrder, Task
from hansa.apis.engine import OffersProblems, RoundKey, port
from hansa.apis.fl_context import FLContext
from hansa.apis.learnable_persistor import LearnablePersistor
from hansa.apis.model import ModelLearnable
from hansa.apis.sampling import Sampling, shuffled
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.apis.signal import Signal
from hansa.components.workflows.checks import check_ints, check_strs
from hansa.components.workflows.contribution import failure_of
from hansa.components.workflows.model_update import hand_on, model_at_hand, of_round
from hansa.components.workflows.parts import component_of, history_of, initial_model
from hansa.components.workflows.relay_run import RelayRun, learn_from, why_no_model
from hansa.components.workflows.round_tally import RoundTally
from hansa.components.workflows.targets import Draw, check_knows_sites, round_targets, seed_of
from hansa.errors import ConfigError, RunError

_ORDERS = ("random", "fixed")
_NAMES = ("any", "subset", "exact")


class CyclicController(Controller):
    """Cyclic weight transfer (Chang et al. 2018, doi:10.1093/jamia/ocy017), the model goes from site to site.

    A round is one pass over the sites that are live when it begins. The first gets the global model; what a site sends
    becomes the model that the next one gets, and the last site's is the round's. A site that fails, is lost, does not
    take the model in time or sends what is no model is passed over: the next one gets what it would have got. That
    stands in the history as a refusal, and in the run's problems.

    The model is saved and committed once per round. Within a round results are kept as they come (`Controller.commit`),
    and who was passed over stays so: after a restart on a federation a site that has answered is not asked again.

    The events are those of `ScatterAndGather`; the model's update comes for each result, and there is no aggregation.
    `RoundKey.ENOUGH` ends the training as there.

    Args:
        num_rounds: How many passes.
        task_assignment_timeout: Seconds until a site that does not take the model is passed over; 0 for never.
        persistor_id: Component id of the `LearnablePersistor`.
        shareable_generator_id: Component id of the `ShareableGenerator`.
        task_name: The task that sites execute.
        order: "random": drawn anew for each round, from the job's seed, the workflow's index and the round. "fixed": by
            code point of the names.
        min_clients: How many live sites a round waits for; > 0.
        min_counted: How many results of a round must count, else the run ends; 0 for any number.
        task_result_timeout: Seconds that a site may work before it is passed over; 0 for any time.
        names: Which tensors a result may have: "any", "subset" or "exact" those of the model.
        sampling: Which of the live sites take part in a round; see `Sampling`. None: all.

    Raises:
        ConfigError: `sampling` is wrong.
        TypeError: An argument is of another type.
        ValueError: An argument is out of range.
    """

    persistor: LearnablePersistor
    shareable_generator: ShareableGenerator

    def __init__(
        self,
        num_rounds: int = 5,
        task_assignment_timeout: int = 10,
        persistor_id: str = AppConstants.DEFAULT_PERSISTOR_ID,
        shareable_generator_id: str = AppConstants.DEFAULT_SHAREABLE_GENERATOR_ID,
        task_name: str = AppConstants.TASK_TRAIN,
        *,
        order: Literal["random", "fixed"] = "random",
        min_clients: int = 1,
        min_counted: int = 0,
        task_result_timeout: int = 0,
        names: Names = "any",
        sampling: Mapping[str, Any] | None = None,  # Any: plain JSON
    ) -> None:
        super().__init__()
        check_ints(num_rounds=num_rounds, task_assignment_timeout=task_assignment_timeout, min_counted=min_counted)
        check_ints(min_clients=min_clients, at_least=1)
        check_ints(task_result_timeout=task_result_timeout)
        check_strs(persistor_id=persistor_id, shareable_generator_id=shareable_generator_id, task_name=task_name)
        for name, value, known in (("order", order, _ORDERS), ("names", names, _NAMES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, but got {value!r}")
        self.num_rounds = num_rounds
        self.task_assignment_timeout = task_assignment_timeout
        self.persistor_id = persistor_id
        self.shareable_generator_id = shareable_generator_id
        self.task_name = task_name
        self.order = order
        self.task_result_timeout = task_result_timeout
        self._names: Names = names
        self._min_clients, self._min_counted = min_clients, min_counted
        self._sampling = Sampling.from_config(sampling, key="sampling").in_turn(key="sampling")
        self._current_round = self._next_round = 0
        self._enough: str | None = None
        self._model: ModelLearnable | None = None
        self._is_saved = True
        self._gave_up = False
        self._relay: RelayRun | None = None
        self._tally: RoundTally | None = None

    # -- what a restart needs ----------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The round to go on with; and why there is none, if somebody has had enough."""
        ended = {} if self._enough is None else {"enough": self._enough}
        return {"next_round": self._next_round, **ended}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self._next_round = int(state["next_round"])
        self._enough = state.get("enough")

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Find the components and load the initial model."""
        engine = fl_ctx.get_engine()
        try:
            check_knows_sites(engine, self._sampling)
            self.persistor = component_of(engine, self.persistor_id, kind=LearnablePersistor)
            self.shareable_generator = component_of(engine, self.shareable_generator_id, kind=ShareableGenerator)
            fl_ctx.set_prop(AppConstants.START_ROUND, 0, private=True, sticky=True)
            fl_ctx.set_prop(AppConstants.NUM_ROUNDS, self.num_rounds, private=True, sticky=False)
            self._model = initial_model(self.persistor, fl_ctx)
        except ConfigError as error:
            self._give_up(f"{self._name}: {error}", fl_ctx)
            return
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, self._model, private=True, sticky=True)
        self.fire_event(AppEventType.INITIAL_MODEL_LOADED, fl_ctx)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run the rounds."""
        if self._model is None:
            return
        before = self._next_round - 1 if self._next_round else None
        self._model = model_at_hand(self._model, self.persistor, before=before, fl_ctx=fl_ctx)
        fl_ctx.set_prop(AppConstants.NUM_ROUNDS, self.num_rounds, private=True, sticky=False)
        self.fire_event(AppEventType.TRAINING_STARTED, fl_ctx)
        while self._enough is None and self._next_round < self.num_rounds:
            if not self._run_round(self._next_round, abort_signal, fl_ctx):
                return
        self.log_info(fl_ctx, f"cyclic training finished{f': {self._enough}' if self._enough else ''}")

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Save what a round that was cut off has made of the model."""
        if not self._is_saved and self._model is not None:
            self.persistor.save(self._model, fl_ctx)
            self._is_saved = True

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A result whose round is over is dropped."""
        self.log_warning(fl_ctx, f"{client.name}: a result for task {task_name} came after its round and is dropped")

    # -- one round ---------------------------------------------------------------------------------------------

    def _run_round(self, number: int, abort_signal: Signal, fl_ctx: FLContext) -> bool:
        """One pass over the sites; False if the run is to end."""
        self._current_round = number
        must_stop = partial(self._must_stop, abort_signal)
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, number, private=True, sticky=False)
        targets = self._targets(number, abort_signal, fl_ctx)
        if must_stop():
            return False
        if not targets:
            self._give_up(f"round {number}: no site is here that could be asked", fl_ctx)
            return False
        tally = self._tally = RoundTally(number, targets, history=history_of(fl_ctx.get_engine()))
        fl_ctx.set_prop(RoundKey.TARGETS, targets, private=True, sticky=True)
        hand_on(fl_ctx)
        self.fire_event(AppEventType.ROUND_STARTED, fl_ctx)
        self._pass_around(self._in_order(targets, fl_ctx), abort_signal, fl_ctx)
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, self._model, private=True, sticky=True)
        hand_on(fl_ctx)
        if must_stop() or not self._is_enough(tally, fl_ctx):
            return False
        self._save(fl_ctx)
        if must_stop():
            return False
        self.fire_event(AppEventType.ROUND_DONE, fl_ctx)
        enough = fl_ctx.get_prop(RoundKey.ENOUGH)
        self._enough = None if enough is None or number + 1 == self.num_rounds else str(enough)
        self._next_round = number + 1
        tally.closed(self._enough)
        self.commit(fl_ctx, self.state())
        self.log_info(fl_ctx, f"round {number} finished: {tally.num_counted} of {len(targets)} sites trained in turn")
        return True

    def _targets(self, number: int, abort_signal: Signal, fl_ctx: FLContext) -> list[str] | None:
        def wait_for(missing: str) -> None:
            self.waits_for = f"round {number} waits for {missing}"
            self.log_info(fl_ctx, self.waits_for)

        targets = round_targets(
            fl_ctx.get_engine(),
            self._min_clients,
            draw=Draw(self._sampling, f"{self.workflow_index}/sites/{number}"),
            abort_signal=abort_signal,
            on_wait=wait_for,
        )
        self.waits_for = None
        return targets

    def _in_order(self, targets: list[str], fl_ctx: FLContext) -> list[str]:
        if self.order == "fixed":
            return list(targets)
        draw = f"{self.workflow_index}/order/{self._current_round}"
        return shuffled(targets, seed=seed_of(fl_ctx.get_engine(), draw))

    def _pass_around(self, places: list[str], abort_signal: Signal, fl_ctx: FLContext) -> None:
        assert self._tally is not None
        relay = self._relay = RelayRun(
            places,
            tally=self._tally,
            engine=fl_ctx.get_engine(),
            draw=f"{self.workflow_index}/relay/{self._current_round}",
            on_skip=partial(self._report_skip, fl_ctx),
        )
        self.log_info(fl_ctx, f"round {self._current_round}: {', '.join(places)}", fire_event=False)
        if not relay.to_come:
            return
        task = Task(self.task_name, self._task_data(fl_ctx))
        task.before_task_sent_cb, task.result_received_cb = self._before_task_sent, self._result_received
        self.relay_and_wait(
            task,
            fl_ctx,
            relay.to_come,
            SendOrder.SEQUENTIAL,
            self.task_assignment_timeout,
            self.task_result_timeout,
            dynamic_targets=False,
            abort_signal=abort_signal,
        )
        task.data = Shareable()  # task and client tasks refer to each other: the model must not wait for the collector
        if task.exception is not None:
            raise task.exception
        if not self._must_stop(abort_signal):
            relay.close(unanswered=self._unanswered(), untaken=self._untaken())

    def _task_data(self, fl_ctx: FLContext) -> Shareable:
        assert self._model is not None
        data = self.shareable_generator.learnable_to_shareable(self._model, fl_ctx)
        return of_round(data, self._current_round, self.num_rounds)

    def _is_enough(self, tally: RoundTally, fl_ctx: FLContext) -> bool:
        if (shortfall := tally.shortfall(self._sampling.at_most(self._min_counted, tally.targets))) is not None:
            self._give_up(shortfall, fl_ctx)
        elif (fewer := tally.shortfall()) is not None:
            self.log_warning(fl_ctx, fewer, fire_event=False)
        return shortfall is None

    def _save(self, fl_ctx: FLContext) -> None:
        assert self._model is not None
        self.fire_event(AppEventType.BEFORE_LEARNABLE_PERSIST, fl_ctx)
        self.persistor.save(self._model, fl_ctx)
        self._is_saved = True
        self.fire_event(AppEventType.AFTER_LEARNABLE_PERSIST, fl_ctx)

    # -- one hand-over -----------------------------------------------------------------------------------------

    def _before_task_sent(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        assert self._relay is not None
        self._relay.given(client_task.client.name, unanswered=self._unanswered(), untaken=self._untaken())
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, self._current_round, private=True, sticky=False)
        fl_ctx.set_prop(AppConstants.TRAIN_SHAREABLE, client_task.task.data, private=True, sticky=False)
        self.fire_event(AppEventType.BEFORE_TRAIN_TASK, fl_ctx)

    def _result_received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        client_task.result = None  # whoever needs it keeps it
        relay, tally = self._relay, self._tally
        if result is None or relay is None or tally is None:
            return
        if not relay.answers(site) or result.get_header(ReservedHeaderKey.REPLY_IS_LATE):
            self.log_warning(fl_ctx, f"{site}: its result of round {tally.number} came after it was passed over")
            return
        refusal = self._take(result, fl_ctx)
        if refusal is not None:
            relay.skip(site, refusal)
            return
        tally.counted(site, result)
        client_task.task.data = self._task_data(fl_ctx)

    def _take(self, result: Shareable, fl_ctx: FLContext) -> str | None:
        """Make a result the model; why that cannot be, None if it is."""
        refusal = failure_of(result) or why_no_model(result, self._model, names=self._names)
        if refusal is not None:
            return refusal
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, self._current_round, private=True, sticky=False)
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, self._model, private=True, sticky=True)
        learned = learn_from(self, result, generator=self.shareable_generator, fl_ctx=fl_ctx)
        if isinstance(learned, str):
            return learned
        self._model, self._is_saved = learned, False
        return None

    def _report_skip(self, fl_ctx: FLContext, site: str, reason: str) -> None:
        text = f"round {self._current_round}: {site} is passed over: {reason}"
        self.log_warning(fl_ctx, text, fire_event=False)
        keeper = port(fl_ctx.get_engine(), OffersProblems)
        # What a site itself has failed at is kept by the runtime, and what is refused stands in the history alone.
        if keeper is not None and reason in (self._unanswered(), self._untaken()):
            keeper.problem(f"task {self.task_name}, round {self._current_round}", RunError(f"{site}: {reason}"))

    def _unanswered(self) -> str:
        return f"no result within {self.task_result_timeout} s (task_result_timeout)"

    def _untaken(self) -> str:
        return f"did not take the task within {self.task_assignment_timeout} s (task_assignment_timeout)"

    # -- the end -----------------------------------------------------------------------------------------------

    def _give_up(self, reason: str, fl_ctx: FLContext) -> None:
        if not self._gave_up:
            self._gave_up = True
            self.system_panic(reason, fl_ctx)

    def _must_stop(self, abort_signal: Signal) -> bool:
        return abort_signal.triggered or self._gave_up
