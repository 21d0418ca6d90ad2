"""Records and federated events, from a site's sender to the server's history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa.apis.analytix import AnalyticsData, AnalyticsDataType
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import EventScope, FedEventHeader, FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.widgets.convert_to_fed_event import ConvertToFedEvent
from hansa.components.widgets.fed_event import ClientFedEventRunner, ServerFedEventRunner
from hansa.components.widgets.history_receiver import HistoryReceiver
from hansa.components.widgets.streaming import (
    AnalyticsReceiver,
    AnalyticsSender,
    create_analytic_dxo,
    send_analytic_dxo,
)
from sides import Listener, ServerSide, Side

LOCAL = AppEventType.ANALYTIC_EVENT_TYPE
FED = "fed.analytix_log_stats"


class Keeper(AnalyticsReceiver):
    """Keeps records as (tag, value, kwargs, origin)."""

    def __init__(self, events: list[str] | None = None) -> None:
        super().__init__(events)
        self.kept: list[tuple[Any, ...]] = []
        self.steps: list[str] = []

    def initialize(self, fl_ctx: FLContext) -> None:
        self.steps.append("initialize")

    def save(self, fl_ctx: FLContext, shareable: Shareable, record_origin: str) -> None:
        record = AnalyticsData.from_dxo(from_shareable(shareable))
        self.kept.append((record.tag, record.value, record.kwargs, record_origin))

    def finalize(self, fl_ctx: FLContext) -> None:
        self.steps.append("finalize")


def federation(*server_parts: FLComponent) -> tuple[AnalyticsSender, ServerSide, Side, list[Keeper]]:
    sender, at_site, at_server = AnalyticsSender(), Keeper(), Keeper()
    site = Side("site-1", [at_site, sender, ConvertToFedEvent([LOCAL]), ClientFedEventRunner()])
    server = ServerSide([at_server, *server_parts, ServerFedEventRunner()])
    site.others, server.others = [server], [site]
    for side in (server, site):
        side.fire(EventType.START_RUN)
    return sender, server, site, [at_site, at_server]


def test_a_record_reaches_receivers_here_and_at_the_server_once_each() -> None:
    sender, _, _, (at_site, at_server) = federation()
    sender.add_scalar("loss", 0.5, global_step=0)
    # step 0 is a step
    assert at_site.kept == [("loss", 0.5, {"global_step": 0}, "site-1")]
    assert at_server.kept == [("loss", 0.5, {"global_step": 0}, "site-1")]


@pytest.mark.parametrize("number", [1, np.float32(1), np.int64(1), np.array(1.0)])
def test_what_is_a_number_is_a_scalar(number: Any) -> None:
    sender, _, _, (at_site, _) = federation()
    sender.add_scalar("loss", number)
    tag, value, kwargs, origin = at_site.kept[0]
    assert (tag, type(value), value, kwargs, origin) == ("loss", float, 1.0, {}, "site-1")


def test_texts_dicts_and_images() -> None:
    sender, _, _, (_, at_server) = federation()
    sender.add_text("note", "hello", global_step=1)
    sender.add_scalars("both", {"a": 1.0, "b": 2.0}, 2, walltime=3)
    sender.add_image("picture", np.zeros((2, 2)), dataformats="HW")
    sender.flush()
    sender.close()
    assert [(tag, kwargs) for tag, _, kwargs, _ in at_server.kept] == [
        ("note", {"global_step": 1}),
        ("both", {"walltime": 3, "global_step": 2}),
        ("picture", {"dataformats": "HW"}),
    ]


def test_what_is_no_record_is_refused() -> None:
    sender, _, _, (at_site, _) = federation()
    with pytest.raises(TypeError, match="global_step"):
        sender.add_scalar("loss", 1.0, global_step=1.5)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="expect value to be"):
        sender.add_scalar("loss", "low")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="expect value to be"):
        create_analytic_dxo("loss", 1, AnalyticsDataType.SCALAR)
    with pytest.raises(RuntimeError, match="before START_RUN"):
        AnalyticsSender().add_scalar("loss", 1.0)
    assert at_site.kept == []


def test_send_analytic_dxo_checks_its_arguments_in_order_and_fires_locally() -> None:
    dxo = DXO(DataKind.ANALYTIC, {"a": 1.0})
    for arguments, name in (
        (("comp", "dxo", "fl_ctx"), "comp to be an instance of FLComponent, but got <class 'str'>"),
        ((FLComponent(), "dxo", "fl_ctx"), "dxo to be an instance of DXO"),
        ((FLComponent(), dxo, "fl_ctx"), "fl_ctx to be an instance of FLContext"),
    ):
        with pytest.raises(TypeError, match=f"expect {name}"):
            send_analytic_dxo(*arguments)  # type: ignore[arg-type]  # the point of the test
    listener = Listener()
    side = Side("site-1", [listener])
    send_analytic_dxo(listener, dxo, side.new_context())
    event, data, scope, _ = listener.heard[0]
    assert (event, from_shareable(data).data, scope) == (LOCAL, {"a": 1.0}, EventScope.LOCAL)


def test_a_receiver_starts_ends_and_drops_what_comes_later(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(["mine"])
    side = Side("site-1", [keeper])
    data = create_analytic_dxo("a", 1.0, AnalyticsDataType.SCALAR).to_shareable()
    side.fire(EventType.START_RUN)
    side.fire("mine", **{FLContextKey.EVENT_DATA: data})
    side.fire(LOCAL, **{FLContextKey.EVENT_DATA: data})
    side.fire("mine", **{FLContextKey.EVENT_DATA: "no Shareable"})
    side.fire(EventType.END_RUN)
    side.fire("mine", **{FLContextKey.EVENT_DATA: data})
    assert keeper.steps == ["initialize", "finalize"]
    assert keeper.kept == [("a", 1.0, {}, "site-1")]
    assert "event mine has a str as its data" in caplog.text


class TestFedEvents:
    def test_an_event_is_fired_here_then_there_with_its_headers(self) -> None:
        listener = Listener()
        _, _, site, _ = federation(listener)
        data = Shareable()
        data["x"] = 1
        FLComponent().fire_fed_event("fed.mine", data, site.new_context())
        event, arrived, scope, _ = listener.heard[-1]
        assert (event, arrived["x"], scope) == ("fed.mine", 1, EventScope.FEDERATION)
        assert arrived is not data
        assert arrived.get_header(FedEventHeader.EVENT_TYPE) == "fed.mine"
        assert arrived.get_header(FedEventHeader.ORIGIN) == "site-1"
        assert arrived.get_header(FedEventHeader.DIRECTION) == "in"
        assert site.fired.count("fed.mine") == 1

    def test_the_server_sends_to_all_or_to_some(self) -> None:
        server = ServerSide([ServerFedEventRunner()])
        sites = [Side(name, [ClientFedEventRunner()]) for name in ("site-1", "site-2")]
        server.others = list(sites)
        for side in (server, *sites):
            side.fire(EventType.START_RUN)
        FLComponent().fire_fed_event("fed.all", Shareable(), server.new_context())
        FLComponent().fire_fed_event("fed.one", Shareable(), server.new_context(), targets=["site-2"])
        assert [event for event in sites[0].fired if event.startswith("fed.")] == ["fed.all"]
        assert [event for event in sites[1].fired if event.startswith("fed.")] == ["fed.all", "fed.one"]

    def test_local_events_and_what_is_no_shareable_stay_here(self, caplog: pytest.LogCaptureFixture) -> None:
        _, server, site, _ = federation()
        before = list(server.fired)
        site.fire("mine", **{FLContextKey.EVENT_DATA: Shareable()})
        site.fire(LOCAL, **{FLContextKey.EVENT_DATA: "text"})
        fed = {FLContextKey.EVENT_DATA: "text", FLContextKey.EVENT_SCOPE: EventScope.FEDERATION}
        site.fire("fed.odd", **fed)
        assert server.fired == before
        assert "cannot be sent: its data must be a Shareable" in caplog.text
        assert "event fed.odd has a str as its data" in caplog.text

    def test_a_message_without_an_event_is_answered_as_bad_and_one_after_the_end_is_dropped(self) -> None:
        runner = ServerFedEventRunner()
        server = ServerSide([runner])
        server.fire(EventType.START_RUN)
        handle = server.aux["fed.event"]
        assert handle(topic="fed.event", request=Shareable(), fl_ctx=server.new_context()).get_return_code() == (
            ReturnCode.BAD_REQUEST_DATA
        )
        server.fire(EventType.END_RUN)
        request = Shareable()
        request.set_header(FedEventHeader.EVENT_TYPE, "fed.late")
        handle(topic="fed.event", request=request, fl_ctx=server.new_context())
        assert "fed.late" not in server.fired

    @pytest.mark.parametrize("events", ["one", [1], None])
    def test_events_to_convert_are_a_list_of_names(self, events: Any) -> None:
        with pytest.raises(TypeError, match="events_to_convert"):
            ConvertToFedEvent(events)


class TestHistoryReceiver:
    def test_scalars_are_kept_by_round_site_and_step(self) -> None:
        sender, server, _, _ = federation(HistoryReceiver())
        sender.add_scalar("before", 1.0)
        server.fire(AppEventType.ROUND_STARTED, **{AppConstants.CURRENT_ROUND: 4})
        sender.add_scalar("loss", 0.5, global_step=0)
        sender.add_scalars("both", {"a": np.float32(1), "b": 2, "c": "no number"})
        sender.add_text("note", "hello")
        assert server.history.calls == [
            ("scalar", None, "site-1", "before", 1.0, None),
            ("scalar", 4, "site-1", "loss", 0.5, 0),
            ("scalar", 4, "site-1", "both/a", 1.0, None),
            ("scalar", 4, "site-1", "both/b", 2.0, None),
        ]

    def test_the_servers_own_numbers_are_the_servers(self) -> None:
        _, server, _, _ = federation(HistoryReceiver())
        data = create_analytic_dxo("accuracy", 0.9, AnalyticsDataType.SCALAR).to_shareable()
        server.fire(LOCAL, **{FLContextKey.EVENT_DATA: data, AppConstants.CURRENT_ROUND: 2})
        assert server.history.calls == [("scalar", 2, "server", "accuracy", 0.9, None)]

    def test_without_a_history_nothing_happens(self) -> None:
        side = Side("site-1", [HistoryReceiver()])
        side.fire(EventType.START_RUN)
        data = create_analytic_dxo("a", 0.9, AnalyticsDataType.SCALAR).to_shareable()
        side.fire(LOCAL, **{FLContextKey.EVENT_DATA: data})
