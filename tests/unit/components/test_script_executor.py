"""ScriptExecutor over a script that lives in the test: what goes in, what comes out, whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hansa.apis.analytix import AnalyticsData
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.script import FromScript, ScriptSaid
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.executors.script_executor import ScriptExecutor
from hansa.errors import RunError

READY = ScriptSaid(FromScript.READY, {})
HELLO = ScriptSaid(FromScript.HELLO, {})
W = {"w": np.array([1.0, 2.0], np.float32)}


def answer(**fields: Any) -> ScriptSaid:
    plain = {"params": {}, "params_type": "full", "metrics": {}, "num_steps": None, "meta": {}}
    return ScriptSaid(FromScript.RESULT, {**plain, **fields})


def logged(name: str, value: float, step: int | None = None) -> ScriptSaid:
    return ScriptSaid(FromScript.LOG, {"name": name, "value": value, "step": step})


class Script:
    """Says what it was told to say; an error is raised in its place, a Signal is triggered."""

    def __init__(self, *says: ScriptSaid | BaseException | Signal) -> None:
        self.says = deque(says)
        self.given: list[Mapping[str, Any]] = []
        self.ends: list[str] = []
        self.exit_code: int | None = None
        self.last_lines = ["the last line"]

    def give(self, task: Mapping[str, Any]) -> None:
        self.given.append(task)

    def hear(self, abort: Signal, timeout_s: float | None = None) -> ScriptSaid | None:
        said = self.says.popleft()
        if isinstance(said, Signal):
            said.trigger("stop")
            return None
        if isinstance(said, BaseException):
            if isinstance(said, RunError):
                self.exit_code = 0 if "code 0" in said.cause else 1
            raise said
        return said

    def end(self, timeout_s: float) -> str | None:
        self.ends.append(f"end {timeout_s:g}")
        return None

    def kill(self) -> None:
        self.ends.append("kill")


class Site:
    """A site's engine with nothing but scripts and ears."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = deque(scripts)
        self.started: list[tuple[str, list[str]]] = []
        self.heard: list[AnalyticsData] = []
        self.abort = Signal()
        self.manager = FLContextManager(self, "site-1", 1, {}, {FLContextKey.RUN_ABORT_SIGNAL: self.abort})

    def new_context(self) -> FLContext:
        return self.manager.new_context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
        if event_type == "analytix_log_stats":
            self.heard.append(AnalyticsData.from_dxo(from_shareable(data)))

    def start_script(self, script: str, args: Sequence[str], *, seed: int) -> Script:
        self.started.append((script, list(args)))
        return self.scripts.popleft()


def task(content: DXO | None = None, **headers: Any) -> Shareable:
    made = (content or DXO(DataKind.WEIGHTS, dict(W))).to_shareable()
    for key, value in {AppConstants.CURRENT_ROUND: 3, AppConstants.NUM_ROUNDS: 5, **headers}.items():
        made.set_header(key, value)
    return made


def run(site: Site, executor: ScriptExecutor, message: Shareable | None = None, name: str = "train") -> Shareable:
    with site.new_context() as fl_ctx:
        return executor.execute(name, message or task(), fl_ctx, Signal())


def test_a_task_reaches_the_script_with_its_headers_and_comes_back_as_weights() -> None:
    trained = {"w": np.array([5.0, 6.0], np.float32)}
    script = Script(HELLO, READY, answer(params=trained, num_steps=7.0, metrics={"accuracy": 0.5}), READY)
    site = Site(script)
    executor = ScriptExecutor("train.py", "--rate 0.1 'a b'")
    content = DXO(DataKind.WEIGHTS, dict(W), {"note": "x"})
    result = run(site, executor, task(content, learning_rate=0.25))
    assert site.started == [("train.py", ["--rate", "0.1", "a b"])]
    [given] = script.given
    assert given["params"] == W
    assert {key: given[key] for key in ("asked", "params_type", "current_round", "total_rounds")} == {
        "asked": "train", "params_type": "full", "current_round": 3, "total_rounds": 5,
    }  # fmt: skip
    assert given["meta"] == {"learning_rate": 0.25, "note": "x"}
    dxo = from_shareable(result)
    assert dxo.data_kind == DataKind.WEIGHTS
    assert dxo.data["w"] is trained["w"]  # the very memory that the script wrote
    assert dxo.meta == {MetaKey.NUM_STEPS_CURRENT_ROUND: 7.0, "accuracy": 0.5}
    assert script.ends == []


