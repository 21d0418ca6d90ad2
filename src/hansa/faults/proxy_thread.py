"""A TCP proxy with faults for programs that block: `TcpProxy` on a loop and a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from hansa.faults.tcp_proxy import NO_FAULTS, Address, Counts, Faults, TcpProxy

T = TypeVar("T")
_CALL_S = 10.0


class ProxyThread:
    """A `TcpProxy` on a loop and a thread of its own, for programs that block.

    Args:
        target: Where to dial.
        faults: What goes wrong.
        listen: Where to listen; port 0 stands for a free one.
        seed: Where random choices start from.
    """

    def __init__(
        self, target: Address, faults: Faults = NO_FAULTS, *, listen: Address = ("127.0.0.1", 0), seed: int = 0
    ) -> None:
        self._target, self._given, self._listen, self._seed = target, faults, listen, seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        with ExitStack() as cleanup:
            cleanup.callback(self._end)
            self._proxy = self._call(self._entered())
            cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._proxy.__aexit__(None, None, None))
        finally:
            self._end()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._proxy.address

    @property
    def port(self) -> int:
        """Likewise."""
        return self._proxy.address[1]

    @property
    def counts(self) -> Counts:
        """What it has seen so far."""
        return self._proxy.counts

    @property
    def num_connections(self) -> int:
        """How many are open."""
        return self._proxy.num_connections

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._proxy.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._call(self._set(faults))

    def cut(self, *, reset: bool | None = None) -> int:
        """Cut all connections; returns how many there were."""
        return self._call(self._proxy.cut(reset=reset))

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Refuse new connections meanwhile."""
        self._call(self._proxy.refuse())
        try:
            yield
        finally:
            self._call(self._proxy.accept())

    @contextmanager
    def blackholed(self) -> Iterator[None]:
        """Let nothing pass meanwhile, not even that an end has closed."""
        self._call(self._proxy.blackhole())
        try:
            yield
        finally:
            self._call(self._proxy.lighten())

    async def _entered(self) -> TcpProxy:
        return await TcpProxy(self._target, self._given, listen=self._listen, seed=self._seed).__aenter__()

    async def _set(self, faults: Faults) -> None:
        self._proxy.faults = faults

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
