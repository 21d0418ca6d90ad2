"""LearnerExecutor: what it asks of the learner, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hansa.apis.app_constant import AppConstants, ModelName, ValidateType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.learner_spec import Learner
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.executors.learner_executor import LearnerExecutor
from sides import Side


def weights() -> Shareable:
    result = DXO(DataKind.WEIGHTS, {"w": 1.0}, {"own": 1}).to_shareable()
    result.set_header("mine", 7)
    return result


def metrics(**data: float) -> Shareable:
    return DXO(DataKind.METRICS, data).to_shareable()


def fail() -> Shareable:
    raise ValueError("bad label\nsecond line")


class Spy(Learner):
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, **answers: Callable[[], Any]) -> None:
        super().__init__()
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def _answer(self, what: str, *details: Any) -> Any:
        self.asked.append((what, *details))
        return self.answers[what]() if what in self.answers else None

    def initialize(self, parts: dict[str, Any], fl_ctx: FLContext) -> None:
        self._answer("initialize", sorted(parts))

    def train(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        return self._answer("train", data.get_header(AppConstants.VALIDATE_TYPE))

    def validate(self, data: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        return self._answer("validate", data.get_header(AppConstants.VALIDATE_TYPE))

    def get_model_for_validation(self, model_name: str, fl_ctx: FLContext) -> Shareable:
        return self._answer("submit", model_name)

    def abort(self, fl_ctx: FLContext) -> None:
        self._answer("abort")

    def finalize(self, fl_ctx: FLContext) -> None:
        self._answer("finalize")


def started(**answers: Callable[[], Any]) -> tuple[LearnerExecutor, Spy, Side]:
    learner, executor = Spy(**answers), LearnerExecutor("learner")
    side = Side("site-1", [executor], {"learner": learner, "net": object()})
    side.fire(EventType.START_RUN)
    return executor, learner, side


def execute(executor: LearnerExecutor, side: Side, task: str = "train", **headers: Any) -> Shareable:
    data = weights()
    for key, value in headers.items():
        data.set_header(key, value)
    return executor.execute(task, data, side.new_context(), Signal())


def test_a_run_initializes_aborts_and_finalizes_the_learner() -> None:
    _, learner, side = started()
    side.fire(EventType.ABORT_TASK)
    side.fire(EventType.END_RUN)
    assert learner.asked == [("initialize", ["learner", "net"]), ("abort",), ("finalize",)]


def test_training_validates_first_and_takes_the_metric_along() -> None:
    executor, learner, side = started(validate=lambda: metrics(initial_metrics=0.75), train=weights)
    result = execute(executor, side)
    before = ValidateType.BEFORE_TRAIN_VALIDATE
    assert learner.asked[1:] == [("validate", before), ("train", before)]
    assert from_shareable(result).meta == {"own": 1, MetaKey.INITIAL_METRICS: 0.75}
    assert result.get_header("mine") == 7


@pytest.mark.parametrize(
    ("answer", "meta"),
    [
        (lambda: metrics(accuracy=0.5), {"own": 1, MetaKey.INITIAL_METRICS: 0}),
        (lambda: make_reply(ReturnCode.VALIDATE_TYPE_UNKNOWN), {"own": 1}),
        (lambda: None, {"own": 1}),
        (lambda: make_reply(ReturnCode.OK), {"own": 1}),
    ],
)
def test_metrics_that_lack_the_metric_give_0_and_a_failed_validation_gives_none(
    answer: Callable[[], Any], meta: dict[str, Any]
) -> None:
    executor, _, side = started(validate=answer, train=weights)
    assert from_shareable(execute(executor, side)).meta == meta


def test_the_meta_of_what_the_learner_was_given_is_not_touched() -> None:
    task = weights()
    executor, _, side = started(
        validate=lambda: metrics(initial_metrics=0.5),
        train=lambda: DXO(DataKind.WEIGHTS, from_shareable(task).data, from_shareable(task).meta).to_shareable(),
    )
    execute(executor, side)
    assert from_shareable(task).meta == {"own": 1}


@pytest.mark.parametrize("returned", [None, {}, {"w": 1}, "weights"])
@pytest.mark.parametrize("task", ["train", "validate", "submit_model"])
def test_nothing_or_something_else_is_an_empty_result(task: str, returned: Any) -> None:
    executor, _, side = started(train=lambda: returned, submit=lambda: returned, validate=lambda: returned)
    assert execute(executor, side, task).get_return_code() == ReturnCode.EMPTY_RESULT


@pytest.mark.parametrize("task", ["train", "validate", "submit_model"])
def test_an_exception_is_a_reply_that_says_what_and_where(task: str) -> None:
    executor, _, side = started(validate=fail, submit=fail)
    reply = execute(executor, side, task)
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert reply.get_header(RoundKey.ERROR).startswith("ValueError: bad label (test_learner_executor.py:")


def test_validate_and_submit_pass_their_headers_on() -> None:
    executor, learner, side = started(validate=lambda: metrics(accuracy=1.0), submit=weights)
    assert from_shareable(execute(executor, side, "validate")).data == {"accuracy": 1.0}
    execute(executor, side, "submit_model", **{AppConstants.SUBMIT_MODEL_NAME: ModelName.BEST_MODEL})
    assert learner.asked[1:] == [("validate", ValidateType.MODEL_VALIDATE), ("submit", "best_model")]


def test_other_tasks_are_unknown() -> None:
    executor, _, side = started()
    assert execute(executor, side, "sing").get_return_code() == ReturnCode.TASK_UNKNOWN


def test_a_failing_initialize_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    executor, _, side = started(initialize=fail, train=weights)
    assert "failed to initialize: ValueError: bad label" in caplog.text
    assert execute(executor, side).get_return_code() == ReturnCode.OK


def test_without_a_learner_every_task_fails_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    executor = LearnerExecutor("learner")
    side = Side("site-1", [executor], {"learner": object()})
    side.fire(EventType.START_RUN)
    assert "component 'learner' must be a Learner, but it is a object" in caplog.text
    assert execute(executor, side).get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_an_abort_during_validation_saves_the_training() -> None:
    executor, learner, side = started(validate=lambda: metrics(initial_metrics=1.0), train=weights)
    signal = Signal()
    signal.trigger(True)
    reply = executor.execute("train", weights(), side.new_context(), signal)
    assert reply.get_return_code() == ReturnCode.TASK_ABORTED
    assert [what for what, *_ in learner.asked] == ["initialize", "validate"]