def test_numbers_go_to_the_history_whenever_they_come() -> None:
    script = Script(
        logged("rows", 10.0),
        READY,
        logged("loss", 0.5, 1),
        answer(params=W, metrics={"accuracy": 0.75, "initial_metrics": 0.25}),
        logged("after", 2.0),
        READY,
    )
    site = Site(script)
    result = run(site, ScriptExecutor("train.py"))
    assert [(record.tag, record.value, record.kwargs) for record in site.heard] == [
        ("rows", 10.0, {}), ("loss", 0.5, {"global_step": 1}), ("after", 2.0, {}), ("accuracy", 0.75, {}),
    ]  # fmt: skip
    # The workflow itself records how the received model did.
    assert from_shareable(result).meta[MetaKey.INITIAL_METRICS] == 0.25


def test_the_turn_ends_when_the_script_waits_again() -> None:
    script = Script(READY, answer(params=W), logged("after", 1.0), READY, answer(params=W), READY)
    site = Site(script)
    executor = ScriptExecutor("train.py")
    run(site, executor)
    assert len(script.says) == 2  # all up to READY was heard, and no more
    run(site, executor)
    assert (len(site.started), len(script.given), script.ends) == (1, 2, [])


@pytest.mark.parametrize(
    ("sent", "wanted", "value", "expected"),
    [
        ("full", "diff", [5.0, 6.0], [4.0, 4.0]),
        ("diff", "full", [4.0, 4.0], [5.0, 6.0]),
        ("diff", "diff", [4.0, 4.0], [4.0, 4.0]),
    ],
)
def test_weights_and_differences_are_converted(
    sent: str, wanted: str, value: list[float], expected: list[float]
) -> None:
    params = {"w": np.array(value, np.float32), "own": np.ones(1)}
    script = Script(READY, answer(params=params, params_type=sent), READY)
    dxo = from_shareable(run(Site(script), ScriptExecutor("train.py", params_type=wanted)))
    assert dxo.data_kind == (DataKind.WEIGHT_DIFF if wanted == "diff" else DataKind.WEIGHTS)
    assert dxo.data["w"].tolist() == expected
    assert dxo.data["w"].dtype == np.float32
    assert dxo.data["own"].tolist() == [1.0]  # not the task's: the aggregator's affair
    assert W["w"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.zeros(3, np.float32), r"tensor 'w' has shape \(3,\), the task has \(2,\)"),
        (np.zeros(2, bool), "tensor 'w' has changed, and there is no difference of booleans"),
    ],
)
def test_what_cannot_be_converted_names_the_tensor(value: Any, problem: str) -> None:
    script = Script(READY, answer(params={"w": value}), READY)
    with pytest.raises(ValueError, match=problem):
        run(Site(script), ScriptExecutor("train.py", params_type="diff"))


def scaffold_task() -> Shareable:
    parts = {
        AppConstants.MODEL_WEIGHTS: DXO(DataKind.WEIGHTS, dict(W)),
        "scaffold_c_global": DXO(DataKind.WEIGHT_DIFF, {"w": np.ones(2)}),
    }
    return task(DXO(DataKind.COLLECTION, parts))


def test_control_variates_go_in_and_out() -> None:
    control = {"w": np.full(2, 0.5)}
    params = {"w": np.array([5.0, 6.0], np.float32)}
    script = Script(READY, answer(params=params, meta={"scaffold_c_diff": control, "note": 1}, num_steps=4.0), READY)
    dxo = from_shareable(run(Site(script), ScriptExecutor("train.py", params_type="diff"), scaffold_task()))
    assert script.given[0]["meta"]["scaffold_c_global"]["w"].tolist() == [1.0, 1.0]
    assert dxo.data_kind == DataKind.COLLECTION
    model, diff = dxo.data[AppConstants.MODEL_WEIGHTS], dxo.data["scaffold_c_diff"]
    assert (model.data_kind, model.data["w"].tolist()) == (DataKind.WEIGHT_DIFF, [4.0, 4.0])
    assert (diff.data_kind, diff.data) == (DataKind.WEIGHT_DIFF, control)
    assert model.meta == diff.meta == {"note": 1, MetaKey.NUM_STEPS_CURRENT_ROUND: 4.0}


def test_control_variates_that_are_missing_are_said_to_be() -> None:
    with pytest.raises(ValueError, match=r"has no meta\['scaffold_c_diff'\]"):
        run(Site(Script(READY, answer(params=W), READY)), ScriptExecutor("train.py"), scaffold_task())


