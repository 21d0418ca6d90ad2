"""The small contracts: executors, filters, engines, validators, clients, widgets, exceptions."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hansa.apis.app_validation import AppValidator
from hansa.apis.aux_spec import MessageSendStatus, aux_request_handle_func_signature
from hansa.apis.client import Client
from hansa.apis.client_engine_spec import ClientEngineSpec, TaskAssignment
from hansa.apis.executor import Executor
from hansa.apis.filter import Filter
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.fl_exception import FLCommunicationError, WorkflowError
from hansa.apis.server_engine_spec import ServerEngineSpec
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.apis.widget import Widget, WidgetID


@pytest.mark.parametrize("contract", [Executor, Filter, AppValidator, ServerEngineSpec])
def test_contracts_cannot_be_made(contract: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        contract()


def test_an_executor_is_a_component_that_may_write_into_its_input() -> None:
    class Echo(Executor):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            return data

    data = Shareable()
    assert Echo().execute("train", data, FLContext(), Signal()) is data
    assert isinstance(Echo(), FLComponent)
    assert Echo.writes_input is True


def test_fire_and_forget_waits_for_no_reply() -> None:
    sent: list[tuple[Any, ...]] = []

    class SiteEngine(ClientEngineSpec):
        def send_aux_request(self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext) -> Shareable:
            sent.append((topic, request, timeout, fl_ctx))
            return make_reply("OK")

    request, ctx = Shareable(), FLContext()
    assert SiteEngine().fire_and_forget_aux_request("topic", request, ctx) == make_reply("OK")
    assert sent == [("topic", request, 0.0, ctx)]


def test_an_engine_may_offer_only_some_services() -> None:
    with pytest.raises(NotImplementedError):
        ClientEngineSpec().get_workspace()


def test_client() -> None:
    client = Client("site-1", "token")
    client.set_token("other")
    client.set_prop("a", 1)

    assert client.name == "site-1"
    assert client.token == client.get_token() == "other"
    assert client.props == {"a": 1}
    assert client.get_prop("a") == 1
    assert client.get_prop("b") is None
    assert client.get_prop("b", 2) == 2
    assert client.last_connect_time > 0


def test_task_assignment() -> None:
    data = Shareable()
    task = TaskAssignment("train", "7", data)

    assert (task.name, task.task_id) == ("train", "7")
    assert task.data is data


def test_widgets_are_components_and_their_ids_text() -> None:
    assert isinstance(Widget(), FLComponent)
    assert {"info_collector": 1}[WidgetID.INFO_COLLECTOR] == 1  # usable wherever the text is


def test_exceptions() -> None:
    cause = OSError("no route")

    assert FLCommunicationError(cause).exception is cause
    assert str(FLCommunicationError(cause)) == "no route"
    assert str(WorkflowError("stop")) == "stop"


def test_the_form_of_an_aux_handler() -> None:
    assert MessageSendStatus.REPLY_ERROR.value == "reply_error"
    with pytest.raises(NotImplementedError):
        aux_request_handle_func_signature(topic="t", request=Shareable(), fl_ctx=FLContext())


def test_the_words_need_no_numpy_and_no_wire() -> None:
    program = (
        "import sys; from hansa.apis import executor, filter, dxo, widget, client_engine_spec, server_engine_spec;"
        "print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'torch') or m.startswith('hansa.wire')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
