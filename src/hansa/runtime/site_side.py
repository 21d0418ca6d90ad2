"""One site: a task comes in, a result goes out, with filters and events around the executor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hansa.apis.engine import RoundKey, Stateful, port
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.errors import EncodeError, RunError
from hansa.failpoints import reach
from hansa.jobs.build import ClientApp
from hansa.runtime import user_code
from hansa.runtime.devices import is_out_of_memory
from hansa.runtime.engines import ClientEngine
from hansa.runtime.events import EventFirer
from hansa.runtime.filter_chain import no_message, put, run_chain, writes_input
from hansa.runtime.outbox import Outbox
from hansa.runtime.phases import Phases
from hansa.runtime.seeding import seed_everything, task_seed
from hansa.wire.blobs import Allocate, AllocatingSink, fresh
from hansa.wire.codec import Encoder, Message, decode
from hansa.wire.master import Master

T = TypeVar("T")

Pack = Callable[[Shareable], T]
"""Turns a result into what leaves the site."""


@dataclass(frozen=True)
class SiteSettings:
    """What a site needs to know of its job.

    Attributes:
        name: The site.
        seed: The job's seed.
        on_failure: Told of each failure of user code here.
        phases: Where the time of each phase is added up.
        allocate: Where executors' own arrays lie.
        keeps_nothing: Whether all its components have declared themselves `stateless`.
    """

    name: str
    seed: int
    on_failure: user_code.OnFailure
    phases: Phases
    allocate: Allocate = fresh
    keeps_nothing: bool = False


class SiteSide:
    """Runs the tasks of one site, one at a time.

    Args:
        settings: Name, seed, where failures and times go.
        app: The site's built application.
        engine: The engine that its components see.
        outbox: The way out.
    """

    def __init__(self, settings: SiteSettings, app: ClientApp, *, engine: ClientEngine, outbox: Outbox) -> None:
        self.name = settings.name
        self.outbox = outbox
        self.engine = engine
        self.alive = True
        self.ended_because: str | None = None
        self._settings = settings
        self._app = app
        self._abort = Signal()
        self._in_task = False
        self._has_task = False
        self._aborted_ahead: str | None = None
        self._ended = False
        self.ran_out_of_memory = False
        self._pid = os.getpid()
        self.on_close: Callable[[], None] = lambda: None
        self.on_serve: Callable[[str], None] = lambda name: None
        self.on_resume: Callable[[FLContext], None] = lambda fl_ctx: None
        engine.on_problem = lambda where, error: self.handler_failed(where, user_code.failure_of(error))
        self._stateful = {
            index: part for index, each in enumerate(app.handlers) if (part := port(each, Stateful)) is not None
        }
        self._logger = logging.getLogger("hansa.site")

    @property
    def hears_the_end(self) -> bool:
        """Whether some component of the job hears that the run is over."""
        ears = EventFirer(self._app.handlers, self.handler_failed)
        return bool(ears.hearers(EventType.ABOUT_TO_END_RUN) or ears.hearers(EventType.END_RUN))

    @property
    def keeps_nothing(self) -> bool:
        """Whether this object may serve another site before this one's next task."""
        return self._settings.keeps_nothing

    def close(self) -> None:
        """Let go of whatever knows this site."""
        self.on_close()

    def state_message(self, allocate: Allocate) -> Message | None:
        """What the stateful components know, by their place among the components; None where there are none.

        A state that cannot be encoded is reported and left out.
        """
        if not self._stateful:
            return None
        states = {str(index): part.state() for index, part in self._stateful.items()}
        try:
            return Encoder(sink=AllocatingSink(allocate)).encode(states)
        except EncodeError as error:
            self._settings.on_failure(user_code.Mishap(self.name, "state"), user_code.Failure(error, str(error), ""))
            return None

    def restore(self, message: Message) -> None:
        """Give the components back what `state_message` took."""
        states = decode(message, arrays="own")
        for index, part in self._stateful.items():
            if str(index) in states:
                part.restore(states[str(index)])

    # -- the site's part of a run ------------------------------------------------------------------------------

    def start(self) -> None:
        """Tell the components that the run begins."""
        with self.engine.new_context() as fl_ctx:
            self.engine.fire_own(EventType.ABOUT_TO_START_RUN, fl_ctx)
            self.engine.fire_own(EventType.START_RUN, fl_ctx)

    def serve(self, name: str) -> None:
        """Be another site from now on; nothing of the one before is left but its components, which keep nothing."""
        self.name = name
        self.outbox = Outbox(name)
        self.alive, self.ended_because, self._ended = True, None, False
        self._logger = logging.getLogger("hansa.site")
        self.on_serve(name)

    def resume(self) -> None:
        """Go on for a site that was put away; its components have heard of the start."""
        with self.engine.new_context() as fl_ctx:
            self.on_resume(fl_ctx)

    def end(self) -> None:
        """Tell the components that the run is over; once."""
        if self._ended:
            return
        self._ended = True
        self.alive = False
        with self.engine.new_context() as fl_ctx:
            self.engine.fire_own(EventType.ABOUT_TO_END_RUN, fl_ctx)
            self.engine.fire_own(EventType.END_RUN, fl_ctx)

    def assigned(self) -> None:
        """A task is on its way here; from now on it can be aborted."""
        if not self._has_task:
            self._has_task, self._aborted_ahead = True, None

    def abort_task(self, reason: str = "the task was aborted") -> None:
        """Tell the task under way to stop, or the one that is on its way not to begin; any thread."""
        if self._has_task and not self._in_task:
            self._aborted_ahead = reason
        if self._in_task and not self._abort.triggered:
            self._abort.trigger(reason)
            with self.engine.new_context() as fl_ctx:
                self.engine.fire_own(EventType.ABORT_TASK, fl_ctx)

    def panic(self, reason: str) -> None:
        """A component gave up: the task under way is aborted and this site's part ends."""
        if self.ended_because is None:
            self.ended_because = reason
            self.alive = False
            # Not every workflow looks at the reason in the reply, and outside a task there is none.
            self._settings.on_failure(
                user_code.Mishap(self.name, "system_panic"), user_code.Failure(RunError(reason), reason, "")
            )
            self.abort_task(reason)
            if not self._in_task:
                self.end()

    # -- one task ----------------------------------------------------------------------------------------------

    def run_task(self, name: str, master: Master, *, task_id: str, pack: Pack[T]) -> T | Message:
        """Execute a task and give back what leaves the site.

        Never raises for what user code does: the reply's return code and its error text tell.

        Args:
            name: The task's name.
            master: The task, the same for all sites.
            task_id: The site's part of it.
            pack: Makes a message of the result; raises EncodeError where that cannot be.
        """
        settings = self._settings
        with settings.phases.of("decode task"):
            task = master.give(writable=self._needs_own_arrays(name), allocate=settings.allocate)
        task.set_header(ReservedHeaderKey.TASK_ID, task_id)
        self._abort = Signal()
        self._in_task = True
        try:
            with self.engine.new_context() as fl_ctx:
                run_abort = fl_ctx.get_run_abort_signal()
                if run_abort is not None and run_abort.triggered:  # just before there was a task to stop
                    self._abort.trigger("the run was stopped")
                elif self._aborted_ahead is not None:
                    self._abort.trigger(self._aborted_ahead)
                packed = self._run_in_context(task, fl_ctx, pack)
        finally:
            self._in_task = self._has_task = False
        if self.ended_because is not None:
            self.end()
        return packed

    def _needs_own_arrays(self, name: str) -> bool:
        executor = self._app.executors.get(name)
        if executor is None:
            return False
        if executor.writes_input or writes_input(self._app.task_data_filters.get(name, ())):
            return True
        return writes_input(self._app.task_result_filters.get(name, ()))  # a reply may hold the arrays received

    def _run_in_context(self, task: Shareable, fl_ctx: FLContext, pack: Pack[T]) -> T | Message:
        name = task.get_header(ReservedHeaderKey.TASK_NAME)
        task_id = task.get_header(ReservedHeaderKey.TASK_ID)
        self.engine.fire_own(EventType.BEFORE_PULL_TASK, fl_ctx)
        peer = FLContext()
        peer.set_public_props(task.get_peer_props() or {})
        fl_ctx.set_peer_context(peer)
        for key, value in (
            (FLContextKey.TASK_NAME, name),
            (FLContextKey.TASK_ID, task_id),
            (FLContextKey.TASK_DATA, task),
        ):
            fl_ctx.set_prop(key, value, private=True, sticky=False)
        self.engine.fire_own(EventType.AFTER_PULL_TASK, fl_ctx)
        jar = dict(task.get_cookie_jar() or {})  # whatever the executor does to the one it sees
        reply = self._reply_to(name, task, fl_ctx)
        reply.set_header(ReservedHeaderKey.TASK_NAME, name)
        reply.set_header(ReservedHeaderKey.TASK_ID, task_id)
        reply.set_cookie_jar(jar)
        return self._send(reply, fl_ctx, jar, pack=pack)

    def _send(
        self, reply: Shareable, fl_ctx: FLContext, jar: dict[str, Any] | None, *, pack: Pack[T]
    ) -> T | Message:  # Any: cookies are the workflow's affair
        self.engine.fire_own(EventType.BEFORE_SEND_TASK_RESULT, fl_ctx)
        with self._settings.phases.of("encode result"):
            reply.set_peer_props(self.outbox.public_props(fl_ctx))
            try:
                packed: T | Message = pack(reply)
            except EncodeError as error:
                refused = self._failed(ReturnCode.EXECUTION_RESULT_ERROR, "result", str(error))
                for header in (ReservedHeaderKey.TASK_NAME, ReservedHeaderKey.TASK_ID, ReservedHeaderKey.PEER_PROPS):
                    refused.set_header(header, reply.get_header(header))
                refused.set_cookie_jar(jar)
                packed = self.outbox.pack(refused)
        self.engine.fire_own(EventType.AFTER_SEND_TASK_RESULT, fl_ctx)
        return packed

    def _reply_to(self, name: str, task: Shareable, fl_ctx: FLContext) -> Shareable:
        executor = self._app.executors.get(name)
        if executor is None:
            return self._failed(ReturnCode.TASK_UNKNOWN, name, f"no executor for task {name!r}")
        if self._abort.triggered:  # before it began
            return self._unless_aborted(make_reply(ReturnCode.TASK_ABORTED), name)
        fire = self.engine.fire_own
        phases = self._settings.phases
        with phases.of("filters and events at sites"):
            fire(EventType.BEFORE_TASK_DATA_FILTER, fl_ctx)
            filtered = run_chain(self._app.task_data_filters.get(name, ()), task, fl_ctx)
            if isinstance(filtered, user_code.Failure):
                return self._user_failed(ReturnCode.TASK_DATA_FILTER_ERROR, name, filtered)
            put(fl_ctx, FLContextKey.TASK_DATA, filtered)
            fire(EventType.AFTER_TASK_DATA_FILTER, fl_ctx)
            fire(EventType.BEFORE_TASK_EXECUTION, fl_ctx)
        with phases.of("execute"):
            reply = self._execute(executor, name, filtered, fl_ctx)
            reach("train.mid")
        with phases.of("filters and events at sites"):
            fl_ctx.set_prop(FLContextKey.TASK_RESULT, reply, private=True, sticky=False)
            fire(EventType.AFTER_TASK_EXECUTION, fl_ctx)
            fire(EventType.BEFORE_TASK_RESULT_FILTER, fl_ctx)
            result = run_chain(self._app.task_result_filters.get(name, ()), reply, fl_ctx)
            if isinstance(result, user_code.Failure):
                return self._user_failed(ReturnCode.TASK_RESULT_FILTER_ERROR, name, result)
            put(fl_ctx, FLContextKey.TASK_RESULT, result)
            fire(EventType.AFTER_TASK_RESULT_FILTER, fl_ctx)
        return self._unless_aborted(result, name)

    def _execute(self, executor: Executor, name: str, task: Shareable, fl_ctx: FLContext) -> Shareable:
        seed_everything(task_seed(self._settings.seed, str(fl_ctx.get_prop(FLContextKey.TASK_ID))))
        self.ran_out_of_memory = False
        outcome = user_code.call(executor.execute, name, task, fl_ctx, self._abort)
        if os.getpid() != self._pid:  # the executor has forked, and this is the copy: nothing of it must be heard
            os._exit(0)
        if isinstance(outcome, user_code.Failure):
            if self._abort.triggered:
                return self._unless_aborted(make_reply(ReturnCode.TASK_ABORTED), name)
            self.ran_out_of_memory = is_out_of_memory(outcome.cause)
            return self._user_failed(return_code_of(outcome.error), name, outcome)
        reply = outcome.value
        problem = no_message(reply)
        if problem is not None:
            text = f"{type(executor).__name__}.execute returned {problem}"
            return self._failed(ReturnCode.EXECUTION_RESULT_ERROR, name, text)
        return self._unless_aborted(reply, name)

    def _unless_aborted(self, reply: Shareable, name: str) -> Shareable:
        if not self._abort.triggered:
            return reply
        if reply.get_return_code() != ReturnCode.TASK_ABORTED:
            reply = make_reply(ReturnCode.TASK_ABORTED)
        if reply.get_header(RoundKey.ERROR) is None:
            reply.set_header(RoundKey.ERROR, self.ended_because or str(self._abort.value))
        return reply

    def _failed(self, code: str, what: str, text: str) -> Shareable:
        self._logger.error("%s: task %s: %s", self.name, what, text)
        reply = make_reply(code)
        reply.set_header(RoundKey.ERROR, text)
        return reply

    def _user_failed(self, code: str, name: str, failure: user_code.Failure) -> Shareable:
        self._settings.on_failure(user_code.Mishap(self.name, f"task {name}"), failure)
        reply = make_reply(code)
        reply.set_header(RoundKey.ERROR, failure.cause)
        return reply

    def handler_failed(self, where: str, failure: user_code.Failure) -> None:
        """A handler raised: the event goes on, the failure is kept."""
        self._settings.on_failure(user_code.Mishap(self.name, where), failure)


_RETURN_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (EncodeError, ReturnCode.EXECUTION_RESULT_ERROR),
    (BaseException, ReturnCode.EXECUTION_EXCEPTION),
)


def return_code_of(error: BaseException) -> str:
    """The return code for what an executor raised."""
    return next(code for kind, code in _RETURN_CODES if isinstance(error, kind))
