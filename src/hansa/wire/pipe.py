"""Frames between an agent and its job processes, over a unix socket: a JSON head and a few parts of bytes.

::

    2 bytes   magic "HP"            4 bytes   length of the head
    1 byte    version, 1            4 bytes   number of parts
    1 byte    zero                  8 bytes   per part: its length
    the head, UTF-8; the parts

All numbers are little-endian. Large tensors never come this way: they lie in files that a head names. No NumPy here:
an agent relays frames and never looks into them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hansa.errors import DecodeError, EncodeError
from hansa.wire.local_socket import LocalListener, connect, is_ours, peer_pid

Head = dict[str, Any]  # Any: JSON
Frame = tuple[Head, list[bytes]]

MAX_HEAD_BYTES = 1 << 20
MAX_PARTS = 10_000
MAX_PARTS_BYTES = 64 << 20
MAX_BACKLOG_BYTES = 256 << 20
"""What may wait at the agent for a job process that does not read; beyond it the pipe is closed."""

_PREFIX = struct.Struct("<2sBBII")
_MAGIC = b"HP"
_VERSION = 1
_READ_BYTES = 1 << 18
_HELLO_BYTES = 4096
_HELLO_S = 10.0
_CLOSE_S = 2.0
_MOST_STRANGERS = 64

_logger = logging.getLogger("hansa.pipe")


def pack_frame(head: Head, parts: Sequence[bytes] = ()) -> bytes:
    """A frame's bytes.

    Raises:
        EncodeError: The head is no JSON, or the other end would refuse the frame for its size.
    """
    try:
        text = json.dumps(head, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise EncodeError("head", str(error)) from error
    sizes = [len(part) for part in parts]
    if problem := _too_large(len(text), len(sizes)) or _too_long(sizes):
        raise EncodeError("head", problem)
    prefix = _PREFIX.pack(_MAGIC, _VERSION, 0, len(text), len(sizes))
    return b"".join((prefix, struct.pack(f"<{len(sizes)}Q", *sizes), text, *parts))


def _too_large(head_bytes: int, num_parts: int) -> str | None:
    if head_bytes > MAX_HEAD_BYTES:
        return f"a frame's head has {head_bytes} bytes, {MAX_HEAD_BYTES} at most"
    if num_parts > MAX_PARTS:
        return f"a frame has {num_parts} parts, {MAX_PARTS} at most"
    return None


def _too_long(sizes: Sequence[int]) -> str | None:
    total = sum(sizes)
    return f"a frame's parts have {total} bytes, {MAX_PARTS_BYTES} at most" if total > MAX_PARTS_BYTES else None


class FrameReader:
    """Bytes in, frames out, cut wherever the network cuts them.

    Args:
        first_bytes: How long the first frame may be, if less than the caps: what a stranger may say.
    """

    def __init__(self, first_bytes: int | None = None) -> None:
        self._most = first_bytes
        self._held = bytearray()
        self._need = _PREFIX.size
        """How much must be there before there is more to see."""

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take bytes, and return the frames that they complete.

        Raises:
            DecodeError: They are no frame, or break a cap; nothing was allocated for it, and no more can be read.
        """
        self._held += data
        frames: list[Frame] = []
        begin = 0
        while len(self._held) - begin >= self._need:
            sizes = self._sizes(begin)
            if sizes is None:
                continue
            end = begin + self._need
            frames.append(_frame(self._held, end - sum(sizes), sizes))
            begin, self._need, self._most = end, _PREFIX.size, None
        del self._held[:begin]
        return frames

    def _sizes(self, begin: int) -> Sequence[int] | None:
        """How long the head and each part of the frame at `begin` are; None: it is not all there, `_need` says more."""
        magic, version, zero, head_bytes, num_parts = _PREFIX.unpack_from(self._held, begin)
        if (magic, version, zero) != (_MAGIC, _VERSION, 0):
            raise DecodeError(f"no frame of version {_VERSION}")
        if problem := _too_large(head_bytes, num_parts):
            raise DecodeError(problem)
        known = _PREFIX.size + 8 * num_parts
        if self._need < known:
            self._need = known
            return None
        sizes = (head_bytes, *struct.unpack_from(f"<{num_parts}Q", self._held, begin + _PREFIX.size))
        if problem := _too_long(sizes[1:]):
            raise DecodeError(problem)
        whole = known + sum(sizes)
        if self._most is not None and whole > self._most:
            raise DecodeError(f"a frame of {whole} bytes, {self._most} at most here")
        if self._need < whole:
            self._need = whole
            return None
        return sizes


