from __future__ import annotations

import re
from typing import Any

import pytest

from hansa.apis.client import Client
from hansa.apis.controller_spec import ControllerSpec, Task
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from unit.apis.drill import Drill

ALL = [
    "broadcast",
    "broadcast_and_wait",
    "broadcast_forever",
    "send",
    "send_and_wait",
    "relay",
    "relay_and_wait",
]
BROADCASTS, SENDS, RELAYS = ALL[:2], ALL[3:5], ALL[5:]


def begins(text: str) -> str:
    return "^" + re.escape(text)


def refused(
    kind: type[Exception], text: str, method: str, *, task: object = None, ctx: object = None, **more: Any
) -> None:
    """The method refuses, and takes the same task afterwards."""
    drill = Drill()
    own = drill.task(timeout=2)
    call = getattr(drill.workflow, method)
    if method in SENDS:
        more.setdefault("targets", ["a"])
    with pytest.raises(kind, match=begins(text)):
        call(own if task is None else task, drill.ctx if ctx is None else ctx, **more)
    assert drill.standing == 0
    drill.workflow.broadcast(own, drill.ctx)  # untouched by the refusal
    assert drill.standing == 1


@pytest.mark.parametrize("method", ALL)
def test_types(method: str) -> None:
    refused(TypeError, "task must be an instance of Task", method, task="x")
    refused(TypeError, "fl_ctx must be an instance of FLContext", method, ctx="x")
    for targets in ("ab", ("a",), [1], ["a", None], {"a": 1}):
        refused(TypeError, "targets must be a list of Client or string", method, targets=targets)


@pytest.mark.parametrize(
    ("methods", "name"),
    [
        (BROADCASTS, "min_responses"),
        (BROADCASTS, "wait_time_after_min_received"),
        (SENDS + RELAYS, "task_assignment_timeout"),
        (RELAYS, "task_result_timeout"),
    ],
)
def test_counts(methods: list[str], name: str) -> None:
    for method in methods:
        for value in (1.0, "1", None):
            refused(TypeError, f"{name} must be an instance of int", method, **{name: value})
        refused(ValueError, f"{name} must >= 0.", method, **{name: -1})


def test_a_bool_passes_as_a_count() -> None:
    drill = Drill()
    drill.workflow.broadcast(drill.task(), drill.ctx, min_responses=True)
    assert drill.standing == 1


@pytest.mark.parametrize("method", BROADCASTS)
def test_min_responses_above_the_targets(method: str) -> None:
    refused(ValueError, "min_responses (3)", method, targets=["a", "b"], min_responses=3)


@pytest.mark.parametrize(
    ("methods", "name"), [(SENDS + RELAYS, "task_assignment_timeout"), (RELAYS, "task_result_timeout")]
)
def test_timeouts_above_the_tasks_own(methods: list[str], name: str) -> None:
    for method in methods:
        text = f"{name} (3) needs to be less than or equal to task.timeout (2)."
        refused(ValueError, text, method, **{name: 3})
    drill = Drill()
    drill.workflow.send(drill.task(timeout=0), drill.ctx, targets=["a"], task_assignment_timeout=3)


@pytest.mark.parametrize("method", SENDS + RELAYS)
def test_send_order(method: str) -> None:
    refused(TypeError, "send_order must be in Enum SendOrder", method, send_order="any")


@pytest.mark.parametrize("method", SENDS)
@pytest.mark.parametrize("targets", [None, []])
def test_send_needs_targets(method: str, targets: list[str] | None) -> None:
    refused(ValueError, "Targets must be provided for send", method, targets=targets)


@pytest.mark.parametrize("method", RELAYS)
def test_dynamic_targets(method: str) -> None:
    refused(TypeError, "dynamic_targets must be an instance of bool", method, dynamic_targets=1)
    text = "Need to provide targets when dynamic_targets is set to False."
    refused(ValueError, text, method, dynamic_targets=False)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("first", ["broadcast", "send", "relay", "broadcast_forever"])
