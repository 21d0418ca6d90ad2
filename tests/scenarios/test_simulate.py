"""Whole federations through `hansa.simulate`: the numbers, the counts, the order, and what is left behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import EventScope, FLContextKey, ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, RunAborted, RunError
from hansa.jobs import Component
from hansa.runtime.run import Run, RunStatus
from scenarios.federations import (
    Adds,
    Echo,
    Flow,
    Silent,
    ask,
    averaging,
    executor,
    filter_of,
    flow,
    listener,
    make_job,
    number_of,
    simulate,
    weights,
)

LOG_EVENTS = {value for name, value in vars(EventType).items() if name.endswith("LOG_AVAILABLE")}


def test_fed_avg_of_three_sites_worked_by_hand(tmp_path: Path) -> None:
    # Site k sends what it got plus k; steps 1, 2, 5.
    # Each round adds (1*1 + 2*2 + 5*3) / 8 = 20 / 8 = 2.5; two rounds add 5 to w = (0, 0) and b = 1.
    part = Component(Adds, steps={"site-1": 1, "site-2": 2, "site-3": 5})
    run = simulate(averaging(part, rounds=2), 3, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert run.problems == []
    assert {name: value.tolist() for name, value in run.model.items()} == {"w": [5.0, 5.0], "b": 6.0}
    assert {value.dtype for value in run.model.values()} == {np.dtype(np.float32)}
    assert [record.counted for record in run.history.rounds] == [{"site-1": 1, "site-2": 2, "site-3": 5}] * 2
    assert [record.targets for record in run.history.rounds] == [["site-1", "site-2", "site-3"]] * 2


def test_a_run_is_the_same_when_it_is_read_from_its_folder(tmp_path: Path) -> None:
    run = simulate(averaging(Adds), 3, home=tmp_path)
    again = Run.load(run.folder)
    assert again.summary() == run.summary()
    assert again.history.rounds == run.history.rounds
    assert again.timings == run.timings
    assert [value.tolist() for value in again.model.values()] == [value.tolist() for value in run.model.values()]
    assert set(run.timings.phases) >= {"hand out", "execute", "submit"}


@pytest.mark.parametrize("sites", [["b", "a"], ["site-10", "site-9"]])
def test_sites_may_have_names_and_are_served_in_code_point_order(tmp_path: Path, sites: Sequence[str]) -> None:
    served: list[str] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        served.append(ctx.get_identity_name())
        return data

    hansa.simulate(make_job([flow(lambda c, s, ctx: ask(c, ctx))], executor(work)), sites, home=tmp_path)  # type: ignore[arg-type]
    assert served == sorted(sites)


# -- the order of a run (FLARE2.md 5.6) --------------------------------------------------------------------------


def test_the_order_of_a_run(tmp_path: Path) -> None:
    at_server: list[str] = []
    at_site: list[str] = []
    threads: dict[str, list[str]] = {}

    def note(into: list[str], what: str) -> None:
        into.append(what)
        if into is at_server:
            threads.setdefault(threading.current_thread().name, []).append(what)

    class Ordered(Flow):
        def start_controller(self, fl_ctx: FLContext) -> None:
            note(at_server, "start_controller")

        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            note(at_server, "control_flow")
            task = Task(
                "train",
                Shareable(),
                before_task_sent_cb=lambda client_task, fl_ctx: note(at_server, "controller: request"),
                result_received_cb=lambda client_task, fl_ctx: note(at_server, "controller: result"),
            )
            self.broadcast_and_wait(task, fl_ctx, ["site-1"], 1, 0, abort_signal)

        def stop_controller(self, fl_ctx: FLContext) -> None:
            note(at_server, "stop_controller")

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        note(at_site, "execute")
        return data

    filters = {
        "server data": [filter_of(lambda d, c: note(at_server, "data filter"))],
        "server result": [filter_of(lambda d, c: note(at_server, "result filter"))],
        "client data": [filter_of(lambda d, c: note(at_site, "data filter"))],
        "client result": [filter_of(lambda d, c: note(at_site, "result filter"))],
    }
    job = make_job(
        [Ordered],
        executor(work),
        server=[listener(lambda event, ctx: note(at_server, event) if event not in LOG_EVENTS else None)],
        client=[listener(lambda event, ctx: note(at_site, event) if event not in LOG_EVENTS else None)],
        filters=filters,
    )
    simulate(job, 1, home=tmp_path)
    assert at_site == [
        EventType.ABOUT_TO_START_RUN,
        EventType.START_RUN,
        EventType.BEFORE_PULL_TASK,
        EventType.AFTER_PULL_TASK,
        EventType.BEFORE_TASK_DATA_FILTER,
        "data filter",
        EventType.AFTER_TASK_DATA_FILTER,
        EventType.BEFORE_TASK_EXECUTION,
        "execute",
        EventType.AFTER_TASK_EXECUTION,
        EventType.BEFORE_TASK_RESULT_FILTER,
        "result filter",
        EventType.AFTER_TASK_RESULT_FILTER,
        EventType.BEFORE_SEND_TASK_RESULT,
        EventType.AFTER_SEND_TASK_RESULT,
        EventType.ABOUT_TO_END_RUN,
        EventType.END_RUN,
    ]
    assert at_server == [
        EventType.START_RUN,
        "start_controller",
        EventType.START_WORKFLOW,
        "control_flow",
        "controller: request",
        EventType.BEFORE_TASK_DATA_FILTER,
        "data filter",
        EventType.AFTER_TASK_DATA_FILTER,
        EventType.BEFORE_TASK_RESULT_FILTER,
        "result filter",
        EventType.AFTER_TASK_RESULT_FILTER,
        EventType.BEFORE_PROCESS_SUBMISSION,
        "controller: result",
        EventType.AFTER_PROCESS_SUBMISSION,
        "stop_controller",
        EventType.END_WORKFLOW,
        EventType.ABOUT_TO_END_RUN,
        EventType.END_RUN,
    ]
    # the workflow has one thread, everything else is the dispatcher's
    assert set(threads) == {"hansa-workflows", threading.current_thread().name}
    assert "data filter" not in threads["hansa-workflows"]


def test_a_workflow_goes_on_only_after_the_step_that_woke_it(tmp_path: Path) -> None:
    # The last result ends the wait; what belongs to its submission comes first all the same.
    resumed = threading.Event()
    went_on: list[bool] = []

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        ask(controller, ctx)
        resumed.set()

    def after(event: str, ctx: FLContext) -> None:
        if event == EventType.AFTER_PROCESS_SUBMISSION:
            went_on.append(resumed.wait(0.05))

    simulate(make_job([flow(once)], Silent, server=[listener(after)]), 2, home=tmp_path)
    assert went_on == [False, False]
    assert resumed.is_set()


def test_contexts_hold_what_flare_promises(tmp_path: Path) -> None:
    found: dict[str, dict[str, Any]] = {}

    def look(event: str, ctx: FLContext) -> None:
        if event in (EventType.START_RUN, EventType.BEFORE_PROCESS_SUBMISSION, EventType.AFTER_TASK_EXECUTION):
            found[f"{ctx.get_identity_name()} {event}"] = ctx.get_all_details()

    job = make_job([flow(lambda c, s, ctx: ask(c, ctx))], Silent, server=[listener(look)], client=[listener(look)])
    run = simulate(job, 1, home=tmp_path)
    for who in ("site-1", "scenario"):
        held = found[f"{who} {EventType.START_RUN}"]
        for key in (ReservedKey.RUN_NUM, ReservedKey.IDENTITY_NAME):
            assert (held[key]["private"], held[key]["sticky"]) == (False, True)
        for key in (FLContextKey.APP_ROOT, FLContextKey.ARGS, FLContextKey.WORKSPACE_ROOT, FLContextKey.SECURE_MODE,
                    FLContextKey.WORKSPACE_OBJECT, FLContextKey.RUN_ABORT_SIGNAL, ReservedKey.ENGINE):  # fmt: skip
            assert (held[key]["private"], held[key]["sticky"]) == (True, True), key
        assert held[FLContextKey.ARGS]["value"].env == "config/environment.json"
        assert held[FLContextKey.ARGS]["value"].train_config == "config/config_train.json"
        assert isinstance(held[FLContextKey.RUN_ABORT_SIGNAL]["value"], Signal)
    assert found[f"site-1 {EventType.START_RUN}"][FLContextKey.CLIENT_NAME]["value"] == "site-1"
    app_root = Path(found[f"scenario {EventType.START_RUN}"][FLContextKey.APP_ROOT]["value"])
    assert app_root.parts[-2:] == ("run_1", "app_server")
    assert app_root.is_relative_to(run.folder.absolute())
    site_root = Path(found[f"site-1 {EventType.START_RUN}"][FLContextKey.APP_ROOT]["value"])
    assert site_root.parts[-2:] == ("run_1", "app_site-1")
    assert site_root.is_dir()
    for held in (found[f"site-1 {EventType.AFTER_TASK_EXECUTION}"],
                 found[f"scenario {EventType.BEFORE_PROCESS_SUBMISSION}"]):  # fmt: skip
        for key in (FLContextKey.TASK_NAME, FLContextKey.TASK_ID, FLContextKey.TASK_RESULT):
            assert (held[key]["private"], held[key]["sticky"]) == (True, False), key
        assert held[FLContextKey.TASK_NAME]["value"] == "train"
        assert held[FLContextKey.EVENT_SCOPE]["value"] == EventScope.LOCAL
    submission = found[f"scenario {EventType.BEFORE_PROCESS_SUBMISSION}"]
    result = submission[FLContextKey.TASK_RESULT]["value"]
    peer = submission[FLContextKey.PEER_CONTEXT]["value"]
    assert peer.get_prop(FLContextKey.SHAREABLE) is result
    assert result.get_peer_prop(ReservedKey.IDENTITY_NAME, None) == "site-1"


# -- what executors do -----------------------------------------------------------------------------------------


def answers(home: Path, work: Any, *, sites: int = 1, **parts: Any) -> tuple[dict[str, Shareable], Run]:
    """What the controller gets from executors that call `work`."""
    got: dict[str, Shareable] = {}
    job = make_job([flow(lambda c, s, ctx: got.update(ask(c, ctx, weights(w=[1.0, 2.0]))))], executor(work), **parts)
    return got, simulate(job, sites, home=home)


def raises(error: BaseException) -> Any:
    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        raise error

    return work


def broken_headers(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
    reply = Shareable()
    reply["__headers__"] = "none"
    return reply


def with_a_lambda(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
    return DXO(DataKind.WEIGHTS, {"layer": {"act": lambda x: x}}).to_shareable()


@pytest.mark.parametrize(
    ("work", "code", "reason"),
    [
        (raises(ValueError("bad label")), ReturnCode.EXECUTION_EXCEPTION, "ValueError: bad label (test_simulate.py:"),
        (raises(SystemExit(3)), ReturnCode.EXECUTION_EXCEPTION, "SystemExit: 3 (test_simulate.py:"),
        (raises(RuntimeError("x")), ReturnCode.EXECUTION_EXCEPTION, "RuntimeError: x"),
        (lambda data, ctx, signal: None, ReturnCode.EXECUTION_RESULT_ERROR, "returned NoneType, not a Shareable"),
        (lambda data, ctx, signal: {"w": 1}, ReturnCode.EXECUTION_RESULT_ERROR, "returned dict, not a Shareable"),
        (broken_headers, ReturnCode.EXECUTION_RESULT_ERROR, "headers are a str"),
        (with_a_lambda, ReturnCode.EXECUTION_RESULT_ERROR, "layer.act"),
    ],
    ids=["ValueError", "SystemExit", "RuntimeError", "None", "dict", "headers", "lambda"],
)
def test_an_executor_that_fails_costs_its_result_and_says_why(
    tmp_path: Path, work: Any, code: str, reason: str
) -> None:
    got, run = answers(tmp_path, work, sites=2)
    assert run.status is RunStatus.COMPLETED
    assert [result.get_return_code() for result in got.values()] == [code, code]
    error = got["site-1"].get_header("__error__")
    assert reason in error
    assert "\n" not in error
    assert got["site-1"].get_peer_prop(ReservedKey.IDENTITY_NAME, None) == "site-1"


def test_strict_fed_avg_ends_with_a_line_that_names_site_and_cause(tmp_path: Path) -> None:
    class Moody(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            if number_of(ctx) == 2:
                raise ValueError("bad label")
            return super().execute(name, data, ctx, signal)

    with pytest.raises(RunError, match=r"site-2.*ValueError: bad label \(test_simulate\.py:\d+\)") as caught:
        simulate(averaging(Moody, rounds=3), 3, home=tmp_path)
    assert "\n" not in str(caught.value)
    run = Run.load(str(caught.value.folder))
    assert run.status is RunStatus.FAILED
    assert run.cause == str(caught.value)
    assert [(p.site, p.where) for p in run.problems] == [("site-2", "task train")]
    assert list(run.history.rounds[0].refused) == ["site-2"]  # the round that never closed is in the record
    assert sorted(run.history.rounds[0].counted) == ["site-1", "site-3"]


def test_with_min_sites_the_others_go_on_and_the_history_tells(tmp_path: Path) -> None:
    class Moody(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            if number_of(ctx) == 2:
                raise ValueError("bad label")
            return super().execute(name, data, ctx, signal)

    run = simulate(averaging(Moody, rounds=2, min_sites=2), 3, home=tmp_path)
    # each round adds the mean of 1 and 3
    assert run.model["w"].tolist() == [4.0, 4.0]
    for record in run.history.rounds:
        assert sorted(record.counted) == ["site-1", "site-3"]
        assert "ValueError: bad label" in record.refused["site-2"][0]


def test_nan_is_refused_and_named(tmp_path: Path) -> None:
    class Diverges(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            reply = super().execute(name, data, ctx, signal)
            if number_of(ctx) == 2:
                from_shareable(reply).data["w"][1] = np.nan
            return reply

    run = simulate(averaging(Diverges, min_sites=2), 3, home=tmp_path)
    assert run.model["w"].tolist() == [2.0, 2.0]
    [reason] = run.history.rounds[0].refused["site-2"]
    assert "'w'" in reason
    assert "nan" in reason.lower()


def test_what_an_executor_does_to_its_input_stays_at_its_site(tmp_path: Path) -> None:
    def wreck(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        received.append(from_shareable(data).data["w"].tolist())
        from_shareable(data).data["w"][:] = -1
        del from_shareable(data).data["v"]
        (data.get_cookie_jar() or {}).clear()
        data.clear()
        return Shareable()

    received: list[Any] = []
    message = weights(w=[1.0, 2.0], v=[3.0])
    message.add_cookie("note", "mine")
    got: dict[str, Shareable] = {}

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for _ in range(2):
            got.update(ask(controller, ctx, message))

    run = simulate(make_job([flow(rounds)], executor(wreck)), 3, home=tmp_path)
    assert run.problems == []
    assert received == [[1.0, 2.0]] * 6
    assert from_shareable(message).data["v"].tolist() == [3.0]
    # the cookies of the task come back whatever the executor did
    assert [result.get_cookie("note") for result in got.values()] == ["mine"] * 3


def test_an_executor_that_said_it_only_reads_and_writes_is_told(tmp_path: Path) -> None:
    def write(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        from_shareable(data).data["w"][:] = 7
        return data

    got: dict[str, Shareable] = {}
    part = executor(write, writes_input=False)
    simulate(
        make_job([flow(lambda c, s, ctx: got.update(ask(c, ctx, weights(w=np.ones(100_000)))))], part), 1, home=tmp_path
    )
    assert got["site-1"].get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert "read-only" in got["site-1"].get_header("__error__")


def test_the_reply_may_be_the_very_message_and_its_arrays_are_the_receivers_own(tmp_path: Path) -> None:
    kept: list[Any] = []

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for number in range(2):
            for result in ask(controller, ctx, weights(w=np.full(50_000, number))).values():
                array = from_shareable(result).data["w"]
                array += 10  # in place, and kept beyond the task
                kept.append(array)

    run = simulate(make_job([flow(rounds)], Echo), 2, home=tmp_path)
    assert run.problems == []
    assert [array[0] for array in kept] == [10, 10, 11, 11]


def test_a_task_without_executor_is_unknown_at_the_site(tmp_path: Path) -> None:
    codes: list[str] = []

    def other(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("paint", Shareable(), result_received_cb=received)
        controller.broadcast_and_wait(task, ctx, ["site-1"], 1, 0, signal)

    def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
        assert client_task.result is not None
        codes.append(client_task.result.get_return_code())

    simulate(make_job([flow(other)], Silent), 1, home=tmp_path)
    assert codes == [ReturnCode.TASK_UNKNOWN]


# -- the end ---------------------------------------------------------------------------------------------------


def test_an_abort_from_another_thread_stops_workflow_and_task(tmp_path: Path) -> None:
    signal = Signal()
    working = threading.Event()
    codes: list[bool] = []

    def work(data: Shareable, ctx: FLContext, task_signal: Signal) -> Shareable:
        stopped = threading.Event()
        task_signal.subscribe(stopped.set)
        working.set()
        codes.append(stopped.wait(30))
        run_signal = ctx.get_run_abort_signal()
        assert run_signal is not None
        codes.append(run_signal.triggered)
        return data

    other = threading.Thread(target=lambda: working.wait(30) and signal.trigger("enough"))
    other.start()
    with pytest.raises(RunAborted, match="aborted by the caller") as caught:
        simulate(averaging(executor(work), rounds=5), 3, home=tmp_path, abort_signal=signal)
    other.join()
    assert codes == [True, True]  # one site was at work, and no other began after it
    assert Run.load(str(caught.value.folder)).status is RunStatus.ABORTED


def test_a_signal_that_is_triggered_already_runs_nothing(tmp_path: Path) -> None:
    signal = Signal()
    signal.trigger("enough")
    with pytest.raises(RunAborted):
        simulate(averaging(executor(raises(AssertionError())), rounds=5), 3, home=tmp_path, abort_signal=signal)


@pytest.mark.parametrize("sites", [0, -1, [], ["a", "a"], ["a b"], ["server"], "abc", 2.0, True])
def test_sites_that_cannot_be_are_refused_and_nothing_is_left(tmp_path: Path, sites: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        hansa.simulate(averaging(Adds), sites, home=tmp_path)
    assert caught.value.key == "sites"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True])
def test_a_seed_that_cannot_be_is_refused(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(ConfigError, match="seed"):
        simulate(averaging(Adds), 1, home=tmp_path, seed=seed)


class Unbuildable(Adds):
    def __init__(self) -> None:
        raise OSError("no data at this site")


def test_after_a_config_error_nothing_is_left_behind(tmp_path: Path) -> None:
    for job, words in (
        (averaging(Unbuildable), "OSError: no data at this site"),
        (averaging(Adds, min_sites=5), "the job needs 5 sites"),
    ):
        with pytest.raises(ConfigError, match=words):
            simulate(job, 2, home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_job_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        hansa.simulate(tmp_path / "none", 2, home=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_the_record_is_json_that_says_what_was_run(tmp_path: Path) -> None:
    run = simulate(averaging(Adds), 2, home=tmp_path, seed=4)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "COMPLETED"
    assert record["config"]["sites"] == ["site-1", "site-2"]
    assert record["config"]["seed"] == 4
    assert record["outboxes"]["site-1"]["messages"] >= 1
