"""A TCP proxy with faults: latency, a rate limit, cuts, resets, silence, tiny pieces, a flipped bit, refusals.

    async with TcpProxy(("127.0.0.1", 8002), Faults(latency_s=0.05)) as proxy:
        ...  # connect to proxy.address
        await proxy.cut(reset=True)

    python -m hansa.faults.tcp_proxy --listen 10.0.0.1:8002 --to 10.1.0.2:8002 --cut-every 2:3 --seed 7

What is random comes from the seed and the connection's number, so that a run can be had again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

Address = tuple[str, int]

_READ_BYTES = 65536
_MOST_PIECES = 64
"""How many pieces are under way in a direction, so that latency costs no bandwidth."""
_DIAL_S = 5.0
_NO_LINGER = struct.pack("ii", 1, 0)


class Way(Enum):
    """A direction."""

    UP = "up"
    """From whoever dialled to the target."""
    DOWN = "down"
    """Back."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes:
        latency_s: How much later a byte arrives.
        jitter_s: Up to how much later still; bytes keep their order.
        bytes_per_s: The most that passes, per connection and direction.
        slice_bytes: Into pieces of at most how many bytes everything is cut up.
        corrupt_at: In which byte of a connection, from 0, one bit is flipped.
        cut_after_bytes: After how many bytes of a connection it is cut.
        cut_every_s: After how long, from and to, all connections are cut, again and again.
        idle_s: After how long without a byte a connection is cut.
        reset: Cut with RST; without it both ends see an orderly end.
        ways: The directions that have all this; times without a byte count both.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    corrupt_at: int | None = None
    cut_after_bytes: int | None = None
    cut_every_s: tuple[float, float] | None = None
    idle_s: float | None = None
    reset: bool = False
    ways: frozenset[Way] = frozenset(Way)


NO_FAULTS = Faults()


@dataclass
class Counts:
    """What a proxy has seen so far.

    Attributes:
        accepted: Connections that were dialled.
        failed: Those for which the target could not be dialled.
        cut: Those that the proxy has cut.
        up_bytes: Bytes that were passed on to the target.
        down_bytes: Bytes that were passed back.
    """

    accepted: int = 0
    failed: int = 0
    cut: int = 0
    up_bytes: int = 0
    down_bytes: int = 0


async def _wait_until(when: float) -> None:
    loop = asyncio.get_running_loop()
    due = loop.create_future()
    timer = loop.call_at(when, due.set_result, None)
    try:
        await due
    finally:
        timer.cancel()


class _Stream:
    """One direction of a connection.

    Args:
        way: Which.
        pair: The connection that it belongs to.
        source: Where it reads.
        sink: Where it writes.
    """

    def __init__(self, way: Way, pair: _Pair, *, source: socket.socket, sink: socket.socket) -> None:
        self._way = way
        self._pair = pair
        self._source = source
        self._sink = sink
        self._random = random.Random(f"{pair.seed} {way.value}")
        self._passed = 0
        self._free_at = 0.0
        self._under_way: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(_MOST_PIECES)
        self._loop = asyncio.get_running_loop()

    @property
    def _faults(self) -> Faults:
        faults = self._pair.proxy.faults
        return faults if self._way in faults.ways else replace(NO_FAULTS, reset=faults.reset)

    async def read(self) -> None:
        """Take what comes, until the end: an empty piece for an orderly one, None for a reset."""
        arrives = 0.0
        while True:
            data: bytes | None = None
            with suppress(OSError):
                data = await self._loop.sock_recv(self._source, _READ_BYTES)
            faults = self._faults
            late = faults.latency_s + faults.jitter_s * self._random.random()
            arrives = max(arrives, self._loop.time() + late)
            await self._under_way.put((arrives, data))
            self._pair.stirs()
            if not data:
                return

    async def write(self) -> None:
        """Pass it on; an end that is gone takes the other with it."""
        while True:
            due, data = await self._under_way.get()
            if due > self._loop.time():
                await _wait_until(due)
            await self._pair.proxy.open.wait()
            try:
                if data:
                    await self._pass(data)
                elif data is not None:
                    self._sink.shutdown(socket.SHUT_WR)
                    return
                else:
                    self._pair.cut(reset=True)
            except OSError:  # nobody reads there any more
                self._pair.cut(reset=True)

    async def _pass(self, data: bytes) -> None:
        view = memoryview(self._corrupted(data))
        while view:
            faults = self._faults
            size = len(view)
            if faults.slice_bytes:
                size = min(size, faults.slice_bytes)
            if faults.bytes_per_s:
                size = min(size, max(1, int(faults.bytes_per_s / 20)))  # 20 pieces a second, not one gulp
                self._free_at = max(self._free_at, self._loop.time()) + size / faults.bytes_per_s
                await _wait_until(self._free_at)
                await self._pair.proxy.open.wait()
            if faults.cut_after_bytes is not None:
                size = min(size, faults.cut_after_bytes - self._passed)
            if size > 0:
                await self._loop.sock_sendall(self._sink, view[:size])
                self._account(size)
                view = view[size:]
            if faults.cut_after_bytes is not None and self._passed >= faults.cut_after_bytes:
                self._pair.cut(counted=True)
                await self._loop.create_future()  # until the cut cancels this

    def _account(self, size: int) -> None:
        self._passed += size
        counts = self._pair.proxy.counts
        if self._way is Way.UP:
            counts.up_bytes += size
        else:
            counts.down_bytes += size

    def _corrupted(self, data: bytes) -> bytes:
        at = self._faults.corrupt_at
        if at is None or not self._passed <= at < self._passed + len(data):
            return data
        spoiled = bytearray(data)
        # Not from `_random`: how often that is drawn from depends on the pieces in which bytes happen to come.
        bit = random.Random(f"{self._pair.seed} {self._way.value} {at}").randrange(8)
        spoiled[at - self._passed] ^= 1 << bit
        return bytes(spoiled)


