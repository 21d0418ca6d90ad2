"""Sessions over real mutual TLS: joining, both ways, cuts, silence, second programs, versions, stopping."""

from __future__ import annotations

import random
from typing import Any

import grpc
import pytest

from hansa.errors import ConfigError, EncodeError
from hansa.faults.tcp_proxy import Faults, TcpProxy
from hansa.provision.identity import Role
from hansa.wire import federation_pb2 as pb
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.net_client import pause_s
from hansa.wire.net_options import MAX_FRAME_BYTES, PROTOCOL, NetLimits
from network import Network, Watch, bare_server, dialled, hello, logged, play, read, session_call, tls

QUICK = NetLimits(heartbeat_s=0.1, lost_after_s=0.5)
MB = 1 << 20


# -- frames ------------------------------------------------------------------------------------------------------------


def test_frames_go_both_ways_whole_and_in_order() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = await net.joined("site-1")
            sent = [
                Frame(
                    "all",
                    "0001-job",
                    {"a": [1, None, "ü\n\ud800"], "log": "Ж" * 400_000},
                    (b"", b"\0\xff"),
                    (BlobRef("b", 5, "sha256:00"),),
                ),
                *(Frame("number", "", {"n": number}) for number in range(300)),
            ]
            for each in sent:
                site.client.send(each)
                net.told.sessions["site-1"].send(each)
            await net.told.until(lambda: len(net.told.frames) == len(sent))
            await site.told.until(lambda: len(site.told.frames) == len(sent))
            assert [each for _, each in net.told.frames] == sent == site.told.frames

    play(scenario())


def test_who_a_site_is_says_its_certificate() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            await net.joined("site-1")
            peer = net.told.sessions["site-1"].peer
            assert (peer.project, peer.org, peer.name, peer.role) == ("proj", "org", "site-1", "client")

    play(scenario())


def test_what_was_said_before_the_welcome_arrives_after_it() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = net.site("site-1")
            for number in range(3):
                site.send("early", n=number)
            await net.told.until(lambda: len(net.told.frames) == 3)
            assert [each.head["n"] for _, each in net.told.frames] == [0, 1, 2]

    play(scenario())


@pytest.mark.parametrize("at", ["site", "server"])
def test_a_frame_that_is_too_large_is_refused_where_it_is_sent(at: str) -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = await net.joined("site-1")
            sender = site.client if at == "site" else net.told.sessions["site-1"]
            with pytest.raises(EncodeError, match=r"'relay'.*4194\d* bytes, 4128768 at most.*as a blob"):
                sender.send(Frame("relay", parts=(bytes(4 * MB),)))
            with pytest.raises(EncodeError, match=r"the head of a frame 'relay'.* at most"):
                sender.send(Frame("relay", head={"x": "y" * MB}))
            with pytest.raises(EncodeError, match=r"the head of a frame 'relay'"):
                sender.send(Frame("relay", head={"x": object()}))
            with pytest.raises(EncodeError, match=r"'relay'.*10001 parts"):
                sender.send(Frame("relay", parts=(b"",) * 10_001))
            largest = Frame("large", parts=(bytes(MAX_FRAME_BYTES - 100),))  # the session lives, and takes what fits
            site.client.send(largest)
            net.told.sessions["site-1"].send(largest)
            await net.told.until(lambda: net.told.frames)
            await site.told.until(lambda: site.told.frames)
            assert len(net.told.events) == 1

    play(scenario())


def test_acknowledgements_are_few() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = await net.joined("site-1")
            session = net.told.sessions["site-1"]
            calls = 0

            def count(_: object, frame: Frame) -> None:
                nonlocal calls
                calls += 1
                session.send(Frame("answer", head=frame.head))

            net.told.on_frame = count
            for number in range(100):  # to and fro: every frame takes the acknowledgement of the last one along
                site.send("ask", n=number)
                await site.told.until(lambda number=number: len(site.told.frames) == number + 1)
            await net.told.until(lambda: calls == 100)
            channel = session.channel
            assert channel.unacknowledged_bytes <= 400  # nothing but the last answer

    play(scenario())


# -- the connection ----------------------------------------------------------------------------------------------------


class Most(random.Random):
    """Draws as much as can be drawn."""

    def random(self) -> float:
        return 1.0


