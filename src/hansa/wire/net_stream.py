"""A session's frames on one connection, both ways, at either end: written, acknowledged, watched for silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from hansa.errors import DecodeError, HansaError
from hansa.wire import federation_pb2 as pb
from hansa.wire.frames import Frame
from hansa.wire.net_channel import Incoming, NetChannel
from hansa.wire.net_frames import from_message
from hansa.wire.net_options import ACK_DELAY_S, BATCH_BYTES, MAX_FRAMES

_ACK_BYTES = 1 << 20
_LAST_WORD_S = 0.5

_logger = logging.getLogger("hansa.network")


class Silence(Exception):
    """Nothing came for too long: the other end, or the way to it, is gone."""


class SessionOver(Exception):
    """The other end has ended the session, or knows it no more; says why."""


class Message(Protocol):
    """What `Up` and `Down` have in common."""

    @property
    def frames(self) -> Sequence[pb.Frame]:
        """New frames, or some that are said again."""
        ...

    @property
    def received(self) -> int:
        """The last frame of the other direction that came."""
        ...


@dataclass(frozen=True)
class End:
    """What differs between the two ends.

    Attributes:
        read: Bytes as a message that has frames; raises DecodeError if they are none, SessionOver if they say so.
        write: Frames and an acknowledgement as a message.
        on_frame: Told of each new frame.
        heartbeat_s: After how much silence here a sign of life is given.
        lost_after_s: After how much silence there the connection counts as gone.
    """

    read: Callable[[bytes], Message]
    write: Callable[[Sequence[pb.Frame], int], Any]  # Any: a message
    on_frame: Callable[[Frame], None]
    heartbeat_s: float
    lost_after_s: float


class NetStream:
    """Moves frames until the connection or the session is over.

    Args:
        call: gRPC's end of a stream: reads bytes, writes messages.
        channel: The session's state, which outlives the connection.
        end: Which end this is.
    """

    def __init__(self, call: Any, channel: NetChannel, *, end: End) -> None:  # Any: two classes of gRPC's
        self._call = call
        self._channel = channel
        self._incoming = Incoming(channel)
        self._end = end
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._acknowledged_now = asyncio.Event()
        self._must_write = False
        self._is_closing = False
        self._unacknowledged = 0  # bytes that came since the last acknowledgement
        self._ack_timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """There is something to be sent."""
        self._wake.set()

    def finish(self) -> None:
        """Write what is to be sent, and then nothing any more."""
        self._is_closing = True
        self._wake.set()

    def end(self) -> None:
        """Return from `run`, whatever has not been sent yet."""
        self._ended.set()
        self._wake.set()

    async def until_acknowledged(self) -> None:
        """Return once the other end has all that was said, or the connection is over."""
        while self._channel.unacknowledged_bytes and not self._ended.is_set():
            self._acknowledged_now.clear()
            await self._acknowledged_now.wait()

    async def run(self) -> None:
        """Move frames; returns when either end has hung up in order, or after `end`.

        Raises:
            DecodeError: The other end says what it must not.
            SessionOver: It ends the session.
            Silence: It says nothing for too long.
            RpcError: The connection is gone.
        """
        tasks = [asyncio.ensure_future(work) for work in (self._read(), self._write(), self._ended.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if _has_failed(tasks[1]):  # why may be what comes next
                await asyncio.wait(tasks[:1], timeout=_LAST_WORD_S)
            self.end()
            await asyncio.wait(tasks[1:2], timeout=_LAST_WORD_S)  # gRPC writes one message at a time
        finally:
            if self._ack_timer is not None:
                self._ack_timer.cancel()
            for task in tasks:
                task.cancel()
            self.end()
            self._acknowledged_now.set()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise _named(outcome)

    async def last_word(self, message: Any) -> None:  # Any: a message
        """Try to get one more message out, after `run`."""
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await self._call.write(message)
        except (TimeoutError, grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            return  # nobody reads there

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._end.lost_after_s):
                    data = await self._call.read()
            except TimeoutError:
                raise Silence from None
            if data is grpc.aio.EOF:
                return
            message = self._end.read(data)
            self._channel.acknowledged(message.received)
            self._acknowledged_now.set()
            for each in message.frames:
                if self._ended.is_set():
                    return
                if self._incoming.takes(each):
                    self._end.on_frame(from_message(each))
            if message.frames:
                self._acknowledge_soon(len(data))

    def _acknowledge_soon(self, size: int) -> None:
        """An acknowledgement goes with the next frame; if there is none for a moment, alone."""
        self._unacknowledged += size
        if self._unacknowledged >= _ACK_BYTES:
            self._acknowledge()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_DELAY_S, self._acknowledge)

    def _acknowledge(self) -> None:
        self._must_write = True
        self._wake.set()

    async def _write(self) -> None:
        while not self._ended.is_set():
            frames = self._channel.outgoing(BATCH_BYTES, most_frames=MAX_FRAMES)
            if frames or self._must_write:
                self._must_write = False
                self._unacknowledged = 0
                if self._ack_timer is not None:
                    self._ack_timer.cancel()
                    self._ack_timer = None
                await self._call.write(self._end.write(frames, self._channel.received))
                continue
            if self._is_closing:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(self._end.heartbeat_s):
                    await self._wake.wait()
            except TimeoutError:
                self._must_write = True  # a sign of life


def _has_failed(task: asyncio.Future[Any]) -> bool:  # Any: of no interest
    return task.done() and not task.cancelled() and task.exception() is not None


def _named(error: BaseException) -> BaseException:
    """The error that `run` promises; anything else comes of a frame that whoever takes it was not prepared for."""
    ours = isinstance(error, HansaError | Silence | SessionOver)
    grpcs = isinstance(error, grpc.RpcError | grpc.aio.BaseError | asyncio.InvalidStateError)
    if ours or grpcs or not isinstance(error, Exception):
        return error
    _logger.error("a frame cannot be handled", exc_info=error)
    return DecodeError(f"a frame that cannot be handled ({type(error).__name__})")
