"""A site's end of the network: one session that is kept up, and blobs on threads."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import secrets
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines are for its authors

import grpc
import grpc.aio

from hansa.errors import MAY_PASS, ConfigError, DecodeError, RunError
from hansa.wire import federation_pb2 as pb
from hansa.wire.blob_transfer import BlobChannel, Interrupted, Stop, forget
from hansa.wire.diagnosis import diagnosed
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.net_channel import NetChannel
from hansa.wire.net_frames import dump, read_down, to_message
from hansa.wire.net_options import PROTOCOL, SERVICE, NetLimits, Tls, client_options, software, version_problem
from hansa.wire.net_stream import End, NetStream, SessionOver, Silence

_BLOB_THREADS = 4
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_SHORT_LIFE_S = 1.0
_TRANSFER_TRIES = 1000
_LAST_WORDS_S = 0.4
_FOR_GOOD = frozenset(("identity", "role", "version"))
"""Refusals that trying again does not change."""

_logger = logging.getLogger("hansa.network")


class ClientHandlers(Protocol):
    """Who is told what comes in; on the loop's thread."""

    def connected(self, *, resumed: bool) -> None:
        """The server has welcomed this site."""
        ...

    def disconnected(self, reason: str) -> None:
        """There is no connection; another is tried."""
        ...

    def frame(self, frame: Frame) -> None:
        """A frame of the server's."""
        ...


