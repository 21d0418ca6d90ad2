"""Stopping takes less than a second, whatever the other end does or does not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hansa.faults.tcp_proxy import TcpProxy
from network import Network, Watch, play


@contextmanager
def quick(seconds: float) -> Iterator[None]:
    """What is inside must not take longer; generous, since the machine may be busy."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    yield
    assert loop.time() - began < seconds


def test_stop_brings_what_was_said_and_is_quick() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = await net.joined("site-1")
            site.send("leaving")
            with quick(1):
                await site.stop()
            await net.told.until(lambda: net.told.frames)

    play(scenario())


@pytest.mark.parametrize("state", ["gone", "silent", "never there", "unknown name", "hello unanswered", "leaving"])
def test_stop_is_quick_whatever_the_server_does(state: str) -> None:
    async def scenario() -> None:
        async with Network.up() as net, TcpProxy(("127.0.0.1", net.port)) as proxy:
            if state in ("gone", "silent"):
                site = await net.joined("site-1", port=proxy.address[1])
                if state == "gone":
                    await proxy.refuse()
                    await proxy.cut()
                    await site.told.until(lambda: not site.told.is_connected)
                else:
                    await proxy.blackhole()
            elif state == "leaving":
                net.told.on_frame = lambda session, frame: session.close("it has left")
                site = await net.joined("site-1")
            else:
                if state == "never there":
                    await proxy.refuse()
                else:
                    await proxy.blackhole()
                site = net.site("site-1", port=proxy.address[1])
                await Watch().until_past(0.2)
            site.send("last words")
            with quick(1):
                await site.stop()
            await proxy.lighten()

    play(scenario())


def test_a_run_that_is_cancelled_ends_at_once() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            site = await net.joined("site-1")
            with quick(1), pytest.raises(asyncio.CancelledError):
                site.running.cancel()
                await site.running

    play(scenario())


def test_the_server_stops_quickly_with_sites_connected() -> None:
    async def scenario() -> None:
        async with Network.up() as net:
            sites = [await net.joined(f"site-{number}") for number in range(3)]
            with quick(1):
                await net.server.stop(0.5)
            for site in sites:
                await site.told.until(lambda site=site: not site.told.is_connected)

    play(scenario())
