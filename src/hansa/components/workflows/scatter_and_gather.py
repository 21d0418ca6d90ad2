"""Federated averaging and its kin: send the model to all, gather what they made of it, fold, repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from hansa.apis.engine import RoundKey
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldedPart, FoldPlan
from hansa.apis.learnable_persistor import LearnablePersistor
from hansa.apis.model import ModelLearnable
from hansa.apis.sampling import Sampling, Turnout
from hansa.apis.shareable import Shareable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.apis.signal import Signal
from hansa.components.workflows.checks import check_strs
from hansa.components.workflows.intake import Intake, callbacks_of
from hansa.components.workflows.model_update import aggregate, hand_on, model_at_hand, of_round, update_model
from hansa.components.workflows.parts import find_parts, history_of, initial_model
from hansa.components.workflows.round_limits import RoundLimits
from hansa.components.workflows.round_tally import RoundTally
from hansa.components.workflows.targets import Draw, check_knows_sites, names_of_sites, round_targets
from hansa.errors import ConfigError

# The words of the widget that collects statistics, as the Controller knows them.
_GET_STATS = "info_collector.get_stats"
_STATS_COLLECTOR = "info_collector.stats_collector"


class ScatterAndGather(Controller):
    """FedAvg's loop (McMahan et al. 2017, arXiv:1602.05629), with the mathematics in the aggregator.

    A round waits until `min_clients` sites are live and then asks all that are; they are the round's targets. A site
    that comes before `min_clients` have answered joins the round, a later one the next. The round ends when all have
    answered, or `wait_time_after_min_received` after `min_clients` have, or at `train_timeout`.

    With a `sampling` a round asks only some of the live sites, and nobody joins it; where it draws fewer than
    `min_clients` or `min_counted`, these are enough. The draw depends on job seed, workflow, round and live sites; by
    size or turn also on the rounds before. With spare sites the round is over with the first results that are enough
    and count, and those after them are refused.

    A component that has seen enough sets `RoundKey.ENOUGH` in the context of ROUND_DONE to the reason, in a line: then
    the workflow ends as one that has run all rounds.

    `accept` and `aggregate` never overlap. A result that comes after its round is offered to the aggregator, which
    refuses what is stale, and stands in the history as late. With an engine that tells nothing about its sites, or
    cannot wake this workflow when one comes, a round opens at once and anyone may take part.

    Args:
        min_clients: How many answers are enough; > 0.
        num_rounds: How many rounds; >= 0.
        start_round: The number of the first; >= 0.
        wait_time_after_min_received: Seconds that the others get once enough have answered; >= 0.
        aggregator_id: Component id of the `Aggregator`.
        persistor_id: Component id of the `LearnablePersistor`.
        shareable_generator_id: Component id of the `ShareableGenerator`.
        train_task_name: The task that sites execute.
        train_timeout: Seconds until a round ends whoever has answered; 0 for never.
        ignore_result_error: Whether a site's failure costs only its own result; else it ends the run.
        min_counted: How many results must count (a refused one does not), else the run ends; 0 for any number.
        sampling: Which of the live sites a round asks, such as `{"fraction": 0.1}`; see `Sampling`. None: all.

    Raises:
        ConfigError: `sampling` is wrong.
        TypeError, ValueError: An argument is of another type, or a number out of range.
    """

    hears = frozenset((_GET_STATS,))

    aggregator: Aggregator
    persistor: LearnablePersistor
    shareable_gen: ShareableGenerator

    def __init__(
        self,
        min_clients: int = 1,
        num_rounds: int = 5,
        start_round: int = 0,
        wait_time_after_min_received: int = 10,
        aggregator_id: str = AppConstants.DEFAULT_AGGREGATOR_ID,
        persistor_id: str = AppConstants.DEFAULT_PERSISTOR_ID,
        shareable_generator_id: str = AppConstants.DEFAULT_SHAREABLE_GENERATOR_ID,
        train_task_name: str = AppConstants.TASK_TRAIN,
        train_timeout: int = 0,
        ignore_result_error: bool = True,
        *,
        min_counted: int = 0,
        sampling: Mapping[str, Any] | None = None,  # Any: plain JSON
    ) -> None:
        super().__init__()
        limits = RoundLimits(
            min_clients, num_rounds, start_round, wait_time_after_min_received, train_timeout, min_counted
        )
        self._limits = limits.checked()
        check_strs(aggregator_id=aggregator_id, persistor_id=persistor_id, train_task_name=train_task_name)
        check_strs(shareable_generator_id=shareable_generator_id)
        self.aggregator_id = aggregator_id
        self.persistor_id = persistor_id
        self.shareable_generator_id = shareable_generator_id
        self.train_task_name = train_task_name
        self.ignore_result_error = ignore_result_error
        self._sampling = Sampling.from_config(sampling, key="sampling")
        self._closed_from = min_clients if self._sampling.asks_all else 0  # so many answers, and nobody joins any more
        self._turnout = Turnout()
        self._phase = AppConstants.PHASE_INIT
        self._current_round = self._next_round = start_round
        self._global_weights = ModelLearnable()
        self._enough: str | None = None  # why the training ended before its last round
        self._gave_up = False
        self._intake: Intake | None = None
        self._task: Task | None = None

    # -- what a restart needs ----------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The round to go on with, and what its draw looks back at; why there is none, if somebody has had enough."""
        ended = {} if self._enough is None else {"enough": self._enough}
        return {"next_round": self._next_round, **ended, **(self._turnout.state() if self._sampling.looks_back else {})}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self._next_round = int(state["next_round"])
        self._enough = state.get("enough")
        self._turnout = Turnout.of_state(state)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell who collects statistics how far the training is."""
        super().handle_event(event_type, fl_ctx)
        if event_type == _GET_STATS and (collector := fl_ctx.get_prop(_STATS_COLLECTOR)) is not None:
            info = {"phase": self._phase, "current_round": self._current_round, "num_rounds": self._limits.num_rounds}
            collector.add_info(group_name=self._name, info=info)

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Find the components and load the initial model."""
        self._phase = AppConstants.PHASE_INIT
        engine = fl_ctx.get_engine()
        try:
            check_knows_sites(engine, self._sampling)
            ids = self.aggregator_id, self.persistor_id, self.shareable_generator_id
            self.aggregator, self.persistor, self.shareable_gen = find_parts(engine, *ids)
            fl_ctx.set_prop(AppConstants.START_ROUND, self._limits.start_round, private=True, sticky=True)
            fl_ctx.set_prop(AppConstants.NUM_ROUNDS, self._limits.num_rounds, private=True, sticky=False)
            self._global_weights = initial_model(self.persistor, fl_ctx)
        except ConfigError as error:
            self._give_up(f"{self._name}: {error}", fl_ctx)
            return
        self._intake = Intake(self, self.aggregator, history=history_of(engine), examine=self._examine)
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, self._global_weights, private=True, sticky=True)
        self.fire_event(AppEventType.INITIAL_MODEL_LOADED, fl_ctx)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run the rounds."""
        if self._intake is None:
            return
        self._phase = AppConstants.PHASE_TRAIN
        before = self._next_round - 1 if self._next_round > self._limits.start_round else None
        self._global_weights = model_at_hand(self._global_weights, self.persistor, before=before, fl_ctx=fl_ctx)
        fl_ctx.set_prop(AppConstants.PHASE, self._phase, private=True, sticky=False)
        fl_ctx.set_prop(AppConstants.NUM_ROUNDS, self._limits.num_rounds, private=True, sticky=False)
        self.log_info(fl_ctx, f"{self._limits.num_rounds} rounds, from round {self._next_round}")
        self.fire_event(AppEventType.TRAINING_STARTED, fl_ctx)
        while self._enough is None and self._next_round < self._limits.end:
            if not self._run_round(self._next_round, self._intake, abort_signal=abort_signal, fl_ctx=fl_ctx):
                return
        self._phase = AppConstants.PHASE_FINISHED
        self.log_info(fl_ctx, f"training finished{f': {self._enough}' if self._enough else ''}")

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Whatever comes from now on is too late."""
        self._phase = AppConstants.PHASE_FINISHED

    # -- one round ---------------------------------------------------------------------------------------------

    def _run_round(self, number: int, intake: Intake, *, abort_signal: Signal, fl_ctx: FLContext) -> bool:
        """One round; False if the run is to end."""
        self._current_round = number
        must_stop = partial(self._must_stop, abort_signal, fl_ctx)
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, number, private=True, sticky=False)
        targets = round_targets(
            fl_ctx.get_engine(),
            self._limits.min_clients,
            draw=Draw(self._sampling, f"{self.workflow_index}/sites/{number}", self._turnout),
            abort_signal=abort_signal,
            on_wait=partial(self._wait_for, fl_ctx),
        )
        self.waits_for = None
        if targets == []:
            self._give_up(f"round {number}: no site that is here may be asked", fl_ctx)
        if must_stop():
            return False
        tally = intake.open(number, targets, model=self._global_weights, most=self._sampling.num_enough)
        fl_ctx.set_prop(RoundKey.TARGETS, targets, private=True, sticky=True)
        hand_on(fl_ctx)
        self.fire_event(AppEventType.ROUND_STARTED, fl_ctx)
        self._scatter(targets, abort_signal, fl_ctx=fl_ctx)
        if must_stop() or not self._is_enough(tally, fl_ctx):
            return False
        update = aggregate(self, intake, fl_ctx)
        if must_stop() or not self._learn(update, tally, must_stop=must_stop, fl_ctx=fl_ctx):
            return False
        self.fire_event(AppEventType.ROUND_DONE, fl_ctx)
        enough = fl_ctx.get_prop(RoundKey.ENOUGH)
        self._enough = None if enough is None or number + 1 == self._limits.end else str(enough)
        self._next_round = number + 1
        if self._sampling.looks_back:
            self._turnout.add(number, asked=tally.asked or (), sizes=tally.sizes)
        tally.closed(self._enough)
        self.commit(fl_ctx, self.state())
        self.log_info(fl_ctx, f"round {number} finished: {tally.num_counted} results counted")
        return True

    def _task_data(self, fl_ctx: FLContext) -> Shareable:
        """What the round sends to the sites."""
        return self.shareable_gen.learnable_to_shareable(self._global_weights, fl_ctx)

    def _examine(self, result: Shareable) -> None:
        """Look at a result before the aggregator does; RuleError if it cannot count."""

    def _learn(self, update: Shareable, tally: RoundTally, *, must_stop: Callable[[], bool], fl_ctx: FLContext) -> bool:
        """Make the next model of the round's aggregate, and save it; False if the run is to end."""
        parts = (self.shareable_gen, self.persistor)
        if (model := update_model(self, update, parts=parts, fl_ctx=fl_ctx, must_stop=must_stop)) is not None:
            self._global_weights = model
        return model is not None

    def _wait_for(self, fl_ctx: FLContext, missing: str) -> None:
        self.waits_for = f"round {self._current_round} waits for {missing}"
        self.log_info(fl_ctx, self.waits_for)

    def _scatter(self, targets: list[str] | None, abort_signal: Signal, *, fl_ctx: FLContext) -> None:
        """Post the task and wait for the answers."""
        data = of_round(self._task_data(fl_ctx), self._current_round, self._limits.num_rounds)
        self._task = task = Task(self.train_task_name, data, timeout=self._limits.timeout)
        task.before_task_sent_cb, task.result_received_cb = self._before_task_sent, self._result_received
        enough = self._sampling.awaited(self._limits.min_clients, targets)
        try:
            self.broadcast_and_wait(task, fl_ctx, targets and list(targets), enough, self._limits.grace, abort_signal)
        finally:
            self._task = None
        # Only the garbage collector finds tasks, which refer to their parts and back: the model must not wait for that.
        task.data = Shareable()
        if task.exception is not None:  # of the aggregator: a result would be missing without a word
            raise task.exception

    def _is_enough(self, tally: RoundTally, fl_ctx: FLContext) -> bool:
        if (shortfall := tally.shortfall(self._sampling.at_most(self._limits.min_counted, tally.targets))) is not None:
            self._give_up(shortfall, fl_ctx)
        elif (fewer := tally.shortfall(self._sampling.num_enough)) is not None:
            self.log_warning(fl_ctx, fewer, fire_event=False)
        return shortfall is None

    # -- the sites' side ---------------------------------------------------------------------------------------

    def process_task_request(self, client: Client, fl_ctx: FLContext) -> tuple[str, str, Shareable | None]:
        """What this site should do now; a site that the round does not know may join it."""
        task = self._task
        if task is not None and self._intake is not None and isinstance(client, Client):
            self._intake.let_join(client.name, task, enough=self._closed_from)
        return super().process_task_request(client, fl_ctx)

    def candidates(self) -> list[str] | None:
        """The targets that have not answered; and, while they may join, live sites that the round does not know."""
        names = super().candidates()
        if not names or self._intake is None:
            return names
        newcomers = self._intake.newcomers(names_of_sites(self._desk.engine), enough=self._closed_from)
        return sorted({*names, *newcomers}) if newcomers else names

    def fold_plan(self, task: Task, fl_ctx: FLContext) -> FoldPlan | None:
        """How the results of the open round's task may be folded near the sites; None if they must come whole."""
        own = (self._before_task_sent, None, self._result_received, None)
        if self._intake is None or task is not self._task or callbacks_of(task) != own:
            return None
        return self._intake.fold_plan(fl_ctx)

    def accept_part(self, part: FoldedPart, fl_ctx: FLContext) -> None:
        """Take over a sum of the open round; see `Intake.take_part`."""
        if self._intake is not None and self._task is not None and self._task.completion_status is None:
            self._intake.take_part(part, fl_ctx=fl_ctx)
        else:
            self.log_warning(fl_ctx, f"a sum over {len(part.sites)} sites came after its round and is dropped")

    def _before_task_sent(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, self._current_round, private=True, sticky=False)
        fl_ctx.set_prop(AppConstants.TRAIN_SHAREABLE, client_task.task.data, private=True, sticky=False)
        self.fire_event(AppEventType.BEFORE_TRAIN_TASK, fl_ctx)

    def _result_received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        client_task.result = None  # whoever needs it keeps it
        if self._intake is None or result is None:
            return
        failure = self._intake.take(site, result, fl_ctx=fl_ctx)
        if self._intake.is_full:
            self.cancel_task(client_task.task, TaskCompletionStatus.OK)
        if failure is None:
            return
        reason = f"{site}: task {self.train_task_name}, round {self._current_round}: {failure}"
        if self.ignore_result_error:
            self.log_error(fl_ctx, f"{reason} (not counted)")
        else:
            self._give_up(reason, fl_ctx)

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A result whose task is over: the aggregator may still want it; if not, the history has it as late."""
        if task_name != self.train_task_name or self._intake is None:
            self.log_error(fl_ctx, f"{client.name}: a result for task {task_name} is ignored, there is no such task")
            return
        is_over = self._phase != AppConstants.PHASE_TRAIN
        if (refusal := self._intake.take_late(client.name, result, fl_ctx=fl_ctx, is_over=is_over)) is not None:
            self.log_warning(fl_ctx, f"{client.name}: {refusal}")

    def _give_up(self, reason: str, fl_ctx: FLContext) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        self.system_panic(reason, fl_ctx)
        # Whoever runs us stops us now; but a bare engine does not, and the control flow must not wait for the rest.
        if self._task is not None:
            self.cancel_task(self._task, fl_ctx=fl_ctx)

    def _must_stop(self, abort_signal: Signal, fl_ctx: FLContext) -> bool:
        if abort_signal.triggered:
            self.log_info(fl_ctx, f"stopped in round {self._current_round}")
        return abort_signal.triggered or self._gave_up