class _Pair:
    """A connection that was dialled, and the one from here to the target."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, seed: str) -> None:
        self.proxy = proxy
        self.seed = seed
        self._sockets = [client]
        self._idle: asyncio.TimerHandle | None = None
        self._reset = False
        self.task = asyncio.get_running_loop().create_task(self._run(client))
        self.task.add_done_callback(self._close)

    async def _run(self, client: socket.socket) -> None:
        await self.proxy.open.wait()  # nobody answers out of the dark
        server = await self._dial()
        if server is not None:
            self.stirs()
            await self._pump(client, server)

    async def _dial(self) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        host, port = self.proxy.target
        server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._sockets.append(server)
        server.setblocking(False)
        try:
            await asyncio.wait_for(loop.sock_connect(server, (host, port)), _DIAL_S)
        except (OSError, TimeoutError):
            self.proxy.counts.failed += 1
            self._reset = True
            return None
        return server

    async def _pump(self, client: socket.socket, server: socket.socket) -> None:
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up = _Stream(Way.UP, self, source=client, sink=server)
        down = _Stream(Way.DOWN, self, source=server, sink=client)
        async with asyncio.TaskGroup() as group:
            for work in (up.read(), up.write(), down.read(), down.write()):
                group.create_task(work)

    def stirs(self) -> None:
        """A byte has come: count the time without one anew."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if (idle_s := self.proxy.faults.idle_s) is not None:
            self._idle = asyncio.get_running_loop().call_later(idle_s, lambda: self.cut(counted=True))

    def cut(self, *, reset: bool | None = None, counted: bool = False) -> None:
        """End it now, whatever is under way."""
        self._reset = self.proxy.faults.reset if reset is None else reset
        if counted:
            self.proxy.counts.cut += 1
        self.task.cancel()

    def _close(self, _: object) -> None:
        if self._idle is not None:
            self._idle.cancel()
        for each in self._sockets:
            with suppress(OSError):
                if self._reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            each.close()


class TcpProxy:
    """Passes TCP connections on to a target, with faults; entered and used on an event loop.

    Args:
        target: Where to dial.
        faults: What goes wrong; may be set at any time, what is under way included.
        listen: Where to listen; port 0 stands for a free one.
        seed: Where random choices start from.
    """

    def __init__(
        self, target: Address, faults: Faults = NO_FAULTS, *, listen: Address = ("127.0.0.1", 0), seed: int = 0
    ) -> None:
        self.target = target
        self.address = listen
        self.counts = Counts()
        self.open = asyncio.Event()
        """Whether bytes pass at all."""
        self.open.set()
        self._faults = faults
        self._seed = seed
        self._random = random.Random(seed)
        self._pairs: dict[asyncio.Task[None], _Pair] = {}
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.accept()
        self.faults = self._faults
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        await _ended(self._cutting)
        self.open.set()
        tasks = list(self._pairs)
        for pair in self._pairs.values():
            pair.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if self._cutting is not None:
            self._cutting.cancel()
        self._cutting = asyncio.get_running_loop().create_task(self._cut_again_and_again())

    @property
    def num_connections(self) -> int:
        """How many are open."""
        return len(self._pairs)

    async def accept(self) -> None:
        """Listen again, at the address of before."""
        if self._listener is None:
            listener = socket.create_server(
                self.address, family=socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET, backlog=1024
            )
            listener.setblocking(False)
            self._listener = listener
            self.address = listener.getsockname()[:2]
            self._accepting = asyncio.get_running_loop().create_task(self._accept(listener))

    async def refuse(self) -> None:
        """Refuse new connections from here on; those that are open live."""
        if self._listener is not None:
            await _ended(self._accepting)
            self._listener.close()
            self._listener = None

    async def blackhole(self) -> None:
        """Let nothing pass from here on, not even that an end has closed; new connections get no answer."""
        self.open.clear()

    async def lighten(self) -> None:
        """Let everything pass again that has waited in the black hole."""
        self.open.set()

    async def cut(self, *, reset: bool | None = None) -> int:
        """Cut all connections; returns how many there were."""
        for pair in self._pairs.values():
            pair.cut(reset=reset, counted=True)
        return len(self._pairs)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.counts.accepted += 1
            pair = _Pair(self, client, f"{self._seed} {self.counts.accepted}")
            self._pairs[pair.task] = pair
            pair.task.add_done_callback(self._pairs.pop)

    async def _cut_again_and_again(self) -> None:
        while (every := self._faults.cut_every_s) is not None:
            await _wait_until(asyncio.get_running_loop().time() + self._random.uniform(*every))
            await self.cut()


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# -- as a program -----------------------------------------------------------------------------------------------------


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _span(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    return float(low), float(high or low)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--to", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, metavar="BYTES/S")
    parser.add_argument("--cut-every", type=_span, metavar="LOW:HIGH")
    parser.add_argument("--reset", action="store_true", help="cut with RST")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> Counts:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, told.set)
    faults = Faults(
        latency_s=options.latency, bytes_per_s=options.rate, cut_every_s=options.cut_every, reset=options.reset
    )
    async with TcpProxy(options.to, faults, listen=options.listen, seed=options.seed) as proxy:
        sys.stdout.write(json.dumps({"listening": proxy.address}) + "\n")
        sys.stdout.flush()
        await told.wait()
        return proxy.counts


if __name__ == "__main__":
    json.dump(asdict(asyncio.run(_serve(_options()))), sys.stdout)