class SiteClient:
    """A site's connection to its server.

    Args:
        tls: The site's certificate.
        server: `host:port`.
        hello: What the site says of itself, asked anew for each connection.
        handlers: Are told what comes in.
        draw: Draws the pauses before a reconnect, so that sites do not come back all at once.
        limits: How long the server may be silent before it has said so itself, and how much may wait for it.
    """

    def __init__(
        self,
        tls: Tls,
        server: str,
        *,
        hello: Callable[[], dict[str, Any]],  # Any: JSON
        handlers: ClientHandlers,
        draw: random.Random | None = None,
        limits: NetLimits | None = None,
    ) -> None:
        self._tls = tls
        self._server = server
        self._hello = hello
        self._handlers = handlers
        self._draw = draw or random.Random()
        self._limits = limits or NetLimits()
        self._incarnation = secrets.token_hex(8)
        self.session = ""
        """The session's name, while there is one."""
        self._channel = NetChannel(self._limits.unacknowledged_bytes)
        self._stream: NetStream | None = None
        self._stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(_BLOB_THREADS, "hansa-blobs")
        self._blobs: BlobChannel | None = None
        self._transfers: set[Stop] = set()
        self._last_problem = ""

    def send(self, frame: Frame) -> None:
        """Bring a frame to the server, once, after all that were sent before, as long as the session lives.

        Raises:
            EncodeError: It is too large, or its head is no JSON.
        """
        self._channel.say(to_message(frame))
        if self._channel.is_over_quota:
            _logger.warning("too much waits for the server: what was said is dropped, and a new session begun")
            self._forget_session()
            if self._stream is not None:
                self._stream.end()
        elif self._stream is not None:
            self._stream.wake()

    async def run(self) -> None:
        """Keep a session up until `stop`.

        Raises:
            ConfigError: The server refuses this site for good.
        """
        failures = 0
        try:
            while not self._stopping.is_set():
                began = asyncio.get_running_loop().time()
                welcomed = await self._unless_stopped(self._connection())
                lived_s = asyncio.get_running_loop().time() - began
                failures = 0 if welcomed and lived_s > _SHORT_LIFE_S else failures + 1
                await self._pause(failures)
        finally:
            for transfer in self._transfers:
                transfer.set()
            if self._blobs is not None:
                self._blobs.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def stop(self) -> None:
        """Hang up; what was said gets a moment to arrive."""
        if self._stream is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._stream.until_acknowledged()
        self._stopping.set()
        if self._stream is not None:
            self._stream.finish()

    # -- the session -------------------------------------------------------------------------------------------

    async def _unless_stopped(self, connection: Coroutine[Any, Any, bool]) -> bool:
        """A connection's outcome; False if it is not over soon after `stop`."""
        task, stopping = asyncio.ensure_future(connection), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            if self._stream is not None:
                await asyncio.wait((task,), timeout=_LAST_WORDS_S)
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.wait((task, stopping))
        return not task.cancelled() and task.result()

    async def _connection(self) -> bool:
        """One connection, from its beginning to its end; whether the server welcomed it."""
        credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.certificate)
        options = client_options(self._limits, self._server)
        async with grpc.aio.secure_channel(self._server, credentials, options=options) as channel:
            call: Any = channel.stream_stream(
                f"/{SERVICE}/Session", request_serializer=pb.Up.SerializeToString, response_deserializer=None
            )()
            welcomed, reason = False, "the server has hung up"
            try:
                self._stream = await self._greeted(call)
                welcomed = True
                await self._stream.run()
                await call.done_writing()
            except (SessionOver, DecodeError) as error:
                self._forget_session()
                reason = str(error)
            except Silence:
                reason = "the server has said nothing for too long"
            except grpc.aio.AioRpcError as error:
                self._stream = None
                reason = await self._why(error, welcomed=welcomed)
            except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
                reason = f"the connection was cut ({type(error).__name__})"
            finally:
                self._stream = None
                call.cancel()
            self._note(reason)
            return welcomed

    async def _greeted(self, call: Any) -> NetStream:  # Any: gRPC's
        hello = pb.Hello(
            protocol=PROTOCOL,
            software=software(),
            session=self.session,
            received=self._channel.received,
            incarnation=self._incarnation,
            about=dump(self._hello()),
        )
        try:
            async with asyncio.timeout(self._limits.lost_after_s):
                await call.write(pb.Up(hello=hello))
                first = await call.read()
        except TimeoutError:
            raise Silence from None
        if first is grpc.aio.EOF:
            raise SessionOver("the server has hung up")
        down = read_down(first)
        if down.HasField("refusal"):
            text = f"the server at {self._server} refuses this site: {down.refusal.text}"
            raise ConfigError(text) if down.refusal.code in _FOR_GOOD else SessionOver(text)
        if not down.HasField("welcome"):
            raise DecodeError("what answers there is no server of this protocol")
        return self._welcomed(down.welcome, call)

    def _welcomed(self, welcome: pb.Welcome, call: Any) -> NetStream:  # Any: gRPC's
        problem = version_problem(
            theirs=welcome.protocol, software_there=welcome.software, they="the server", we="this site"
        )
        if problem is not None:
            raise ConfigError(problem)
        if welcome.resumed:
            self._channel.reconnected(welcome.received)
        else:
            if self.session:  # what was said in a session that is over went with it
                self._forget_session()
            self.session = welcome.session
        end = End(
            self._read,
            _up,
            self._handlers.frame,
            heartbeat_s=welcome.heartbeat_s or self._limits.heartbeat_s,
            lost_after_s=welcome.lost_after_s or self._limits.lost_after_s,
        )
        self._last_problem = ""
        self._handlers.connected(resumed=welcome.resumed)
        return NetStream(call, self._channel, end=end)

    def _read(self, data: bytes) -> pb.Down:
        down = read_down(data)
        if down.HasField("refusal"):
            self._channel.acknowledged(down.received)
            raise SessionOver(f"the server has ended the session: {down.refusal.text}")
        if down.HasField("welcome"):
            raise DecodeError("the server has said welcome twice")
        return down

    def _forget_session(self) -> None:
        self.session = ""
        self._channel = NetChannel(self._limits.unacknowledged_bytes)

    async def _why(self, error: grpc.aio.AioRpcError, *, welcomed: bool) -> str:
        if welcomed:
            return f"the connection was cut ({error.code().name.lower().replace('_', ' ')})"
        return await diagnosed(self._server, self._tls)

    def _note(self, reason: str) -> None:
        """Tell about a problem once, however often a reconnect meets it."""
        problem = re.sub(r"\d+", "", reason)  # a clock's time is no other problem
        if problem != self._last_problem and not self._stopping.is_set():
            self._last_problem = problem
            self._handlers.disconnected(reason)

    async def _pause(self, failures: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s(failures, self._draw)):
                await self._stopping.wait()

    # -- blobs -------------------------------------------------------------------------------------------------

    async def upload(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Bring a blob to the server; goes on after a cut.

        Raises:
            RunError: The server refuses it.
            OSError: The file.
        """
        await self._persistently(
            lambda stop, first: self._channel_of_blobs().upload(job, ref, path=path, stop=stop, is_first=first)
        )

    async def download(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Fetch a blob; goes on after a cut.

        Raises:
            RunError: The server refuses it, or it is not what was announced.
            OSError: The disk.
        """
        try:
            await self._persistently(lambda stop, _: self._channel_of_blobs().download(job, ref, path=path, stop=stop))
        except (Interrupted, asyncio.CancelledError):
            forget(ref, path)
            raise

    async def _persistently(self, transfer: Callable[[Stop, bool], None]) -> None:
        loop = asyncio.get_running_loop()
        stop = Stop()
        self._transfers.add(stop)
        try:
            for failures in range(_TRANSFER_TRIES):
                try:
                    await loop.run_in_executor(self._threads, transfer, stop, failures == 0)
                except (Interrupted, OSError) as error:
                    if isinstance(error, OSError) and error.errno not in MAY_PASS:
                        raise
                    _logger.info("a transfer is interrupted, and goes on: %s", error)
                    if self._stopping.is_set():
                        raise
                    await self._pause(min(failures, 5))
                else:
                    return
            raise RunError("a transfer was interrupted too often")
        finally:
            stop.set()
            self._transfers.discard(stop)

    def _channel_of_blobs(self) -> BlobChannel:
        if self._blobs is None:
            credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.certificate)
            options = client_options(self._limits, self._server)
            self._blobs = BlobChannel(
                grpc.secure_channel(self._server, credentials, options=options), lambda: self.session
            )
        return self._blobs


def pause_s(failures: int, draw: random.Random) -> float:
    """How long to wait before the next try, after so many that failed: at most 5 s, with chance and all."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures, 10)) * draw.random()


def _up(frames: Sequence[pb.Frame], received: int) -> pb.Up:
    return pb.Up(frames=frames, received=received)