def test_a_model_is_measured_and_submitted() -> None:
    script = Script(READY, answer(metrics={"accuracy": 0.5}), READY, answer(params=W, params_type="diff"), READY)
    site = Site(script)
    executor = ScriptExecutor("train.py", tasks={"evaluate": "measure"})
    measured = from_shareable(run(site, executor, name="measure"))
    assert (measured.data_kind, measured.data) == (DataKind.METRICS, {"accuracy": 0.5})
    submitted = from_shareable(run(site, executor, Shareable(), name="submit_model"))
    assert (submitted.data_kind, submitted.data) == (DataKind.WEIGHT_DIFF, W)
    assert [given["asked"] for given in script.given] == ["evaluate", "submit_model"]
    assert run(site, executor, name="validate").get_return_code() == ReturnCode.TASK_UNKNOWN


@pytest.mark.parametrize("message", [make_reply(ReturnCode.OK), task(DXO(DataKind.METRICS, {}))])
def test_a_task_without_parameters_starts_nothing(message: Shareable) -> None:
    site = Site()
    with pytest.raises(ValueError, match="DXO|WEIGHTS or WEIGHT_DIFF"):
        run(site, ScriptExecutor("train.py"), message)
    assert site.started == []


def test_a_death_names_site_task_and_round_and_the_next_task_starts_anew() -> None:
    dead = Script(READY, RunError("ended with exit code 1: ValueError: no labels (train.py:3)"))
    site = Site(dead, Script(READY, answer(params=W), READY))
    executor = ScriptExecutor("train.py")
    with pytest.raises(RunError) as caught:
        run(site, executor)
    # The context of the test bears no name of a site.
    assert str(caught.value).endswith(
        "task train, round 3: train.py ended with exit code 1: ValueError: no labels (train.py:3)"
    )
    assert dead.ends == ["kill"]
    assert from_shareable(run(site, executor)).data == W
    assert len(site.started) == 2


def test_a_script_that_ends_after_its_answer_has_answered() -> None:
    once = Script(READY, answer(params=W), RunError("ended with exit code 0"))
    site = Site(once, Script(READY, answer(params=W), READY))
    executor = ScriptExecutor("train.py")
    assert from_shareable(run(site, executor)).data == W
    assert from_shareable(run(site, executor)).data == W
    assert (len(site.started), once.ends) == (2, ["kill"])  # what was left of it


@pytest.mark.parametrize(
    ("says", "how"),
    [
        ([RunError("ended with exit code 0")], "did not call hansa.client.init() and ended with exit code 0"),
        ([HELLO, RunError("ended with exit code 0")], "did not call receive() and ended with exit code 0"),
        (
            [TimeoutError()],
            "did not call hansa.client.init() within 9 s (start_timeout_s); its last line: the last line",
        ),
        ([HELLO, TimeoutError()], "did not call receive() within 9 s (start_timeout_s); its last line: the last line"),
        ([HELLO, READY, RunError("ended with exit code 0")], "did not call send() and ended with exit code 0"),
    ],
)
def test_a_script_that_does_not_do_its_part(says: list[Any], how: str) -> None:
    script = Script(*says)
    with pytest.raises(RunError) as caught:
        run(Site(script), ScriptExecutor("train.py", start_timeout_s=9))
    assert str(caught.value).endswith(f"task train, round 3: train.py {how}")
    assert script.ends == ["kill"]


@pytest.mark.parametrize("before", [[], [HELLO], [READY], [READY, answer(params=W)]])
def test_an_abort_ends_the_script(before: list[ScriptSaid]) -> None:
    script = Script(*before, Signal())
    assert run(Site(script), ScriptExecutor("train.py")).get_return_code() == ReturnCode.TASK_ABORTED
    assert script.ends == ["kill"]


@pytest.mark.parametrize(("stopped", "end"), [(False, "end 4"), (True, "kill")])
def test_the_end_of_the_run_lets_the_script_finish_unless_the_run_was_stopped(stopped: bool, end: str) -> None:
    script = Script(READY, answer(params=W), READY)
    site = Site(script)
    executor = ScriptExecutor("train.py", end_timeout_s=4)
    run(site, executor)
    if stopped:
        site.abort.trigger("stop")
    with site.new_context() as fl_ctx:
        executor.handle_event(EventType.END_RUN, fl_ctx)
        executor.handle_event(EventType.END_RUN, fl_ctx)
    assert script.ends == [end]


def test_where_nobody_starts_scripts_it_says_so() -> None:
    class Plain:
        def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
            """Nobody hears."""

    with FLContextManager(Plain(), "site-1", 1, {}, {}).new_context() as fl_ctx, pytest.raises(RunError) as caught:
        ScriptExecutor("train.py").execute("train", task(), fl_ctx, Signal())
    assert "train.py cannot run: nobody here starts scripts" in str(caught.value)