def test_a_task_is_scheduled_once(method: str, first: str) -> None:
    drill = Drill()
    task = drill.task()
    getattr(drill.workflow, first)(task, drill.ctx, targets=["a"])
    text = "Task was already used. Please create a new task object."
    for _ in range(2):
        with pytest.raises(ValueError, match=begins(text)):
            getattr(drill.workflow, method)(task, drill.ctx, targets=["a"])
        drill.workflow.cancel_task(task)
        drill.workflow._check_tasks()  # also when it is over


def test_what_is_checked_first() -> None:
    drill = Drill()
    call: Any = drill.workflow.relay
    with pytest.raises(TypeError, match="^task must"):
        call("x", "y")
    with pytest.raises(TypeError, match="^targets"):
        call(drill.task(), drill.ctx, targets=1, task_assignment_timeout=-1)
    with pytest.raises(ValueError, match="^task_assignment_timeout"):
        call(drill.task(), drill.ctx, task_assignment_timeout=-1, send_order="x")
    with pytest.raises(TypeError, match="^send_order"):
        call(drill.task(), drill.ctx, send_order="x", dynamic_targets=None)


def test_requests_and_submissions() -> None:
    drill = Drill()
    request: Any = drill.workflow.process_task_request
    submit: Any = drill.workflow.process_submission
    site, ctx = Client("a", ""), FLContext()
    with pytest.raises(TypeError, match="^client must be an instance of Client"):
        request("a", ctx)
    with pytest.raises(TypeError, match="^fl_ctx must be an instance of FLContext"):
        request(site, None)
    with pytest.raises(TypeError, match="^client must be an instance of Client"):
        submit("a", "train", "id", Shareable(), ctx)
    with pytest.raises(TypeError, match="^fl_ctx must be an instance of FLContext"):
        submit(site, "train", "id", Shareable(), None)
    with pytest.raises(TypeError, match="^result must be an instance of Shareable"):
        submit(site, "train", "id", {}, ctx)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"name": 1}, TypeError, "name must be str"),
        ({"data": {}}, TypeError, "data must be"),
        ({"props": []}, TypeError, "props must be"),
        ({"timeout": 1.0}, TypeError, "timeout must be an int, but got <class 'float'>."),
        ({"timeout": -1}, ValueError, "timeout must be >= 0, but got -1."),
        ({"before_task_sent_cb": 1}, TypeError, "before_task_sent must be a callable function"),
        ({"after_task_sent_cb": 1}, TypeError, "after_task_sent_cb must be a callable function"),
        ({"result_received_cb": 1}, TypeError, "result_received must be a callable function"),
        ({"task_done_cb": 1}, TypeError, "task_done must be a callable function"),
    ],
)
def test_task_refuses(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=begins(text)):
        Task(**{"name": "train", "data": Shareable(), **arguments})


def test_task_props_are_the_callers_own() -> None:
    props = {"a": 1}
    task = Task("train", Shareable(), props)
    task.set_prop("b", 2)
    assert (task.props, task.get_prop("b"), task.get_prop("c")) == (props, 2, None)
    assert task.props is props
    for call in (lambda: task.set_prop("__x", 1), lambda: task.get_prop("__x")):
        with pytest.raises(ValueError, match="^Keys start with __ is reserved. Please use other key"):
            call()


def test_the_spec_alone_does_nothing() -> None:
    class Plain(ControllerSpec):
        def start_controller(self, fl_ctx: FLContext) -> None: ...
        def stop_controller(self, fl_ctx: FLContext) -> None: ...
        def process_result_of_unknown_task(self, *_: Any) -> None: ...

    spec, task, ctx = Plain(), Task("t", Shareable()), FLContext()
    calls: list[Any] = [
        lambda: spec.broadcast(task, ctx),
        lambda: spec.relay_and_wait(task, ctx, abort_signal=Signal()),
        spec.get_num_standing_tasks,
    ]
    for call in calls:
        with pytest.raises(NotImplementedError):
            call()
