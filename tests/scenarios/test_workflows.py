"""Workflows of all kinds in a whole federation: their own polling, panics, waiting for ever, several in a row."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.apis.app_constant import AppConstants
from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, SendOrder, Task, TaskCompletionStatus
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.errors import RunAborted, RunError
from hansa.jobs import Component
from hansa.jobs.job import App, Job
from hansa.runtime.run import Run, RunStatus
from scenarios.federations import (
    Adds,
    Flow,
    Silent,
    ask,
    averaging,
    executor,
    flow,
    listener,
    make_job,
    number_of,
    simulate,
)


def test_a_controller_may_poll_by_itself(tmp_path: Path) -> None:
    results: list[str] = []

    def polls(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable(), result_received_cb=received)
        controller.broadcast(task, ctx, None, 2, 0)
        pause = threading.Event()
        while controller.get_num_standing_tasks() and not signal.triggered:
            pause.wait(0.001)
        results.append(str(task.completion_status))

    def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
        results.append(client_task.client.name)

    simulate(make_job([flow(polls)], Silent), 2, home=tmp_path)
    assert results == ["site-1", "site-2", str(TaskCompletionStatus.OK)]


def test_timeouts_cost_no_real_time(tmp_path: Path) -> None:
    ends: list[Any] = []

    def waits(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        # 100,000 seconds of waiting for a site that is not there, and a grace of 100,000 for late comers
        task = Task("train", Shareable(), timeout=100_000)
        controller.send_and_wait(task, ctx, ["nobody"], SendOrder.SEQUENTIAL, 0, signal)
        ends.append(task.completion_status)
        task = Task("train", Shareable())
        controller.broadcast_and_wait(task, ctx, None, 1, 100_000, signal)
        ends.append(task.completion_status)

    simulate(make_job([flow(waits)], Silent), 2, home=tmp_path)
    assert ends == [TaskCompletionStatus.TIMEOUT, TaskCompletionStatus.OK]


def test_a_task_for_ever_is_handed_out_again_and_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    count = [0]

    def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
        count[0] += 1
        if count[0] == 10:
            client_task.task.completion_status = TaskCompletionStatus.CANCELLED

    def forever(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable(), result_received_cb=received)
        controller.broadcast_forever(task, ctx)
        pause = threading.Event()
        while controller.get_num_standing_tasks():
            pause.wait(0.001)

    simulate(make_job([flow(forever)], Silent), 2, home=tmp_path)
    assert count == [10]


@pytest.mark.slow
def test_a_task_for_ever_ends_at_its_timeout(tmp_path: Path) -> None:
    tasks: list[Task] = []

    def forever(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        tasks.append(Task("train", Shareable(), timeout=1))
        controller.broadcast_forever(tasks[0], ctx)
        pause = threading.Event()
        while controller.get_num_standing_tasks():
            pause.wait(0.001)

    simulate(make_job([flow(forever)], Silent), 2, home=tmp_path)
    assert tasks[0].completion_status is TaskCompletionStatus.TIMEOUT
    assert len(tasks[0].last_client_task_map) == 2


def test_a_relay_goes_round(tmp_path: Path) -> None:
    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        data["way"] = [*data.get("way", []), number_of(ctx)]
        return data

    last: list[Any] = []

    def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
        assert client_task.result is not None
        client_task.task.data = client_task.result
        last.append(client_task.result["way"])

    def relays(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable(), result_received_cb=received)
        controller.relay_and_wait(task, ctx, ["site-2", "site-3", "site-1"], SendOrder.SEQUENTIAL, 0, 0, False, signal)

    simulate(make_job([flow(relays)], executor(work)), 3, home=tmp_path)
    assert last[-1] == [2, 3, 1]


# -- waiting for ever --------------------------------------------------------------------------------------------


def test_a_workflow_that_waits_for_what_cannot_come_ends_with_a_line(tmp_path: Path) -> None:
    def waits(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        controller.broadcast_and_wait(Task("train", Shareable()), ctx, ["nobody"], 1, 0, signal)

    with pytest.raises(RunError, match="can never come") as caught:
        simulate(make_job([flow(waits)], Silent), 2, home=tmp_path)
    assert not isinstance(caught.value, RunAborted)
    assert Run.load(str(caught.value.folder)).status is RunStatus.FAILED


def test_also_where_it_does_not_watch_the_abort_signal(tmp_path: Path) -> None:
    after: list[Any] = []

    def waits(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable())
        controller.broadcast_and_wait(task, ctx, ["nobody"], 1, 0)
        after.append(task.completion_status)

    with pytest.raises(RunError, match="can never come"):
        simulate(make_job([flow(waits)], Silent), 2, home=tmp_path)
    assert after == [TaskCompletionStatus.ABORTED]


def test_a_site_that_left_is_named_where_the_workflow_waits_for_it(tmp_path: Path) -> None:
    def start(event: str, ctx: FLContext) -> None:
        if event == EventType.START_RUN and number_of(ctx) == 2:
            parts[0].system_panic("no data here", ctx)

    parts: list[Any] = []

    class Panics(listener(start)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            parts[:] = [self]

    with pytest.raises(RunError, match=r"can never come.*site-2 left \(no data here\)"):
        simulate(averaging(Adds, rounds=2, client_components=[Component(Panics)]), 3, home=tmp_path)


# -- panics ------------------------------------------------------------------------------------------------------


def test_a_panic_at_the_server_fails_the_run_with_its_reason(tmp_path: Path) -> None:
    events: list[str] = []

    def panics(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        ask(controller, ctx)
        controller.system_panic("the disk is full", ctx)
        events.append(f"triggered {signal.triggered}")

    def never(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        events.append("second workflow")

    heard = listener(lambda event, ctx: events.append(event) if event == EventType.END_RUN else None)
    job = make_job([flow(panics), flow(never)], Silent, server=[heard], client=[heard])
    with pytest.raises(RunError, match="^the disk is full$") as caught:
        simulate(job, 1, home=tmp_path)
    assert not isinstance(caught.value, RunAborted)
    assert events == ["triggered True", EventType.END_RUN, EventType.END_RUN]
    run = Run.load(str(caught.value.folder))
    assert (run.status, run.cause) == (RunStatus.FAILED, "the disk is full")


def test_a_panic_in_a_callback_of_the_server_ends_a_workflow_that_waits(tmp_path: Path) -> None:
    class Panics(Flow):
        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            task = Task("train", Shareable(), result_received_cb=self.received)
            self.broadcast_and_wait(task, fl_ctx, ["site-1", "site-2"], 2, 0, abort_signal)

        def received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
            self.system_panic("enough of this", fl_ctx)

    done: list[str] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        done.append(ctx.get_identity_name())
        return data

    with pytest.raises(RunError, match="enough of this"):
        simulate(make_job([Panics], executor(work)), 2, home=tmp_path)
    assert done == ["site-1"]


def test_a_panic_at_a_site_ends_its_part_and_strict_fed_avg_names_it(tmp_path: Path) -> None:
    events: list[tuple[str, str]] = []
    served: list[str] = []

    class Panics(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            served.append(ctx.get_identity_name())
            if number_of(ctx) == 2:
                self.system_panic("the GPU is gone", ctx)
                assert signal.triggered
            return super().execute(name, data, ctx, signal)

        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            if event_type == EventType.END_RUN:
                events.append((fl_ctx.get_identity_name(), event_type))

    with pytest.raises(RunError, match=r"site-2.*the GPU is gone") as caught:
        simulate(averaging(Panics, rounds=3), 3, home=tmp_path)
    assert "\n" not in str(caught.value)
    assert served == ["site-1", "site-2", "site-3"]  # all of the round, none after it
    assert [site for site, _ in events] == ["site-2", "site-1", "site-3"]  # there at once, and only once
    assert Run.load(str(caught.value.folder)).status is RunStatus.FAILED


def test_the_others_go_on_without_a_site_that_left(tmp_path: Path) -> None:
    served: list[str] = []

    class Panics(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            served.append(ctx.get_identity_name())
            if number_of(ctx) == 2:
                self.system_panic("the GPU is gone", ctx)
            return super().execute(name, data, ctx, signal)

    run = simulate(averaging(Panics, rounds=3, min_sites=2), 3, home=tmp_path)
    assert served == ["site-1", "site-2", "site-3"] + ["site-1", "site-3"] * 2
    assert [record.targets for record in run.history.rounds[1:]] == [["site-1", "site-3"]] * 2
    assert "the GPU is gone" in run.history.rounds[0].refused["site-2"][0]
    # Also where no workflow looks at the reason, and where no task is under way.
    assert [(problem.site, problem.cause) for problem in run.problems] == [("site-2", "the GPU is gone")]


def test_a_task_panic_costs_the_task_and_nothing_else(tmp_path: Path) -> None:
    codes: list[tuple[str, str]] = []

    class Panics(Silent):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            self.task_panic("no luck", ctx)
            return super().execute(name, data, ctx, signal)

    def twice(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for _ in range(2):
            results = ask(controller, ctx).values()
            codes.extend((result.get_return_code(), result.get_header(RoundKey.ERROR)) for result in results)

    run = simulate(make_job([flow(twice)], Panics), 1, home=tmp_path)
    assert codes == [(ReturnCode.TASK_ABORTED, "no luck")] * 2
    assert run.status is RunStatus.COMPLETED


def test_an_aborted_task_stops_where_it_runs_and_does_not_begin_where_it_was_only_handed_out(tmp_path: Path) -> None:
    working = threading.Event()
    began: list[str] = []
    left: list[str] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        stopped = threading.Event()
        signal.subscribe(stopped.set)
        began.append(ctx.get_identity_name())
        if not working.is_set():
            working.set()
            assert stopped.wait(30)
        return make_reply(ReturnCode.OK)

    def leaving(event_type: str, ctx: FLContext) -> None:
        if event_type == EventType.BEFORE_SEND_TASK_RESULT:
            left.append(ctx.get_identity_name())

    def aborts(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable())
        controller.broadcast(task, ctx, ["site-1", "site-2"], min_responses=2)
        assert working.wait(30)
        controller.abort_task(task, ctx)
        assert task.completion_status is TaskCompletionStatus.ABORTED
        ask(controller, ctx)  # the next one finds both sites well

    run = simulate(make_job([flow(aborts)], executor(work), client=[listener(leaving)]), 2, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert began == ["site-1", "site-1", "site-2"]  # site-2 had the first task, too, but had not begun
    assert left == ["site-1", "site-2"] * 2


@pytest.mark.parametrize("step", ["start_controller", "control_flow", "stop_controller"])
def test_a_workflow_that_raises_fails_the_run_with_file_and_line(tmp_path: Path, step: str) -> None:
    class Raises(Flow):
        pass

    def fails(self: Flow, *args: Any) -> None:
        raise LookupError("not found")

    setattr(Raises, step, fails)
    with pytest.raises(RunError, match=r"workflow Raises: LookupError: not found \(test_workflows\.py:\d+\)") as caught:
        simulate(make_job([Raises], Silent), 1, home=tmp_path)
    run = Run.load(str(caught.value.folder))
    assert run.status is RunStatus.FAILED
    assert run.problems[0].site == "server"


# -- several workflows -------------------------------------------------------------------------------------------


def test_a_second_workflow_takes_what_the_first_left(tmp_path: Path) -> None:
    seen: list[Any] = []

    class First(Flow):
        def start_controller(self, fl_ctx: FLContext) -> None:
            fl_ctx.set_prop("from_start", 1, private=True, sticky=True)
            fl_ctx.set_prop("passing", 1, private=True, sticky=False)

        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            seen.append([fl_ctx.get_prop(key) for key in ("from_start", "passing", FLContextKey.WORKFLOW)])
            ask(self, fl_ctx)
            model = make_model_learnable({"w": np.array([1.0, 2.0])}, {})
            fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)

    class Second(Flow):
        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            seen.append([fl_ctx.get_prop(key) for key in ("from_start", "passing", FLContextKey.WORKFLOW)])
            seen.append(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"]["w"].tolist())
            ask(self, fl_ctx)

    cookies: list[str] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        cookies.append(data.get_cookie(ReservedHeaderKey.WORKFLOW))
        return data

    run = simulate(make_job([First, Second], executor(work)), 1, home=tmp_path)
    assert seen == [[1, None, "First"], [1, None, "Second"], [1.0, 2.0]]
    assert cookies == ["First", "Second"]
    assert run.model["w"].tolist() == [1.0, 2.0]  # whatever workflow made it, the run keeps the global model


def test_two_fed_avgs_in_a_row(tmp_path: Path) -> None:
    # 2 rounds from 0, then 3 more from what is there: 5 * 1.5 = 7.5
    job = averaging(Adds, rounds=2)
    server = dict(job.apps["app"].server or {})
    [first] = server["workflows"]
    persistor = next(part for part in server["components"] if part["id"] == "persistor")
    empty = {"id": "empty", "path": persistor["path"], "args": {"file_name": "second.safetensors"}}
    second = {
        **first,
        "id": "second",
        "args": {**first["args"], "num_rounds": 3, "start_round": 2, "persistor_id": "empty"},
    }
    server["workflows"] = [first, second]
    server["components"] = [*server["components"], empty]
    app = App(server, job.apps["app"].client, job.apps["app"].files, "app", checked=True)
    run = simulate(Job("two", {"app": app}, classes=job.classes), 2, home=tmp_path)
    assert run.model["w"].tolist() == [7.5, 7.5]
    assert [record.number for record in run.history.rounds] == [0, 1, 2, 3, 4]


def test_a_global_model_that_is_no_model_costs_no_run(tmp_path: Path) -> None:
    def leaves(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        model = {"weights": {"w": np.ones(2), "name": "text", "thing": object()}}
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)

    run = simulate(make_job([flow(leaves)], Silent), 1, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert "global model" in run.problems[0].where


# -- hand-outs ---------------------------------------------------------------------------------------------------


def test_an_unanswered_task_is_sent_again_and_says_so(tmp_path: Path) -> None:
    sent: list[tuple[Any, str, int]] = []

    class Asks(Flow):
        """Asks twice for each hand-out, as a site does that was restarted."""

        def process_task_request(self, client: Client, fl_ctx: FLContext) -> tuple[str, str, Shareable | None]:
            super().process_task_request(client, fl_ctx)
            return super().process_task_request(client, fl_ctx)

        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            ask(self, fl_ctx, before_task_sent_cb=before)

    def before(client_task: ClientTask, fl_ctx: FLContext) -> None:
        resend = fl_ctx.get_prop_detail(FLContextKey.IS_CLIENT_TASK_RESEND)
        sent.append((resend and (resend["value"], resend["sticky"]), client_task.id, client_task.task_send_count))

    simulate(make_job([Asks], Silent), 1, home=tmp_path)
    assert [entry[0] for entry in sent] == [None, (True, False)]
    assert sent[0][1] == sent[1][1]
    assert sent[1][2] == 1


def test_a_task_id_is_the_same_in_each_run(tmp_path: Path) -> None:
    ids: list[list[str]] = []

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for _ in range(2):
            ask(controller, ctx, after_task_sent_cb=lambda client_task, fl_ctx: ids[-1].append(client_task.id))

    for _ in range(2):
        ids.append([])
        simulate(make_job([flow(rounds)], Silent), 2, home=tmp_path)
    assert ids[0] == ids[1]
    assert ids[0] == ["0/train/1/site-1/1", "0/train/1/site-2/1", "0/train/2/site-1/1", "0/train/2/site-2/1"]


@pytest.mark.parametrize("part", ["before_task_sent_cb", "result_received_cb", "task_done_cb"])
def test_a_callback_that_raises_ends_the_task_and_the_run_goes_on(tmp_path: Path, part: str) -> None:
    ends: list[Any] = []

    def bad(**arguments: Any) -> None:
        raise SystemExit("bad callback")

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable(), **{part: bad})  # type: ignore[arg-type]
        controller.broadcast_and_wait(task, ctx, ["site-1"], 1, 0, signal)
        ends.append(task.completion_status)

    run = simulate(make_job([flow(once)], Silent), 1, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert ends == [TaskCompletionStatus.ERROR]
    site = "" if part == "task_done_cb" else " for site-1"
    assert [problem.where for problem in run.problems] == [f"task train, callback bad{site}"]
    assert run.problems[0].cause.startswith("SystemExit: bad callback (test_workflows.py:")


def test_clients_are_a_new_list_each_time(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        engine = ctx.get_engine()
        clients = engine.get_clients()
        random.shuffle(clients)
        clients.pop()
        seen.append([client.name for client in engine.get_clients()])
        seen.append(engine.validate_clients(["site-2", "nobody"]))
        seen.append(engine.get_component("nobody"))

    simulate(make_job([flow(look)], Silent), 3, home=tmp_path)
    names, (known, unknown), nothing = seen
    assert names == ["site-1", "site-2", "site-3"]
    assert [type(client) for client in known] == [Client]
    assert unknown == ["nobody"]
    assert nothing is None
