"""The server's side of a job: its workflows, and what happens at each hand-out and each submission."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hansa.apis.client import Client
from hansa.apis.controller_spec import TaskCompletionStatus
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.filter import Filter
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.responder import Responder
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.errors import EncodeError, RunError
from hansa.jobs.build import ServerApp
from hansa.runtime import user_code
from hansa.runtime.answers import result_of
from hansa.runtime.assignments import Answer, Assignment, Delivery, TaskBody
from hansa.runtime.engines import ServerEngine
from hansa.runtime.filter_chain import copy_structure, put, run_chain, writes_input
from hansa.runtime.fold_gate import FoldGate, has_foreign_part, set_folded
from hansa.runtime.outbox import Outbox
from hansa.runtime.phases import Phases
from hansa.runtime.seeding import seed_everything, task_seed
from hansa.runtime.standing import OpenSink, StandingTasks
from hansa.runtime.workflow_progress import KeepProgress, Progress, ProgressKeeper
from hansa.wire.blobs import Allocate, AllocatingSink, Sink, fresh


@dataclass(frozen=True)
class ServerSettings:
    """What the server's side needs to know of its job.

    Attributes:
        seed: The job's seed.
        on_failure: Told of each failure of user code here.
        phases: Where the time of each phase is added up.
        allocate: Where tasks are written.
        may_fold: Whether whoever holds the sites may fold their results.
        open_sink: Where tasks are written; None: into memory of `allocate`.
        maps_results: Whether results come as maps of files, which cost nothing while nobody looks at them.
        keep_progress: Makes commits durable; None: nobody does.
        begun: Where the run goes on.
    """

    seed: int
    on_failure: user_code.OnFailure
    phases: Phases
    allocate: Allocate = fresh
    may_fold: bool = True
    open_sink: OpenSink | None = None
    maps_results: bool = False
    keep_progress: KeepProgress | None = None
    begun: Progress = Progress()  # noqa: RUF009  frozen

    def sink(self) -> tuple[Sink, Callable[[], None]]:
        """Where the bodies of one task are written, and what clears it when the task is over."""
        return self.open_sink() if self.open_sink is not None else (AllocatingSink(self.allocate), lambda: None)


@dataclass
class _Workflow:
    """The workflow that is being served."""

    index: int
    id: str
    responder: Responder


@dataclass
class Outcome:
    """How the workflows ended.

    Attributes:
        failures: One error per workflow that failed, or per panic; empty when all is well.
        stopped_because: Why the run was told to stop, if it was.
    """

    failures: list[RunError] = field(default_factory=list)
    stopped_because: str | None = None


class ServerSide:
    """Runs a job's workflows and serves their tasks.

    `request` and `submit` belong to the dispatcher's thread, `run_workflows` to its own.

    Args:
        settings: Seed, where failures and times go.
        app: The server's built application.
        engine: The engine that its components see.
        outbox: The way out.
        abort: The run's abort signal.
    """

    def __init__(
        self, settings: ServerSettings, app: ServerApp, *, engine: ServerEngine, outbox: Outbox, abort: Signal
    ) -> None:
        self.engine = engine
        self.abort_signal = abort
        self.outcome = Outcome()
        self._settings = settings
        self._app = app
        self.outbox = outbox
        self._current: _Workflow | None = None
        self._standing = StandingTasks(settings.sink)
        self._gate = FoldGate(app, settings.on_failure, may_fold=settings.may_fold)
        self._foreign = any(map(has_foreign_part, app.handlers))
        self.draws = bool(app.task_result_filters) or self._foreign
        self._logger = logging.getLogger("hansa.server")
        self.progress = ProgressKeeper(app.keepers, engine.manager, keep=settings.keep_progress, begun=settings.begun)
        engine.on_commit = self._commit
        engine.on_problem = lambda where, error: self.handler_failed(where, user_code.failure_of(error))
        engine.on_stop = lambda: self.stop("a component asked the run to stop")

    # -- the run -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Tell the components that the run begins."""
        with self.engine.new_context() as fl_ctx:
            self.engine.fire_own(EventType.START_RUN, fl_ctx)

    def end(self) -> None:
        """Tell the components that the run is over."""
        with self.engine.new_context() as fl_ctx:
            self.engine.fire_own(EventType.ABOUT_TO_END_RUN, fl_ctx)
            self.engine.fire_own(EventType.END_RUN, fl_ctx)

    def stop(self, reason: str) -> None:
        """End the run as soon as the workflow looks; any thread, the first reason stands."""
        if self.outcome.stopped_because is None:
            self.outcome.stopped_because = reason
        if not self.abort_signal.triggered:
            self.abort_signal.trigger(reason)
        self.engine.waiter.notify()

    def cancel_tasks(self) -> None:
        """End the waiting of a workflow that does not watch the abort signal; any thread."""
        current = self._current
        cancel = getattr(current.responder, "cancel_all_tasks", None) if current else None
        if cancel is not None:
            cancel(TaskCompletionStatus.ABORTED)
        self.engine.waiter.notify()

    def panic(self, reason: str) -> None:
        """A component of the server gave up: the run fails."""
        if self.outcome.stopped_because is None:
            self.outcome.failures.append(RunError(reason))
            self._logger.error("server: %s", reason)
        self.stop(reason)

    def run_workflows(self) -> None:
        """Run the job's workflows one after the other; returns when the last has ended or the run was stopped."""
        for index, (workflow_id, responder) in enumerate(self._app.workflows):
            if self.abort_signal.triggered:
                return
            if index < self.progress.first_workflow:  # it was over before the restart
                continue
            seed_everything(task_seed(self._settings.seed, f"{index}/server"))
            self._run_workflow(_Workflow(index, workflow_id, responder))

    def _run_workflow(self, workflow: _Workflow) -> None:
        workflow.responder.workflow_index = workflow.index
        with self.engine.new_context() as fl_ctx:
            self.progress.bring_back(workflow.index, fl_ctx=fl_ctx)
            fl_ctx.set_prop(FLContextKey.WORKFLOW, workflow.id, private=False, sticky=True)
            started = self._guard(workflow, "start", workflow.responder.initialize_run, fl_ctx)
            if started:
                self.engine.fire_own(EventType.START_WORKFLOW, fl_ctx)
        if started and not self.abort_signal.triggered:
            with self.engine.new_context() as fl_ctx:
                restore = partial(self.progress.restore_workflow, workflow.index, workflow.responder, fl_ctx=fl_ctx)
                started = self._guard(workflow, "restore", restore)
        if started and not self.abort_signal.triggered:
            self._current = workflow
            with self.engine.new_context() as fl_ctx:
                self._guard(workflow, "control_flow", workflow.responder.control_flow, self.abort_signal, fl_ctx)
        with self.engine.new_context() as fl_ctx:
            self._guard(workflow, "stop", workflow.responder.finalize_run, fl_ctx)
            self._current = None
            self.engine.fire_own(EventType.END_WORKFLOW, fl_ctx)
        self.release_finished()

    def _guard(self, workflow: _Workflow, step: str, function: Callable[..., object], *args: object) -> bool:
        outcome = user_code.call(function, *args)
        if isinstance(outcome, user_code.Failure):
            self._settings.on_failure(user_code.Mishap("server", f"workflow {workflow.id}, {step}"), outcome)
            self.outcome.failures.append(RunError(f"workflow {workflow.id}: {outcome.cause}", site="server"))
            return False
        return True

    def _commit(self, workflow_state: Mapping[str, Any]) -> int:  # Any: a workflow's own affair
        assert self._current is not None
        return self.progress.commit(self._current.index, self._current.responder, state=workflow_state)

    # -- hand-outs ---------------------------------------------------------------------------------------------

    @property
    def has_tasks(self) -> bool:
        """Whether a site that asks now might be given something."""
        current = self._current
        if current is None or self.abort_signal.triggered:
            return False
        standing = getattr(current.responder, "get_num_standing_tasks", None)
        return standing is None or standing() > 0

    @property
    def waits_for(self) -> str | None:
        """What the workflow waits for, where it says so."""
        return getattr(self._current.responder, "waits_for", None) if self._current is not None else None

    def stands(self, task_id: str) -> bool:
        """Whether results of this task are still waited for."""
        find = getattr(self._current.responder, "task_of", None) if self._current is not None else None
        task = find(task_id) if find is not None else None
        return task is not None and task.completion_status is None

    def is_over(self, task_id: str) -> bool:
        """Whether nobody waits for results of this task any more; False where the workflow does not say."""
        return self._current is None or (hasattr(self._current.responder, "task_of") and not self.stands(task_id))

    def candidates(self) -> list[str] | None:
        """The sites that might be given something now, by code point; None: any might."""
        foresees = getattr(self._current.responder, "candidates", None) if self._current is not None else None
        return None if foresees is None else foresees()

    def request(self, client: Client, peer_props: dict[str, Any]) -> Assignment | None:
        """What this site should do now; None for nothing.

        Args:
            client: Who asks; its name comes from the link, never from a message.
            peer_props: The site's public properties, already values of their own.
        """
        current = self._current
        if current is None or self.abort_signal.triggered:
            return None
        with self.engine.new_context() as fl_ctx:
            _set_peer(fl_ctx, peer_props)
            asked = user_code.call(current.responder.process_task_request, client, fl_ctx)
            if isinstance(asked, user_code.Failure):
                self._settings.on_failure(
                    user_code.Mishap("server", f"workflow {current.id}, task request of {client.name}"), asked
                )
                return None
            name, task_id, data = asked.value
            if not name or data is None:
                return None
            _set_task_props(fl_ctx, name, task_id)
            body = self._assign(current, (name, task_id, data), fl_ctx)
            return None if body is None else Assignment(client.name, task_id, body)

    def _assign(self, current: _Workflow, offer: tuple[str, str, Shareable], fl_ctx: FLContext) -> TaskBody | None:
        name, task_id, data = offer
        standing = self._standing.of(current.responder, task_id)
        chain = self._app.task_data_filters.get(name, ())
        if chain or self._hears_of_task_data():
            filtered = self._filter_data(chain, data, fl_ctx)
            if isinstance(filtered, user_code.Failure):
                self._settings.on_failure(user_code.Mishap("server", f"task {name}"), filtered)
                user_code.call(current.responder.handle_exception, task_id, fl_ctx)
                return None
            data = filtered
        props = self.outbox.public_props(fl_ctx)
        body = standing.body_as_before(data, props)
        if body is not None:
            self.outbox.count(body.message)
            return body
        own = copy_structure(data, arrays=False)
        assert isinstance(own, Shareable)
        own.set_header(ReservedHeaderKey.TASK_NAME, name)
        own.set_header(ReservedHeaderKey.WORKFLOW, current.id)
        own.add_cookie(ReservedHeaderKey.WORKFLOW, current.id)
        own.set_peer_props(props)
        with self._settings.phases.of("encode task"):
            try:
                message = self.outbox.pack(own, standing.encoder)
            except EncodeError as error:
                self.panic(f"task {name}: {error}")
                return None
        if standing.plan is None:
            standing.plan = self._gate.plan(current.responder, standing.task, name=name, fl_ctx=fl_ctx)
        body = TaskBody(name, message, standing.plan, standing.timeout_s)
        return standing.keep_body(body, data, props=props)

    def _hears_of_task_data(self) -> bool:
        return any(map(self.engine.is_heard, (EventType.BEFORE_TASK_DATA_FILTER, EventType.AFTER_TASK_DATA_FILTER)))

    def _filter_data(
        self, filters: list[Filter] | tuple[()], data: Shareable, fl_ctx: FLContext
    ) -> Shareable | user_code.Failure:
        # every site's chain works on a structure of its own; on arrays of its own only if it may write into them
        own = copy_structure(data, arrays=writes_input(filters))
        assert isinstance(own, Shareable)
        fl_ctx.set_prop(FLContextKey.TASK_DATA, own, private=True, sticky=False)
        with self._settings.phases.of("filters and events at the server"):
            self.engine.fire_own(EventType.BEFORE_TASK_DATA_FILTER, fl_ctx)
            filtered = run_chain(filters, own, fl_ctx)
            if isinstance(filtered, Shareable):
                put(fl_ctx, FLContextKey.TASK_DATA, filtered)
                self.engine.fire_own(EventType.AFTER_TASK_DATA_FILTER, fl_ctx)
        return filtered

    # -- submissions -------------------------------------------------------------------------------------------

    def take_parts(self, delivery: Delivery) -> None:
        """Take parts of a sum; the results that they are the sum of are submitted after this."""
        if self._current is not None:
            with self.engine.new_context() as fl_ctx, self._settings.phases.of("receive (callbacks, rule)"):
                failure = self._gate.take(self._current.responder, delivery.parts, fl_ctx=fl_ctx)
            if failure is not None:
                self.panic(f"a part of the sum cannot be taken: {failure.cause}")

    def submit(self, client: Client, answer: Answer) -> None:
        """Take a site's answer; see `hansa.runtime.answers.result_of`.

        A result that a filter of the server rejects counts as an error with its reason, too.
        """
        current = self._current
        with self._settings.phases.of("decode result"):
            result, why = result_of(answer, readonly=self.only_reads(answer))
        if why is not None:
            mishap = user_code.Mishap(client.name, f"task {answer.assignment.body.name}")
            self._settings.on_failure(mishap, user_code.Failure(RunError(why), why, ""))
        if current is None:
            return
        cookie = result.get_cookie(ReservedHeaderKey.WORKFLOW)
        if cookie is not None and cookie != current.id:
            self._logger.warning("server: a result of %s for workflow %s is dropped", client.name, cookie)
            return
        set_folded(result, answer.folded)
        if self.draws:  # what callbacks draw must not depend on what a site in this process has drawn
            seed_everything(task_seed(self._settings.seed, f"{result.get_header(ReservedHeaderKey.TASK_ID)}/server"))
        with self.engine.new_context() as fl_ctx:
            _set_peer(fl_ctx, result.get_peer_props() or {})
            self._process(current, client, result, fl_ctx)
        self.release_finished()

    def only_reads(self, answer: Answer) -> bool:
        """Whether nobody here writes into the arrays of a result that is mapped from a file."""
        chain = self._app.task_result_filters.get(answer.assignment.body.name, ())
        return self._settings.maps_results and not self._foreign and not writes_input(chain)

    def _process(self, current: _Workflow, client: Client, result: Shareable, fl_ctx: FLContext) -> None:
        name = str(result.get_header(ReservedHeaderKey.TASK_NAME))
        task_id = str(result.get_header(ReservedHeaderKey.TASK_ID))
        _set_task_props(fl_ctx, name, task_id)
        fire = self.engine.fire_own
        with self._settings.phases.of("filters and events at the server"):
            self._set_result(fl_ctx, result)
            fire(EventType.BEFORE_TASK_RESULT_FILTER, fl_ctx)
            chain = self._app.task_result_filters.get(name, ())
            filtered = run_chain(chain, result, fl_ctx)
            if isinstance(filtered, user_code.Failure):
                self._settings.on_failure(user_code.Mishap("server", f"task {name} of {client.name}"), filtered)
                filtered = _instead_of(result, filtered.cause)
            self._set_result(fl_ctx, filtered)
            fire(EventType.AFTER_TASK_RESULT_FILTER, fl_ctx)
            fire(EventType.BEFORE_PROCESS_SUBMISSION, fl_ctx)
        with self._settings.phases.of("receive (callbacks, rule)"):
            taken = user_code.call(current.responder.process_submission, client, name, task_id, filtered, fl_ctx)
        if isinstance(taken, user_code.Failure):
            self._settings.on_failure(
                user_code.Mishap("server", f"workflow {current.id}, result of {client.name}"), taken
            )
        fire(EventType.AFTER_PROCESS_SUBMISSION, fl_ctx)

    def _set_result(self, fl_ctx: FLContext, result: Shareable) -> None:
        put(fl_ctx, FLContextKey.TASK_RESULT, result)
        peer = fl_ctx.get_peer_context()
        if peer is not None:
            put(peer, FLContextKey.SHAREABLE, result)

    def release_finished(self) -> None:
        """Let go of the tensors of tasks that are over; their arrays may be written again."""
        self._standing.release_finished()

    def handler_failed(self, where: str, failure: user_code.Failure) -> None:
        """A handler or a callback raised: the run goes on, the failure is kept."""
        self._settings.on_failure(user_code.Mishap("server", where), failure)


def _set_task_props(fl_ctx: FLContext, name: str, task_id: str) -> None:
    fl_ctx.set_prop(FLContextKey.TASK_NAME, name, private=True, sticky=False)
    fl_ctx.set_prop(FLContextKey.TASK_ID, task_id, private=True, sticky=False)


def _set_peer(fl_ctx: FLContext, props: dict[str, Any]) -> None:  # Any: properties hold any value
    peer = FLContext()
    peer.set_public_props(props)
    fl_ctx.set_peer_context(peer)


def _instead_of(result: Shareable, cause: str) -> Shareable:
    """An error in place of a result that a filter rejected: same task, same sender."""
    reply = make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR)
    reply.set_header(RoundKey.ERROR, cause)
    reply.set_cookie_jar(result.get_cookie_jar())
    for header in (ReservedHeaderKey.TASK_NAME, ReservedHeaderKey.TASK_ID, ReservedHeaderKey.PEER_PROPS):
        reply.set_header(header, result.get_header(header))
    return reply
