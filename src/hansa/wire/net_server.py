"""The server's end of the network: sessions of sites, commands of admins, blobs; one port, mutual TLS, gRPC."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines are for its authors

import grpc
import grpc.aio

from hansa.errors import ConfigError, DecodeError, HansaError
from hansa.wire import federation_pb2 as pb
from hansa.wire.blob_service import BlobHandlers, BlobService, TryAgain
from hansa.wire.frames import Frame, Peer
from hansa.wire.net_channel import NetChannel
from hansa.wire.net_frames import dump, load, read_command, read_up, to_message
from hansa.wire.net_options import (
    MAX_FRAME_BYTES,
    PROTOCOL,
    SERVICE,
    NetLimits,
    Tls,
    server_options,
    software,
    version_problem,
)
from hansa.wire.net_stream import End, NetStream, Silence
from hansa.wire.refusals import Refusals, printable

_MOST_KNOWN = 10_000
_MOST_LETTERS = 200

_logger = logging.getLogger("hansa.network")


class SiteSession:
    """A site's session: it outlives its connections.

    Attributes:
        peer: The site, from its certificate.
        hello: What it says of itself.
        id: The session's own name.
        incarnation: Of the site's program.
        is_over: Why it is over; None while it is not.
    """

    def __init__(self, peer: Peer, hello: dict[str, Any], *, incarnation: str, limits: NetLimits) -> None:
        self.peer = peer
        self.hello = hello
        self.id = secrets.token_hex(16)
        self.incarnation = incarnation
        self.is_over: str | None = None
        self.channel = NetChannel(limits.unacknowledged_bytes)
        self.connection: NetStream | None = None
        self.lost_at: asyncio.TimerHandle | None = None
        self.last_heard = time.monotonic()
        self.on_over: Callable[[SiteSession], None] = lambda session: None

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.connection is not None

    def send(self, frame: Frame) -> None:
        """Bring a frame to the site, once, after all that were sent before.

        Raises:
            EncodeError: It is too large, or its head is no JSON.
        """
        if self.is_over is not None:
            return
        self.channel.say(to_message(frame))
        if self.channel.is_over_quota:
            self.close("it leaves too much unread")
        elif self.connection is not None:
            self.connection.wake()

    def close(self, reason: str) -> None:
        """End the session."""
        if self.is_over is None:
            self.is_over = reason
            if self.connection is not None:
                self.connection.end()
            else:
                asyncio.get_running_loop().call_soon(self.on_over, self)


class ServerHandlers(BlobHandlers, Protocol):
    """Who is told what comes in; on the loop's thread, but for blobs."""

    def site_joined(self, session: SiteSession) -> None:
        """A new session."""
        ...

    def site_frame(self, session: SiteSession, frame: Frame) -> None:
        """A frame of a site."""
        ...

    def site_left(self, session: SiteSession, reason: str) -> None:
        """A session is over for good."""
        ...

    def site_disconnected(self, session: SiteSession) -> None:
        """A session has no connection; it may get one again."""
        ...

    def site_reconnected(self, session: SiteSession) -> None:
        """It has one again."""
        ...

    def alarm(self, text: str) -> None:
        """Something that a person should look at."""
        ...

    async def command(self, peer: Peer, name: str, *, args: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """Answer a command; raises HansaError to refuse it."""
        ...

    def watch(self, peer: Peer, name: str, *, args: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        """Answer a command with a stream."""
        ...


class NetworkServer:
    """Listens.

    Args:
        tls: Its certificate.
        identify: Says whose a certificate is; raises HansaError if it is nobody's.
        handlers: Are told what comes in.
        limits: What it allows.
        epoch: Which start of the server this is.
    """

    def __init__(
        self,
        tls: Tls,
        *,
        identify: Callable[[bytes], Peer],
        handlers: ServerHandlers,
        limits: NetLimits,
        epoch: int,
    ) -> None:
        self.sessions: dict[str, SiteSession] = {}
        self._tls = tls
        self._identify = identify
        self._handlers = handlers
        self._limits = limits
        self._epoch = epoch
        self._known: dict[bytes, Peer] = {}
        self._project = identify(tls.certificate).project
        self._refusals = Refusals()
        self._alarms: set[tuple[str, str]] = set()
        self._threads = ThreadPoolExecutor(limits.blob_threads, "hansa-blobs")
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            ConfigError: The port is taken.
        """
        server = grpc.aio.server(options=server_options(self._limits))
        blobs = BlobService(
            self._handlers,
            admit=self._admitted,
            refusals=self._refusals,
            limits=self._limits,
            threads=self._threads,
        )
        # Messages come as bytes, to be looked at before they are decoded.
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Session": grpc.stream_stream_rpc_method_handler(
                self._session, response_serializer=pb.Down.SerializeToString
            ),
            "Call": grpc.unary_unary_rpc_method_handler(self._call, response_serializer=pb.Answer.SerializeToString),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, response_serializer=pb.Answer.SerializeToString),
            **blobs.methods(),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
        credentials = grpc.ssl_server_credentials(
            [(self._tls.key, self._tls.certificate)], self._tls.ca, require_client_auth=True
        )
        try:
            bound = server.add_secure_port(f"{host}:{port}", credentials)
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(f"port {port} of {host} cannot be used: another program may listen there")
        await server.start()
        self._server = server
        return bound

    async def stop(self, grace_s: float) -> None:
        """Hang up."""
        for session in list(self.sessions.values()):
            if session.lost_at is not None:
                session.lost_at.cancel()
            session.close("the server is being stopped")
        if self._server is not None:
            await self._server.stop(grace_s)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- who calls ---------------------------------------------------------------------------------------------

    def _peer_of(self, context: Any) -> Peer:  # Any: gRPC's
        """Who calls, from the certificate alone.

        Raises:
            HansaError: It is nobody of this project.
        """
        pem = (context.auth_context().get("x509_pem_cert") or [b""])[0]
        peer = self._known.get(pem)
        if peer is not None:
            return peer
        try:
            peer = self._identify(pem)
            if peer.project != self._project:
                raise ConfigError(f"{peer.name} is of project {peer.project!r}, this server of {self._project!r}")
        except HansaError as error:
            self._refusals.note(_address(context), "identity", str(error))
            raise
        if len(self._known) < _MOST_KNOWN:
            self._known[pem] = peer
        return peer

    def _admitted(self, context: Any, session: str | None) -> Peer:  # Any: gRPC's
        """Who may move blobs: an admin, or the program of a site that has the session (None: it said none)."""
        peer = self._peer_of(context)
        if peer.role == "admin" or session is None:
            return peer
        if peer.role != "client":
            text = f"{peer.name} is a {peer.role}, and moves no blobs"
            self._refuse(peer, "role", text)
            raise ConfigError(text)
        current = self.sessions.get(peer.name)
        if current is None or current.id != session or current.is_over is not None:
            text = "blobs go with a session, and this is not the session of the site"
            if current is not None:
                self._refuse(peer, "session", text)
            raise TryAgain(text)
        return peer

    def _refuse(self, peer: Peer, code: str, text: str) -> None:
        self._refusals.note(f"{peer.name} ({peer.role})", code, text)

    # -- admins ------------------------------------------------------------------------------------------------

    async def _call(self, request: bytes, context: Any) -> pb.Answer:  # Any: gRPC's
        try:
            peer, name, args = self._asked(request, context)
            return pb.Answer(content=_answer(await self._handlers.command(peer, name, args=args)))
        except HansaError as error:
            return pb.Answer(refusal=_refusal(error))

    async def _watch(self, request: bytes, context: Any) -> AsyncIterator[pb.Answer]:  # Any: gRPC's
        try:
            peer, name, args = self._asked(request, context)
            async for each in self._handlers.watch(peer, name, args=args):
                yield pb.Answer(content=_answer(each))
        except HansaError as error:
            yield pb.Answer(refusal=_refusal(error))

    def _asked(self, request: bytes, context: Any) -> tuple[Peer, str, dict[str, Any]]:  # Any: gRPC's; JSON
        """Who gives which command with what arguments; nothing is decoded for those who may give none."""
        peer = self._peer_of(context)
        try:
            if peer.role != "admin":
                raise ConfigError(f"{peer.name} is a {peer.role}, and only admins give commands")
            command = read_command(request)
            problem = version_problem(
                theirs=command.protocol, software_there="?", they="the admin's program", we="the server"
            )
            if problem is not None:
                raise ConfigError(problem)
            return peer, command.name, load(command.args) if command.args else {}
        except HansaError as error:
            self._refuse(peer, f"command {type(error).__name__}", str(error))
            raise

    # -- sites -------------------------------------------------------------------------------------------------

    async def _session(self, ups: object, context: Any) -> None:  # Any: gRPC's
        try:
            peer = self._peer_of(context)
        except HansaError as error:
            await _turned_away(context, "identity", str(error))
            return
        try:
            hello = await self._hello(peer, context)
            session, is_new = self._session_for(peer, hello, context)
        except _Refused as refused:
            self._refuse(peer, refused.code, str(refused))
            await _turned_away(context, refused.code, str(refused))
            return
        except DecodeError as error:
            self._refuse(peer, "malformed", str(error))
            await _turned_away(context, "malformed", str(error))
            return
        await self._serve(session, context, is_new=is_new)

    async def _hello(self, peer: Peer, context: Any) -> pb.Hello:  # Any: gRPC's
        if peer.role != "client":
            raise _Refused("role", f"{peer.name} is a {peer.role}, and only sites have sessions")
        try:
            async with asyncio.timeout(self._limits.lost_after_s):
                first = await context.read()
        except TimeoutError:
            raise _Refused("malformed", "no hello came") from None
        if first is grpc.aio.EOF:
            raise _Refused("malformed", "the stream has ended before its hello")
        up = read_up(first)
        if not up.HasField("hello") or up.frames:
            raise _Refused("malformed", "the first message of a session must be a hello, and no more")
        hello = up.hello
        problem = version_problem(
            theirs=hello.protocol, software_there=printable(hello.software), they="the site", we="the server"
        )
        if problem is not None:
            raise _Refused("version", problem)
        if max(len(hello.software), len(hello.session), len(hello.incarnation)) > _MOST_LETTERS:
            raise _Refused("malformed", "a hello with names that are too long")
        return hello

    def _session_for(self, peer: Peer, hello: pb.Hello, context: Any) -> tuple[SiteSession, bool]:  # Any: gRPC's
        """The session that a hello is about, and whether it is new.

        Raises:
            _Refused: Another program has the identity.
            DecodeError: What the site says of itself makes no sense.
        """
        about = load(hello.about) if hello.about else {}
        old = self.sessions.get(peer.name)
        if old is not None and old.is_over is None:
            is_other = hello.incarnation != old.incarnation
            if is_other and old.connected:
                self._second(peer, hello.incarnation, _address(context))
            if not is_other and hello.session == old.id:
                with suppress(DecodeError):  # it has forgotten what it had: a new session, then
                    old.channel.reconnected(hello.received)
                    return old, False
            self._end(old, "its program was started anew" if is_other else "it has begun a new session")
        elif old is not None:
            self._end(old, old.is_over or "")
        session = SiteSession(
            peer,
            {**about, "software": printable(hello.software)},
            incarnation=hello.incarnation,
            limits=self._limits,
        )
        session.on_over = lambda session: self._end(session, session.is_over or "")
        self.sessions[peer.name] = session
        return session, True

    def _second(self, peer: Peer, incarnation: str, address: str) -> None:
        """Another program with the identity of one that is connected: an alarm, once for each."""
        text = f"another program with the identity of {peer.name} is connected"
        takes_over = self._limits.second_session == "supersede"
        what = "takes its place" if takes_over else "is refused"
        if (peer.name, incarnation) not in self._alarms and len(self._alarms) < _MOST_KNOWN:
            self._alarms.add((peer.name, incarnation))
            self._handlers.alarm(f"{text}; a second one, at {address}, {what}: was its kit copied?")
        if not takes_over:
            raise _Refused("second_session", f"{text}: was its kit copied?")

    async def _serve(self, session: SiteSession, context: Any, *, is_new: bool) -> None:  # Any: gRPC's
        end = End(
            lambda data: self._read(session, data),
            _down,
            lambda frame: self._handlers.site_frame(session, frame),
            heartbeat_s=self._limits.heartbeat_s,
            lost_after_s=self._limits.lost_after_s,
        )
        if session.connection is not None:
            session.connection.end()  # it was cut off, and nobody has noticed yet
        stream = session.connection = NetStream(context, session.channel, end=end)
        session.last_heard = time.monotonic()
        if session.lost_at is not None:
            session.lost_at.cancel()
            session.lost_at = None
        try:
            await context.write(self._welcome(session, is_new=is_new))
            if session.connection is stream:
                (self._handlers.site_joined if is_new else self._handlers.site_reconnected)(session)
                await stream.run()
        except DecodeError as error:
            self._refuse(session.peer, "malformed", str(error))
            if session.connection is stream:
                session.close(str(error))
        except Silence:
            pass
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            pass  # the connection is gone
        finally:
            if session.connection is stream:
                self._disconnected(session)
        if session.is_over is not None:
            refusal = pb.Refusal(code="over", text=session.is_over)
            await stream.last_word(pb.Down(refusal=refusal, received=session.channel.received))

    def _welcome(self, session: SiteSession, *, is_new: bool) -> pb.Down:
        return pb.Down(
            welcome=pb.Welcome(
                protocol=PROTOCOL,
                software=software(),
                session=session.id,
                resumed=not is_new,
                received=session.channel.received,
                epoch=self._epoch,
                heartbeat_s=self._limits.heartbeat_s,
                lost_after_s=self._limits.lost_after_s,
            )
        )

    def _read(self, session: SiteSession, data: bytes) -> pb.Up:
        up = read_up(data)
        if up.HasField("hello"):
            raise DecodeError("a second hello in one session")
        session.last_heard = time.monotonic()
        return up

    def _disconnected(self, session: SiteSession) -> None:
        session.connection = None
        if session.is_over is not None:
            self._end(session, session.is_over)
            return
        self._handlers.site_disconnected(session)
        reason = f"no sign of life for {self._limits.lost_after_s:g} s"
        silent_s = time.monotonic() - session.last_heard
        session.lost_at = asyncio.get_running_loop().call_later(
            max(0.0, self._limits.lost_after_s - silent_s), self._end, session, reason
        )

    def _end(self, session: SiteSession, reason: str) -> None:
        if session.lost_at is not None:
            session.lost_at.cancel()
            session.lost_at = None
        session.close(reason)
        if self.sessions.get(session.peer.name) is session:
            del self.sessions[session.peer.name]
            self._handlers.site_left(session, reason)


class _Refused(Exception):
    """A session does not begin.

    Args:
        code: Why, for programs.
        text: Why, in words.
    """

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


async def _turned_away(context: Any, code: str, text: str) -> None:  # Any: gRPC's
    with suppress(grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
        await context.write(pb.Down(refusal=pb.Refusal(code=code, text=text)))


def _address(context: Any) -> str:  # Any: gRPC's
    """Where a caller is, without its port, which is another each time."""
    address: str = context.peer()
    return address.rpartition(":")[0] or address


def _down(frames: Sequence[pb.Frame], received: int) -> pb.Down:
    return pb.Down(frames=frames, received=received)


def _answer(content: dict[str, Any]) -> bytes:  # Any: JSON
    return dump(content, what="the answer", most_bytes=MAX_FRAME_BYTES)


def _refusal(error: HansaError) -> pb.Refusal:
    return pb.Refusal(code=type(error).__name__, text=str(error))