def test_a_site_dials_again_within_five_seconds() -> None:
    assert [pause_s(failures, Most()) for failures in range(6)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert pause_s(10_000, Most()) == 5.0
    drawn = [pause_s(20, random.Random(seed)) for seed in range(100)]
    assert 0 <= min(drawn) < 0.5 < 4.5 < max(drawn) < 5  # not all at once


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_loses_nothing_and_doubles_nothing(reset: bool) -> None:
    async def scenario() -> None:
        async with Network.up() as net, TcpProxy(("127.0.0.1", net.port)) as proxy:
            site = await net.joined("site-1", port=proxy.address[1])
            session = net.told.sessions["site-1"]
            total = 200
            for number in range(total):
                site.send("up", n=number)
                session.send(Frame("down", "", {"n": number}))
                if number % 100 == 50:
                    await site.told.until(lambda number=number: len(site.told.frames) > number // 2)
                    await proxy.cut(reset=reset)
            await net.told.until(lambda: len(net.told.frames) >= total)
            await site.told.until(lambda: len(site.told.frames) >= total)
            assert [each.head["n"] for _, each in net.told.frames] == list(range(total))
            assert [each.head["n"] for each in site.told.frames] == list(range(total))
            assert net.told.events.count(("joined", "site-1")) == 1
            assert ("reconnected", "site-1") in net.told.events
            assert not [event for event in net.told.events if event[0] == "left"]
            assert ("connected", True) in site.told.events

    play(scenario())


def test_a_slow_and_long_way_is_no_problem() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            slow = Faults(latency_s=0.2)  # connecting takes 1 to 2 s
            async with TcpProxy(("127.0.0.1", net.port), slow) as proxy:
                site = await net.joined("site-1", port=proxy.address[1])
                site.send("hello")
                await net.told.until(lambda: net.told.frames)
                assert site.told.events == [("connected", False)]
                proxy.faults = Faults()

    play(scenario())


def test_an_idle_session_lives_on_heartbeats() -> None:
    async def scenario() -> None:
        async with Network.up(QUICK) as net, TcpProxy(("127.0.0.1", net.port)) as proxy:
            site = await net.joined("site-1", port=proxy.address[1])
            up, down = proxy.counts.up_bytes, proxy.counts.down_bytes
            await Watch().until_past(0.7)
            assert site.told.events == [("connected", False)]
            assert net.told.events == [("joined", "site-1")]
            for size in (proxy.counts.up_bytes - up, proxy.counts.down_bytes - down):
                assert 200 < size < 4000  # about 7 of them, of less than 100 bytes, and HTTP/2's own

    play(scenario())


def test_both_ends_notice_a_connection_that_is_only_half_there() -> None:
    async def scenario() -> None:
        async with Network.up(QUICK) as net, TcpProxy(("127.0.0.1", net.port)) as proxy:
            site = await net.joined("site-1", port=proxy.address[1])
            other = await net.joined("site-2")
            await proxy.blackhole()
            await net.told.until(lambda: ("disconnected", "site-1") in net.told.events)
            await net.told.until(lambda: ("left", "site-1", "no sign of life for 0.5 s") in net.told.events)
            await site.told.until(lambda: not site.told.is_connected)
            assert site.told.reasons == ["the server has said nothing for too long"]
            assert "site-1" not in net.server.sessions
            await proxy.cut()
            await proxy.lighten()
            await site.told.until(lambda: site.told.is_connected)
            assert site.told.events[-1] == ("connected", False)  # the old session was given up
            assert other.told.events == [("connected", False)]

    play(scenario())


def test_a_site_that_notices_first_takes_its_session_along() -> None:
    async def scenario() -> None:
        patient = NetLimits(heartbeat_s=0.1, lost_after_s=20)
        async with Network.up(patient) as net, TcpProxy(("127.0.0.1", net.port)) as proxy:
            certificate = tls("site-1")
            async with dialled(proxy.address[1], certificate) as channel:
                call = session_call(channel)
                await call.write(hello())
                welcome = (await read(call)).welcome
                await net.told.until(lambda: net.told.sessions)
                await proxy.blackhole()
                async with dialled(net.port, certificate) as second:
                    again = session_call(second)
                    await again.write(hello(session=welcome.session))
                    answer = (await read(again)).welcome
                    assert answer.resumed
                    assert answer.session == welcome.session
                    net.told.sessions["site-1"].send(Frame("news"))
                    assert (await read(again)).frames[0].kind == "news"
                    assert net.told.events == [("joined", "site-1"), ("reconnected", "site-1")]
                    assert net.told.alarms == []
                    again.cancel()
                call.cancel()
            await proxy.lighten()

    play(scenario())


def test_a_site_that_does_not_come_back_is_given_up_once() -> None:
    async def scenario() -> None:
        async with Network.up(QUICK) as net:
            site = await net.joined("site-1")
            site.running.cancel()
            await net.told.until(lambda: len(net.told.events) >= 3)
            assert net.told.events == [
                ("joined", "site-1"),
                ("disconnected", "site-1"),
                ("left", "site-1", "no sign of life for 0.5 s"),
            ]
            assert net.server.sessions == {}

    play(scenario())


def test_a_site_that_reads_nothing_is_given_up_at_the_quota() -> None:
    async def scenario() -> None:
        limits = NetLimits(unacknowledged_bytes=8 * MB)
        async with Network.up(limits) as net, dialled(net.port, tls("site-1")) as channel:
            call = session_call(channel)
            await call.write(hello())
            await read(call)
            await net.told.until(lambda: net.told.sessions)
            session = net.told.sessions["site-1"]
            for _ in range(20):
                session.send(Frame("much", parts=(bytes(MB),)))
            await net.told.until(lambda: ("left", "site-1", "it leaves too much unread") in net.told.events)
            call.cancel()

    play(scenario())


def test_what_waits_for_a_server_that_is_away_has_a_quota_too() -> None:
    async def scenario() -> None:
        async with Network.up() as net, TcpProxy(("127.0.0.1", net.port)) as proxy:
            site = await net.joined("site-1", port=proxy.address[1])
            await proxy.refuse()
            await proxy.cut()
            await site.told.until(lambda: not site.told.is_connected)
            with logged() as lines:
                for number in range(70):
                    site.client.send(Frame("much", head={"n": number}, parts=(bytes(MB),)))
            assert [line for line in lines if "too much waits for the server" in line]
            await proxy.accept()
            await site.told.until(lambda: site.told.is_connected)
            assert site.told.events[-1] == ("connected", False)
            await net.told.until(lambda: net.told.frames)
            assert net.told.frames[0][1].head["n"] > 60  # what was said after the old session was given up

    play(scenario())


def test_a_server_that_was_started_anew_begins_new_sessions() -> None:
    async def scenario() -> None:
        async with Network.up() as first:
            site = await first.joined("site-1")
            port = first.port
            first.sites.clear()
        await site.told.until(lambda: not site.told.is_connected)
        assert site.told.reasons == ["the server has ended the session: the server is being stopped"]
        async with Network.up(port=port, epoch=2) as second:
            second.sites.append(site)
            await second.told.until(lambda: ("joined", "site-1") in second.told.events)

    play(scenario())


# -- who may be there --------------------------------------------------------------------------------------------------


def test_a_second_program_of_an_identity_is_refused_with_one_alarm() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            first = await net.joined("site-1")
            with logged() as lines:
                second = net.site("site-1")
                await second.told.until(lambda: second.told.reasons)
                await net.told.until(lambda: net.told.alarms)
                await Watch().until_past(0.5)  # it tries again and again
            assert len(second.told.reasons) == 1
            assert f"127.0.0.1:{net.port} refuses this site: another program with the" in second.told.reasons[0]
            assert second.told.reasons[0].endswith("identity of site-1 is connected: was its kit copied?")
            assert len(net.told.alarms) == 1
            assert "site-1 is connected; a second one, at ipv4:127.0.0.1, is refused" in net.told.alarms[0]
            assert len([line for line in lines if "is refused" in line]) == 1
            first.send("still here")
            await net.told.until(lambda: net.told.frames)
            await first.stop()  # once the first has gone, the second may come
            await second.told.until(lambda: second.told.is_connected)

    play(scenario())


def test_a_second_program_takes_the_place_where_the_server_says_so() -> None:
    async def scenario() -> None:
        async with Network.up(NetLimits(second_session="supersede")) as net:
            old = net.told.sessions
            async with dialled(net.port, tls("site-1")) as channel:
                first, second = session_call(channel), session_call(channel)
                await first.write(hello(incarnation="a"))
                await read(first)
                await net.told.until(lambda: net.told.sessions)
                stale = old["site-1"]
                await second.write(hello(incarnation="b"))
                assert (await read(second)).HasField("welcome")
                assert (await read(first)).refusal.code == "over"
                assert len(net.told.alarms) == 1
                assert "takes its place" in net.told.alarms[0]
                await net.told.until(lambda: len(net.told.events) == 3)
                assert net.told.events == [
                    ("joined", "site-1"),
                    ("left", "site-1", "its program was started anew"),
                    ("joined", "site-1"),
                ]
                # what the server still says to the old one goes nowhere, and what the old one says is not heard
                stale.send(Frame("lost"))
                net.told.sessions["site-1"].send(Frame("found"))
                assert (await read(second)).frames[0].kind == "found"
                assert await read(first) in (grpc.aio.EOF, grpc.StatusCode.CANCELLED)
                second.cancel()

    play(scenario())


def test_a_program_that_was_started_anew_begins_anew_without_an_alarm() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            first = await net.joined("site-1")
            first.running.cancel()
            await net.told.until(lambda: ("disconnected", "site-1") in net.told.events)
            net.told.events.clear()
            second = await net.joined("site-1")
            assert net.told.events == [("left", "site-1", "its program was started anew"), ("joined", "site-1")]
            assert net.told.alarms == []
            assert second.told.events == [("connected", False)]

    play(scenario())


def test_a_session_that_was_ended_and_one_that_comes_at_once_are_told_in_order() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = await net.joined("site-1")
            net.told.sessions["site-1"].close("enough")
            await net.told.until(lambda: net.told.events.count(("joined", "site-1")) == 2)
            assert net.told.events == [("joined", "site-1"), ("left", "site-1", "enough"), ("joined", "site-1")]
            assert site.told.reasons == ["the server has ended the session: enough"]

    play(scenario())


@pytest.mark.parametrize("theirs", [PROTOCOL - 1, PROTOCOL, PROTOCOL + 1])
def test_neighbouring_versions_understand_each_other(theirs: int) -> None:
    async def scenario() -> None:
        async with Network.up() as net, dialled(net.port, tls("site-1")) as channel:
            call = session_call(channel)
            await call.write(hello(protocol=theirs))
            assert (await read(call)).welcome.protocol == PROTOCOL
            call.cancel()

    play(scenario())


def test_other_versions_are_refused_and_both_are_named() -> None:
    async def scenario() -> None:
        async with Network.up() as net, dialled(net.port, tls("site-1")) as channel:
            for theirs, older in ((PROTOCOL + 2, "the server"), (PROTOCOL + 700, "the server")):
                call = session_call(channel)
                await call.write(hello(protocol=theirs, software="hansa 9.9"))
                refusal = (await read(call)).refusal
                assert refusal.code == "version"
                assert f"protocol {PROTOCOL} (hansa 0.1" in refusal.text
                assert f"the site protocol {theirs} (hansa 9.9)" in refusal.text
                assert refusal.text.endswith(f"upgrade {older}")

    play(scenario())


@pytest.mark.parametrize("answer", ["refused", "welcomed"])
def test_a_site_that_meets_another_version_ends_with_one_line(answer: str) -> None:
    async def scenario() -> None:
        async def session(_: object, context: Any) -> None:
            await context.read()
            if answer == "refused":
                await context.write(pb.Down(refusal=pb.Refusal(code="version", text="upgrade the site")))
            else:
                await context.write(pb.Down(welcome=pb.Welcome(protocol=PROTOCOL + 2, software="hansa 9.9")))

        async with bare_server(session) as net:
            site = net.site("site-1")
            expected = "upgrade the site" if answer == "refused" else rf"this site speaks.*{PROTOCOL + 2} \(hansa 9.9\)"
            with pytest.raises(ConfigError, match=expected):
                await site.running

    play(scenario())


def test_an_admin_has_no_session_and_a_site_of_another_project_none_here() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            stranger = tls("site-1", project="other", issued_by="proj")
            for certificate, what in (
                (tls("a@b", Role.ADMIN), "a@b has the role admin"),
                (stranger, "of project 'other'"),
            ):
                site = net.site("x", certificate=certificate)
                with pytest.raises(ConfigError, match=what):
                    await site.running
            assert net.told.events == []

    play(scenario())


# -- many --------------------------------------------------------------------------------------------------------------


def test_fifty_idle_sites_take_no_threads_and_little_time() -> None:
    import threading
    import time

    async def scenario() -> None:
        async with Network.up(NetLimits(heartbeat_s=0.25, lost_after_s=10)) as net:
            await net.joined("site-0")
            threads = threading.active_count()
            for site in [net.site(f"site-{number}") for number in range(1, 50)]:
                await site.told.until(lambda site=site: site.told.is_connected)
            began, cpu = time.monotonic(), time.process_time()
            await Watch().until_past(0.5)
            share = (time.process_time() - cpu) / (time.monotonic() - began)
            assert threading.active_count() <= threads
            assert len(net.server.sessions) == 50
            # 400 heartbeats a second, both ends in this process: a fiftieth of it would be a site's 20 times as rare
            assert share < 0.8
            net.told.sessions["site-49"].send(Frame("still there"))
            await net.sites[49].told.until(lambda: net.sites[49].told.frames)

    play(scenario(), 30)