def _frame(held: bytearray, begin: int, sizes: Sequence[int]) -> Frame:
    cuts = []
    with memoryview(held) as view:
        for size in sizes:
            with view[begin : begin + size] as cut:
                cuts.append(bytes(cut))
            begin += size
    return _head(cuts[0]), cuts[1:]


def _head(text: bytes) -> Head:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"a frame's head is no JSON: {error}") from error
    if not isinstance(head, dict):
        raise DecodeError("a frame's head is no JSON object")
    return head


# -- the job process's end ---------------------------------------------------------------------------------------------


class Pipe:
    """The blocking end: send on any thread, receive on one.

    Args:
        sock: A connected stream socket, which the pipe closes.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        self._sock = sock
        self._lock = threading.Lock()
        self._reader = FrameReader()
        self._ready: list[Frame] = []
        self._memory = bytearray(_READ_BYTES)

    def send(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        """Send a frame; waits while the other end does not read.

        Raises:
            EncodeError: The frame cannot be sent; the pipe is as good as before.
            ConnectionError: The pipe is closed.
        """
        data = pack_frame(head, parts)
        with self._lock:
            try:
                self._sock.sendall(data)
            except OSError as error:
                self._shut_down()  # half a frame may be out
                raise ConnectionError(f"the pipe to the agent is closed: {error.strerror}") from error

    def receive(self) -> Frame | None:
        """Wait for a frame; None at the end, whichever end closed.

        Raises:
            DecodeError: What came is no frame; the pipe is closed.
        """
        while not self._ready:
            try:
                count = self._sock.recv_into(self._memory)
            except OSError:
                count = 0
            if not count:
                return None
            try:
                self._ready = self._reader.feed(memoryview(self._memory)[:count])
            except DecodeError:
                self.close()
                raise
        return self._ready.pop(0)

    def close(self) -> None:
        """End the connection; who waits in `receive` gets None."""
        self._shut_down()  # first, since it wakes a sender
        with self._lock:
            self._sock.close()

    def _shut_down(self) -> None:
        with suppress(OSError):  # the other end was faster
            self._sock.shutdown(socket.SHUT_RDWR)


def connect_pipe(address: str, token: str) -> Pipe:
    """Connect to the agent that expects this process.

    Raises:
        OSError: Nobody listens there, or another user does.
    """
    pipe = Pipe(connect(address))
    pipe.send({"k": "hello", "token": token})
    return pipe


# -- the agent's end ---------------------------------------------------------------------------------------------------


class AsyncPipe(asyncio.Protocol):
    """The asyncio end; everything happens on the loop's thread.

    Args:
        name: What the process at the other end is called.
        reader: What has read the connection so far.

    Attributes:
        on_frame: Called with each frame.
        on_close: Called once, when the connection is gone, whoever ended it.
    """

    def __init__(self, name: str, reader: FrameReader | None = None) -> None:
        self.name = name
        self.on_frame: Callable[[Head, list[bytes]], None] = _drop
        self.on_close: Callable[[], None] = _nothing
        self._reader = reader or FrameReader()
        self._transport: asyncio.Transport | None = None

    @property
    def buffered_bytes(self) -> int:
        """What the other end has not taken yet, besides what the system holds."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        """Send a frame, without waiting; on a closed pipe it is dropped.

        Raises:
            EncodeError: The frame cannot be sent.
        """
        data = pack_frame(head, parts)
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self.buffered_bytes > MAX_BACKLOG_BYTES:
            _logger.warning("%s has left %d MB unread: its pipe is closed", self.name, self.buffered_bytes >> 20)
            self._transport.abort()

    def close(self) -> None:
        """End the connection once what was sent has gone out."""
        if self._transport is not None:
            self._transport.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio has the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            frames = self._reader.feed(data)
        except DecodeError as error:
            _logger.warning("%s: %s: its pipe is closed", self.name, error)
            assert self._transport is not None
            self._transport.abort()
            return
        self.take(frames)

    def take(self, frames: Sequence[Frame]) -> None:
        """Frames were read."""
        for head, parts in frames:
            self.on_frame(head, parts)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.on_close()


def _drop(head: Head, parts: list[bytes]) -> None:
    pass


def _nothing() -> None:
    pass


class PipeServer:
    """Where an agent's job processes connect back, each with a token that is good once.

    Args:
        folder: Where the socket's file lies, on systems that need one.
        on_pipe: Called with each pipe whose process has shown its token; sets `on_frame` and `on_close` there.
    """

    def __init__(self, folder: Path, on_pipe: Callable[[AsyncPipe], None]) -> None:
        self._folder = folder
        self._on_pipe = on_pipe
        self._names: dict[bytes, str] = {}
        self._connections: set[_Connection] = set()
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._has_warned = False
        self._listener: LocalListener | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """What `connect_pipe` takes, once it is started."""
        assert self._listener is not None
        return self._listener.address

    async def start(self) -> None:
        """Listen."""
        self._listener = LocalListener(self._folder)
        self._listener.sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=self._listener.sock)

    async def close(self) -> None:
        """Take the address away and close all pipes; waits a while for what was sent to go out."""
        if self._server is not None and self._listener is not None:
            self._server.close()
            self._listener.close()
        for connection in tuple(self._connections):
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._all_gone.wait()
        for connection in tuple(self._connections):
            connection.abort()

    def expect(self, token: str, name: str) -> None:
        """Let one process in that shows this token, as `name`; an earlier token for that name is void."""
        self._names = {key: other for key, other in self._names.items() if other != name}
        self._names[_digest(token)] = name

    # its connections call these

    def connected(self, connection: _Connection) -> bool:
        """Whether there is room for one more that has said nothing yet."""
        self._connections.add(connection)
        self._all_gone.clear()
        return sum(each.pipe is None for each in self._connections) <= _MOST_STRANGERS

    def admit(self, head: Head, reader: FrameReader, *, transport: asyncio.Transport) -> AsyncPipe | None:
        """The pipe of the process that said this, if it is one of those expected; then it is one no more."""
        token = head.get("token")
        name = self._names.pop(_digest(token), None) if isinstance(token, str) and head.get("k") == "hello" else None
        if name is None:
            return None
        pipe = AsyncPipe(name, reader)
        pipe.connection_made(transport)
        self._on_pipe(pipe)
        return pipe

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    def warn(self, why: str) -> None:
        """Say once that a connection was refused: whoever knocks for ever must not fill the log."""
        if not self._has_warned:
            self._has_warned = True
            _logger.warning("%s was turned away; further ones are not logged", why)


class _Connection(asyncio.Protocol):
    """One connection: a stranger until it has shown its token, a pipe from then on."""

    def __init__(self, server: PipeServer) -> None:
        self.pipe: AsyncPipe | None = None
        self._server = server
        self._reader = FrameReader(_HELLO_BYTES)
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        has_room = self._server.connected(self)
        sock = transport.get_extra_info("socket")
        self._who = f"process {peer_pid(sock) or '?'}"
        if not is_ours(sock):
            self._refuse("of another user")
        elif not has_room:
            self._refuse(f"one of more than {_MOST_STRANGERS} at once that have not shown a token")
        else:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(_HELLO_S, self._refuse, f"without a token for {_HELLO_S:g} s")

    def data_received(self, data: bytes) -> None:
        if self.pipe is not None:
            self.pipe.data_received(data)
            return
        try:
            frames = self._reader.feed(data)
        except DecodeError as error:
            self._refuse(str(error))
            return
        if not frames:
            return
        self._admit(frames[0][0])
        if self.pipe is not None:
            self.pipe.take(frames[1:])

    def _admit(self, head: Head) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self.pipe = self._server.admit(head, self._reader, transport=self._transport)
        if self.pipe is None:
            self._refuse("without a token that is expected")
        elif self._patience is not None:
            self._patience.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lost(self)
        if self._patience is not None:
            self._patience.cancel()
        if self.pipe is not None:
            self.pipe.connection_lost(exc)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, why: str) -> None:
        self._server.warn(f"{self._who}, {why},")
        if self._transport is not None:
            self._transport.abort()


def _digest(token: str) -> bytes:
    # So that how long a look-up takes says nothing about the tokens.
    return hashlib.sha256(token.encode(errors="replace")).digest()
