"""What passes between server and sites beside tasks: aux messages, federated events, public properties, numbers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.apis.client import Client
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FLContextKey, ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
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


def answers(topic: str, handler: Any) -> type[FLComponent]:
    """A component that answers a topic."""

    def register(event: str, ctx: FLContext) -> None:
        if event == EventType.START_RUN:
            ctx.get_engine().register_aux_message_handler(topic, handler)

    return listener(register)


def hello(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
    """Tells the sender what it knows of it."""
    reply = Shareable()
    reply["topic"] = topic
    reply["question"] = request["question"]
    reply["from"] = request.get_peer_prop(ReservedKey.IDENTITY_NAME, None)
    peer = fl_ctx.get_peer_context()
    assert peer is not None
    reply["peer"] = peer.get_prop(ReservedKey.IDENTITY_NAME)
    return reply


def bad(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
    raise ValueError("no answer")


def question(value: object) -> Shareable:
    request = Shareable()
    request["question"] = value
    return request


def test_the_server_asks_sites(tmp_path: Path) -> None:
    got: dict[str, dict[str, Shareable]] = {}

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        engine = ctx.get_engine()
        everybody = engine.get_clients()
        got["all"] = engine.send_aux_request(None, "hello", question([1]), 1.0, ctx)
        got["empty"] = engine.send_aux_request([], "hello", question(2), 1.0, ctx)
        got["one"] = engine.send_aux_request([everybody[1]], "hello", question(3), 1.0, ctx)
        got["names"] = engine.send_aux_request(["site-3"], "hello", question(4), 1.0, ctx)
        got["unknown"] = engine.send_aux_request(["site-3"], "who", question(5), 1.0, ctx)
        got["bad"] = engine.send_aux_request(["site-3"], "bad", question(6), 1.0, ctx)
        got["nobody"] = engine.send_aux_request(["nobody"], "hello", question(7), 1.0, ctx)
        with pytest.raises(TypeError, match="timeout must be a float"):
            engine.send_aux_request(None, "hello", question(8), 1, ctx)

    run = simulate(
        make_job([flow(once)], Silent, client=[answers("hello", hello), answers("bad", bad)]), 3, home=tmp_path
    )
    assert list(got["all"]) == list(got["empty"]) == ["site-1", "site-2", "site-3"]
    reply = got["all"]["site-2"]
    assert (reply["topic"], reply["question"], reply["from"], reply["peer"]) == ("hello", [1], "scenario", "scenario")
    assert reply.get_peer_prop(ReservedKey.IDENTITY_NAME, None) == "site-2"
    assert list(got["one"]) == ["site-2"]
    assert got["names"]["site-3"]["question"] == 4
    assert got["unknown"]["site-3"].get_return_code() == ReturnCode.TOPIC_UNKNOWN
    assert got["bad"]["site-3"].get_return_code() == ReturnCode.HANDLER_EXCEPTION
    assert got["nobody"]["nobody"].get_return_code() == ReturnCode.COMMUNICATION_ERROR
    assert [(p.site, p.where) for p in run.problems] == [("site-3", "handler of topic bad")]
    assert "ValueError: no answer (test_messages.py:" in run.problems[0].cause


def test_a_site_asks_the_server(tmp_path: Path) -> None:
    got: list[Shareable] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        engine = ctx.get_engine()
        got.extend(
            engine.send_aux_request(topic, question(np.arange(3)), 1.0, ctx) for topic in ("hello", "who", "bad")
        )
        return data

    server = [answers("hello", hello), answers("bad", bad)]
    simulate(make_job([flow(lambda c, s, ctx: ask(c, ctx))], executor(work), server=server), 1, home=tmp_path)
    assert (got[0]["from"], got[0]["peer"], got[0]["topic"]) == ("site-1", "site-1", "hello")
    assert got[0]["question"].tolist() == [0, 1, 2]
    assert got[0].get_peer_prop(ReservedKey.IDENTITY_NAME, None) == "scenario"
    assert [reply.get_return_code() for reply in got] == [
        ReturnCode.OK,
        ReturnCode.TOPIC_UNKNOWN,
        ReturnCode.HANDLER_EXCEPTION,
    ]


def test_messages_are_values_of_their_own(tmp_path: Path) -> None:
    sent = question([1])
    kept: list[Shareable] = []

    def keep(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        kept.append(request)
        request["question"].append(2)
        return request

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        replies = ctx.get_engine().send_aux_request(None, "keep", sent, 1.0, ctx)
        replies["site-1"]["question"].append(3)

    simulate(make_job([flow(once)], Silent, client=[answers("keep", keep)]), 2, home=tmp_path)
    assert sent["question"] == [1]
    assert [request["question"] for request in kept] == [[1, 2], [1, 2]]


def test_a_reply_that_cannot_travel_is_a_handlers_failure(tmp_path: Path) -> None:
    got: dict[str, Shareable] = {}

    def closure(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return question(lambda: 1)

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        got.update(ctx.get_engine().send_aux_request(None, "x", question(1), 1.0, ctx))

    run = simulate(make_job([flow(once)], Silent, client=[answers("x", closure)]), 1, home=tmp_path)
    assert got["site-1"].get_return_code() == ReturnCode.HANDLER_EXCEPTION
    assert "question" in run.problems[0].cause


@pytest.mark.parametrize("topic", ["", "taken"])
def test_a_topic_is_registered_once(tmp_path: Path, topic: str) -> None:
    part = answers(topic, hello)
    run = simulate(
        make_job([flow(lambda c, s, ctx: None)], Silent, server=[answers("taken", hello), part]), 1, home=tmp_path
    )
    assert "ValueError" in run.problems[0].cause


# -- federated events --------------------------------------------------------------------------------------------


def test_an_event_of_a_site_is_heard_there_and_at_the_server(tmp_path: Path) -> None:
    heard: list[tuple[str, str, str, Any]] = []

    def hear(event: str, ctx: FLContext) -> None:
        if event == "fed.progress":
            data = ctx.get_prop(FLContextKey.EVENT_DATA)
            scope = ctx.get_prop(FLContextKey.EVENT_SCOPE)
            heard.append(
                (ctx.get_identity_name(), scope, data.get_peer_prop(ReservedKey.IDENTITY_NAME, "-"), data["loss"])
            )
            data["loss"] = "overwritten"

    class Fires(Silent):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            message = Shareable()
            message["loss"] = 0.5
            self.fire_fed_event("fed.progress", message, ctx)
            return super().execute(name, data, ctx, signal)

    job = make_job([flow(lambda c, s, ctx: ask(c, ctx))], Fires, server=[listener(hear)], client=[listener(hear)])
    run = simulate(job, 2, home=tmp_path)
    assert run.problems == []
    assert [entry[:3] for entry in heard] == [
        ("site-1", EventScope.FEDERATION, "-"),
        ("scenario", EventScope.FEDERATION, "site-1"),
        ("site-2", EventScope.FEDERATION, "-"),
        ("scenario", EventScope.FEDERATION, "site-2"),
    ]


def test_an_event_of_the_server_is_heard_at_its_targets(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    headers: dict[str, Any] = {}

    def hear(event: str, ctx: FLContext) -> None:
        if event.startswith("fed."):
            heard.append((event, ctx.get_identity_name()))
            data = ctx.get_prop(FLContextKey.EVENT_DATA)
            headers.update({key: data.get_header(key) for key in ("_event_type", "_origin", "_direction")})

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        controller.fire_fed_event("fed.all", Shareable(), ctx)
        controller.fire_fed_event("fed.two", Shareable(), ctx, targets=["site-2"])

    job = make_job([flow(once)], Silent, server=[listener(hear)], client=[listener(hear)])
    simulate(job, 3, home=tmp_path)
    assert heard == [
        ("fed.all", "scenario"),
        ("fed.all", "site-1"),
        ("fed.all", "site-2"),
        ("fed.all", "site-3"),
        ("fed.two", "scenario"),
        ("fed.two", "site-2"),
    ]
    assert headers == {"_event_type": "fed.two", "_origin": "scenario", "_direction": "in"}


def test_numbers_of_the_analytics_sender_arrive_in_the_history(tmp_path: Path) -> None:
    class Reports(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            writer = ctx.get_engine().get_component("analytic_sender")
            writer.add_scalar("loss", 1.0 / number_of(ctx))
            for step in range(3):
                writer.add_scalar("step_loss", step / 4, global_step=step)
            writer.add_scalars("scores", {"f1": 0.5, "auc": np.float32(0.75)})
            return super().execute(name, data, ctx, signal)

    part = Reports
    run = simulate(averaging(part, rounds=2), 2, home=tmp_path)
    for kept in (run.history, Run.load(run.folder).history):
        assert kept.series("loss", "site-2") == [(0, 0.5), (1, 0.5)]
        assert kept.series("loss") == [(0, 0.75), (1, 0.75)]
        assert kept.series("scores/auc", "site-1") == [(0, 0.75), (1, 0.75)]
        assert [s.value for s in kept.scalars if s.name == "step_loss" and s.site == "site-1"] == [0, 0.25, 0.5] * 2
    assert run.plot().exists()


# -- public properties -------------------------------------------------------------------------------------------


def test_sticky_public_properties_are_seen_on_the_other_side(tmp_path: Path) -> None:
    seen: list[Any] = []

    def announce(event: str, ctx: FLContext) -> None:
        if event == EventType.START_RUN:
            ctx.set_prop("capacity", {"of": ctx.get_identity_name()}, private=False, sticky=True)
            ctx.set_prop("secret", 1, private=True, sticky=True)
            ctx.set_prop("passing", 1, private=False, sticky=False)
            ctx.set_prop("lock", threading.Lock(), private=False, sticky=True)

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        peer = ctx.get_peer_context()
        assert peer is not None
        seen.append([peer.get_prop(key) for key in ("capacity", "secret", "passing", "lock")])
        return data

    class Looks(Flow):
        def process_task_request(self, client: Client, fl_ctx: FLContext) -> tuple[str, str, Shareable | None]:
            peer = fl_ctx.get_peer_context()
            assert peer is not None
            capacities.add(peer.get_prop("capacity")["of"])
            return super().process_task_request(client, fl_ctx)

        def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
            results = ask(self, fl_ctx)
            capacities.update(result.get_peer_prop("capacity", {})["of"] for result in results.values())

    capacities: set[str] = set()
    job = make_job([Looks], executor(work), server=[listener(announce)], client=[listener(announce)])
    simulate(job, 2, home=tmp_path)
    assert seen == [[{"of": "scenario"}, None, None, None]] * 2
    assert capacities == {"site-1", "site-2"}


def test_what_before_task_sent_sets_reaches_that_site_with_that_task(tmp_path: Path) -> None:
    seen: list[tuple[str, str, Any]] = []

    def before(client_task: ClientTask, fl_ctx: FLContext) -> None:
        value = f"{client_task.task.props['n']} for {client_task.client.name}"
        fl_ctx.set_prop("note", value, private=False, sticky=False)

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        peer = ctx.get_peer_context()
        assert peer is not None
        seen.append((ctx.get_identity_name(), data["n"], peer.get_prop("note")))
        return data

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for n in ("first", "second", "third"):
            data = Shareable()
            data["n"] = n
            callback = None if n == "third" else before
            task = Task("train", data, {"n": n}, before_task_sent_cb=callback)
            controller.broadcast_and_wait(task, ctx, ["site-1", "site-2"], 2, 0, signal)

    simulate(make_job([flow(rounds)], executor(work)), 2, home=tmp_path)
    assert seen == [
        ("site-1", "first", "first for site-1"),
        ("site-2", "first", "first for site-2"),
        ("site-1", "second", "second for site-1"),
        ("site-2", "second", "second for site-2"),
        ("site-1", "third", None),
        ("site-2", "third", None),
    ]


def test_task_data_may_be_replaced_for_one_site(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def before(client_task: ClientTask, fl_ctx: FLContext) -> None:
        data = Shareable()
        data["for"] = client_task.client.name
        client_task.task.data = data

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        seen[ctx.get_identity_name()] = data["for"]
        return make_reply(ReturnCode.OK)

    job = make_job([flow(lambda c, s, ctx: ask(c, ctx, before_task_sent_cb=before))], executor(work))
    run = simulate(job, 3, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert seen == {f"site-{n}": f"site-{n}" for n in (1, 2, 3)}
