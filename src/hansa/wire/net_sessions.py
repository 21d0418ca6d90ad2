"""The server's end of sites' sessions: who is let in, which session goes on, and when one is given up."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import grpc
import grpc.aio

from hansa.errors import DecodeError, HansaError
from hansa.wire import federation_pb2 as pb
from hansa.wire.frames import Frame, Peer
from hansa.wire.net_channel import NetChannel
from hansa.wire.net_frames import load, read_up, to_message
from hansa.wire.net_options import PROTOCOL, NetLimits, software, version_problem
from hansa.wire.net_stream import End, NetStream, Silence
from hansa.wire.refusals import Refusals, printable

NO_SIGN_OF_LIFE = "no sign of life"
"""How the reason begins for which a session is given up that nobody has come back to."""
_MOST_KNOWN = 10_000
_MOST_LETTERS = 200


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


class SiteHandlers(Protocol):
    """Who is told of sites; on the loop's thread."""

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


class Sessions:
    """The sessions of a server's sites.

    Args:
        handlers: Are told of sites.
        peer_of: Says who calls; raises HansaError if that is nobody.
        refusals: Where refusals are logged.
        limits: What is allowed.
        epoch: Which start of the server this is.
    """

    def __init__(
        self,
        handlers: SiteHandlers,
        *,
        peer_of: Callable[[Any], Peer],  # Any: a context of gRPC's
        refusals: Refusals,
        limits: NetLimits,
        epoch: int,
    ) -> None:
        self.by_site: dict[str, SiteSession] = {}
        self._handlers = handlers
        self._peer_of = peer_of
        self._refusals = refusals
        self._limits = limits
        self._epoch = epoch
        self._alarms: set[tuple[str, str]] = set()

    def close(self, reason: str) -> None:
        """End all of them."""
        for session in list(self.by_site.values()):
            session.close(reason)

    async def serve(self, ups: object, context: Any) -> None:  # Any: gRPC's
        # Read first, whoever it is: gRPC tells a caller that is still writing nothing of a refusal.
        first = None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.lost_after_s):
                first = await context.read()
        try:
            peer = self._peer_of(context)
        except HansaError as error:
            await _turned_away(context, "identity", str(error))
            return
        try:
            hello = self._hello(peer, first)
            session, is_new = self._session_for(peer, hello, context)
        except _Refused as refused:
            self._refusals.note(peer, refused.code, text=str(refused))
            await _turned_away(context, refused.code, str(refused))
            return
        except DecodeError as error:
            self._refusals.note(peer, "malformed", text=str(error))
            await _turned_away(context, "malformed", str(error))
            return
        await self._serve(session, context, is_new=is_new)

    def _hello(self, peer: Peer, first: Any) -> pb.Hello:  # Any: bytes, or gRPC's EOF
        if peer.role != "client":
            raise _Refused("role", f"{peer.name} has the role {peer.role}, and only sites have sessions")
        if first is None:
            raise _Refused("malformed", "no hello came")
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
        old = self.by_site.get(peer.name)
        if old is not None and old.is_over is None:
            is_other = hello.incarnation != old.incarnation
            if is_other and old.connected:
                self._second(peer, hello.incarnation, address_of(context))
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
        self.by_site[peer.name] = session
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
            self._refusals.note(session.peer, "malformed", text=str(error))
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
        reason = f"{NO_SIGN_OF_LIFE} for {self._limits.lost_after_s:g} s"
        silent_s = time.monotonic() - session.last_heard
        session.lost_at = asyncio.get_running_loop().call_later(
            max(0.0, self._limits.lost_after_s - silent_s), self._end, session, reason
        )

    def _end(self, session: SiteSession, reason: str) -> None:
        if session.lost_at is not None:
            session.lost_at.cancel()
            session.lost_at = None
        session.close(reason)
        if self.by_site.get(session.peer.name) is session:
            del self.by_site[session.peer.name]
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


def address_of(context: Any) -> str:  # Any: gRPC's
    """Where a caller is, without its port, which is another each time."""
    address: str = context.peer()
    return address.rpartition(":")[0] or address


def _down(frames: Sequence[pb.Frame], received: int) -> pb.Down:
    return pb.Down(frames=frames, received=received)
