"""A Learner as an Executor."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from hansa.apis.app_constant import AppConstants, ValidateType
from hansa.apis.dxo import DXO, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.learner_spec import Learner
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal


class LearnerExecutor(Executor):
    """Trains, validates and submits with a `Learner`.

    Before every training the received model is validated on the site's data, on the same Shareable, with header
    VALIDATE_TYPE = BEFORE_TRAIN_VALIDATE. Its INITIAL_METRICS (0 if the learner's metrics lack them) go into the meta
    of the training's result; that is what selects the best global model. A validation that fails leaves them out.

    Args:
        learner_id: Component id of the `Learner`.
        train_task: The task that trains.
        submit_model_task: The task that asks for one of the site's models.
        validate_task: The task that measures a model.
    """

    hears = frozenset((EventType.START_RUN, EventType.ABORT_TASK, EventType.END_RUN))

    learner: Learner | None

    def __init__(
        self,
        learner_id: str,
        train_task: str = AppConstants.TASK_TRAIN,
        submit_model_task: str = AppConstants.TASK_SUBMIT_MODEL,
        validate_task: str = AppConstants.TASK_VALIDATION,
    ) -> None:
        super().__init__()
        self.learner_id = learner_id
        self.train_task = train_task
        self.submit_model_task = submit_model_task
        self.validate_task = validate_task
        self.learner = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Set the learner up and let it go, and pass on an abort."""
        if event_type == EventType.START_RUN:
            self.initialize(fl_ctx)
        elif event_type == EventType.ABORT_TASK:
            self._tell("abort", lambda learner: learner.abort(fl_ctx), fl_ctx)
        elif event_type == EventType.END_RUN:
            self.finalize(fl_ctx)

    def initialize(self, fl_ctx: FLContext) -> None:
        """Find the learner and let it get ready; a failure is logged."""
        engine = fl_ctx.get_engine()
        learner = engine.get_component(self.learner_id)
        if not isinstance(learner, Learner):
            found = "there is none" if learner is None else f"it is a {type(learner).__name__}"
            self.log_error(fl_ctx, f"component {self.learner_id!r} must be a Learner, but {found}")
            return
        self.learner = learner
        self._tell("initialize", lambda it: it.initialize(engine.get_all_components(), fl_ctx), fl_ctx)

    def finalize(self, fl_ctx: FLContext) -> None:
        """Let the learner let go of everything; a failure is logged."""
        self._tell("finalize", lambda learner: learner.finalize(fl_ctx), fl_ctx)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Do what the task's name says: TASK_UNKNOWN for other names, EXECUTION_EXCEPTION if the learner raises."""
        if self.learner is None and task_name in (self.train_task, self.submit_model_task, self.validate_task):
            return _failed(f"component {self.learner_id!r} is no Learner")
        try:
            if task_name == self.train_task:
                return self.train(shareable, fl_ctx, abort_signal)
            if task_name == self.submit_model_task:
                return self.submit_model(shareable, fl_ctx)
            if task_name == self.validate_task:
                return self.validate(shareable, fl_ctx, abort_signal)
        except Exception as error:  # user code
            self.log_exception(fl_ctx, f"learner {self.learner_id!r}, task {task_name}: {_in_one_line(error)}")
            return _failed(_in_one_line(error))
        self.log_error(fl_ctx, f"task {task_name!r} is not among the learner's")
        return make_reply(ReturnCode.TASK_UNKNOWN)

    def train(self, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Validate the received model, then train on it."""
        learner = self._learner()
        shareable.set_header(AppConstants.VALIDATE_TYPE, ValidateType.BEFORE_TRAIN_VALIDATE)
        measured = learner.validate(shareable, fl_ctx, abort_signal)
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        result = _result(learner.train(shareable, fl_ctx, abort_signal))
        metrics = _dxo_of(measured)
        trained = _dxo_of(result)
        if metrics is None or trained is None:
            return result
        # A meta of its own: the learner may have built its result over the task's.
        meta = {**trained.meta, MetaKey.INITIAL_METRICS: metrics.data.get(MetaKey.INITIAL_METRICS, 0)}
        return DXO(trained.data_kind, trained.data, meta).update_shareable(result)

    def submit_model(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The model that the header SUBMIT_MODEL_NAME asks for."""
        model_name = shareable.get_header(AppConstants.SUBMIT_MODEL_NAME)
        return _result(self._learner().get_model_for_validation(model_name, fl_ctx))

    def validate(self, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Measure the received model, with header VALIDATE_TYPE = MODEL_VALIDATE."""
        shareable.set_header(AppConstants.VALIDATE_TYPE, ValidateType.MODEL_VALIDATE)
        return _result(self._learner().validate(shareable, fl_ctx, abort_signal))

    def _learner(self) -> Learner:
        if self.learner is None:
            raise RuntimeError(f"component {self.learner_id!r} is no Learner")
        return self.learner

    def _tell(self, what: str, call: Callable[[Learner], None], fl_ctx: FLContext) -> None:
        if self.learner is None:
            return
        try:
            call(self.learner)
        except Exception as error:  # user code
            self.log_exception(fl_ctx, f"learner {self.learner_id!r} failed to {what}: {_in_one_line(error)}")


def _result(returned: object) -> Shareable:
    """What the learner returned; EMPTY_RESULT for nothing and for what is no Shareable."""
    return returned if returned and isinstance(returned, Shareable) else make_reply(ReturnCode.EMPTY_RESULT)


def _dxo_of(message: object) -> DXO | None:
    if not isinstance(message, Shareable) or message.get_return_code() != ReturnCode.OK:
        return None
    try:
        return from_shareable(message)
    except ValueError:
        return None


def _failed(cause: str) -> Shareable:
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply.set_header(RoundKey.ERROR, cause)
    return reply


def _in_one_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{what} ({Path(place.filename).name}:{place.lineno})"
