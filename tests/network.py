"""A server and sites on this machine's loopback, over real mutual TLS, in one process: for tests of the network."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as in our own programs

import grpc.aio

from hansa.errors import ConfigError
from hansa.provision.authority import Authority
from hansa.provision.identity import Identity, Role, identity_of
from hansa.wire import federation_pb2 as pb
from hansa.wire.frames import BlobRef, Frame, Peer
from hansa.wire.net_client import SiteClient
from hansa.wire.net_options import PROTOCOL, SERVICE, NetLimits, Tls, client_options
from hansa.wire.net_server import NetworkServer, SiteSession

PROJECT = "proj"
HOSTS = ("127.0.0.1", "localhost")
WITHIN_S = 10.0
"""How long anything here may take before it counts as not happening."""


@cache
def _authority(project: str) -> Authority:
    return Authority.create(project)


def authority(project: str = PROJECT) -> Authority:
    """A project's authority, the same in all tests."""
    return _authority(project)


@cache
def tls(
    name: str,
    role: Role = Role.CLIENT,
    *,
    project: str = PROJECT,
    trusts: str | None = None,
    issued_by: str | None = None,
    hosts: tuple[str, ...] | None = None,
    days: float = 30,
    now: datetime | None = None,
) -> Tls:
    """A participant's TLS.

    Args:
        name: Who.
        role: What it is.
        project: As its certificate says.
        trusts: Of which project it has the authority; its own if None.
        issued_by: Whose authority has issued its certificate; its own if None.
        hosts: Host names; a server's are the loopback's.
        days: For how long.
        now: From when (an hour before, to be exact).
    """
    if hosts is None:
        hosts = HOSTS if role is Role.SERVER else ()
    issued = authority(issued_by or project).issue(Identity(project, "org", name, role), hosts, days=days, now=now)
    return Tls(authority(trusts or issued_by or project).certificate, issued.certificate, issued.key)


def peer_of(pem: bytes) -> Peer:
    """Who a certificate is of."""
    identity = identity_of(pem)
    return Peer(identity.project, identity.org, identity.name, identity.role.value)


def play(scenario: Coroutine[Any, Any, None], within_s: float = 20) -> None:
    """Run a scenario to its end."""
    asyncio.run(asyncio.wait_for(scenario, within_s))


class Watch:
    """Lets a coroutine wait until something it looks at is so, whenever somebody has said that things changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something has changed."""
        self._changed.set()

    async def until(self, what: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Return once it is so."""
        async with asyncio.timeout(within_s):
            while not what():
                self._changed.clear()
                await self._changed.wait()

    async def until_past(self, seconds: float) -> None:
        """Return after a while; for what must not happen meanwhile."""
        with suppress(TimeoutError):
            await self.until(lambda: False, seconds)


class ServerSide(Watch):
    """Writes down what a server is told; blobs lie in a folder per job."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.events: list[tuple[str, ...]] = []
        self.frames: list[tuple[str, Frame]] = []
        self.alarms: list[str] = []
        self.sessions: dict[str, SiteSession] = {}
        self.on_frame: Callable[[SiteSession, Frame], None] = lambda session, frame: None
        self.jobs: dict[str, tuple[str, ...]] = {}
        """Job to the sites that take part."""

    def _note(self, *event: str) -> None:
        self.events = [*self.events[-1000:], event]
        self.changed()

    def site_joined(self, session: SiteSession) -> None:
        self.sessions[session.peer.name] = session
        self._note("joined", session.peer.name)

    def site_reconnected(self, session: SiteSession) -> None:
        self._note("reconnected", session.peer.name)

    def site_disconnected(self, session: SiteSession) -> None:
        self._note("disconnected", session.peer.name)

    def site_left(self, session: SiteSession, reason: str) -> None:
        self._note("left", session.peer.name, reason)

    def site_frame(self, session: SiteSession, frame: Frame) -> None:
        self.frames = [*self.frames[-1000:], (session.peer.name, frame)]
        self.on_frame(session, frame)
        self.changed()

    def alarm(self, text: str) -> None:
        self.alarms.append(text)
        self.changed()

    async def command(self, peer: Peer, name: str, *, args: dict[str, Any]) -> dict[str, Any]:
        if name == "refuse":
            raise ConfigError("that is refused")
        return {"caller": peer.name, "name": name, "args": args}

    async def watch(self, peer: Peer, name: str, *, args: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for number in range(int(args["count"])):
            yield {"number": number}
        if name == "forever":
            await asyncio.Event().wait()

    def upload_target(self, peer: Peer, job: str, *, ref: BlobRef) -> Path:
        return self._folder(peer, job, ref.name, "in") / ref.name

    def download_source(self, peer: Peer, job: str, *, name: str) -> Path:
        return self._folder(peer, job, name, "out") / name

    def no_room(self, text: str) -> None:
        self.alarms.append(text)

    def _folder(self, peer: Peer, job: str, name: str, way: str) -> Path:
        assert self.folder is not None
        if peer.role == "client" and peer.name not in self.jobs.get(job, ()):
            raise ConfigError(f"{peer.name} takes no part in job {job[:80]!r}")
        if "/" in name or name in ("", ".", ".."):
            raise ConfigError(f"{name[:80]!r} is no name of a blob")
        folder = self.folder / job / way
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class SiteSideOf(Watch):
    """Writes down what a site is told."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[Any, ...]] = []
        self.frames: list[Frame] = []
        self.is_connected = False

    def connected(self, *, resumed: bool) -> None:
        self.is_connected = True
        self.events.append(("connected", resumed))
        self.changed()

    def disconnected(self, reason: str) -> None:
        self.is_connected = False
        self.events.append(("disconnected", reason))
        self.changed()

    def frame(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.changed()

    @property
    def reasons(self) -> list[str]:
        """Why it was disconnected, each time."""
        return [event[1] for event in self.events if event[0] == "disconnected"]


@dataclass
class Site:
    """A site that runs."""

    client: SiteClient
    told: SiteSideOf
    running: asyncio.Task[None]

    def send(self, kind: str, **head: Any) -> None:
        self.client.send(Frame(kind, "", head))

    async def stop(self) -> None:
        await self.client.stop()
        await self.running


@dataclass
class Network:
    """A server that runs, and what it was told."""

    server: NetworkServer
    told: ServerSide
    port: int
    sites: list[Site] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def up(
        cls, limits: NetLimits | None = None, *, folder: Path | None = None, port: int = 0, epoch: int = 1
    ) -> AsyncIterator[Self]:
        told = ServerSide(folder)
        server = NetworkServer(
            tls("server", Role.SERVER), identify=peer_of, handlers=told, limits=limits or NetLimits(), epoch=epoch
        )
        network = cls(server, told, await server.start("127.0.0.1", port))
        try:
            yield network
        finally:
            await network.hang_up()
            await server.stop(0.2)

    async def hang_up(self) -> None:
        """Stop the sites."""
        for site in self.sites:
            await site.client.stop()
        for site in self.sites:
            with suppress(ConfigError, asyncio.CancelledError):
                await site.running

    def site(self, name: str, *, port: int | None = None, certificate: Tls | None = None) -> Site:
        """Start a site; it dials by itself."""
        told = SiteSideOf()
        client = SiteClient(
            certificate or tls(name),
            f"127.0.0.1:{port or self.port}",
            hello=lambda: {"settings": {}},
            handlers=told,
            draw=random.Random(name),
        )
        site = Site(client, told, asyncio.ensure_future(client.run()))
        self.sites.append(site)
        return site

    async def joined(self, name: str, *, port: int | None = None) -> Site:
        """Start a site, and wait until both ends know of each other."""
        site = self.site(name, port=port)
        await site.told.until(lambda: site.told.is_connected)
        await self.told.until(lambda: ("joined", name) in self.told.events)
        return site


@asynccontextmanager
async def bare_server(session: Callable[[Any, Any], Any]) -> AsyncIterator[Network]:
    """A server that speaks gRPC over mutual TLS, and answers a session as the test says."""
    server = grpc.aio.server()
    methods = {"Session": grpc.stream_stream_rpc_method_handler(session, response_serializer=pb.Down.SerializeToString)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    mine = tls("server", Role.SERVER)
    credentials = grpc.ssl_server_credentials([(mine.key, mine.certificate)], mine.ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    told = ServerSide()
    network = Network(NetworkServer(mine, identify=peer_of, handlers=told, limits=NetLimits(), epoch=1), told, port)
    try:
        yield network
    finally:
        await network.hang_up()
        await server.stop(0.1)


# -- callers that are no clients of ours -------------------------------------------------------------------------------


@asynccontextmanager
async def dialled(
    port: int, certificate: Tls | None, options: Mapping[str, Any] | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of gRPC's own, with a certificate or (None) without one."""
    if certificate is None:
        credentials = grpc.ssl_channel_credentials(authority().certificate)
    else:
        credentials = grpc.ssl_channel_credentials(certificate.ca, certificate.key, certificate.certificate)
    given = {**dict(client_options(NetLimits())), "grpc.max_send_message_length": -1, **(options or {})}
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=list(given.items())) as channel:
        yield channel


def session_call(channel: grpc.aio.Channel, **options: Any) -> Any:
    """A session's stream that sends raw bytes."""
    return channel.stream_stream(f"/{SERVICE}/Session", response_deserializer=pb.Down.FromString)(**options)


def hello(**fields: Any) -> bytes:
    """The first message of a session."""
    return pb.Up(
        hello=pb.Hello(**{"protocol": PROTOCOL, "software": "a test", "incarnation": "one", **fields})
    ).SerializeToString()


async def read(call: Any) -> Any:
    """The next message of a call, or how it ended: EOF or the status."""
    async with asyncio.timeout(WITHIN_S):
        try:
            return await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()


# -- logs --------------------------------------------------------------------------------------------------------------


@contextmanager
def logged() -> Iterator[list[str]]:
    """What the network logs meanwhile."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    keep = Keep()
    loggers = [logging.getLogger(name) for name in ("hansa.network", "grpc", "asyncio")]
    for logger in loggers:
        logger.addHandler(keep)
    try:
        yield lines
    finally:
        for logger in loggers:
            logger.removeHandler(keep)


# -- a server of its own process, whose memory and log can be looked at -----------------------------------------------


@dataclass
class ServerProgram:
    """A server in another process."""

    port: int
    pid: int
    log: Path

    def rss_mb(self) -> float:
        """What its process holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def lines(self) -> list[str]:
        """What it has logged."""
        return self.log.read_text().splitlines()


@contextmanager
def server_program(folder: Path) -> Iterator[ServerProgram]:
    """Run this file as a server; a site may send and fetch blobs of job `j` if it is site-1."""
    mine = tls("server", Role.SERVER)
    for name, content in (("ca", mine.ca), ("certificate", mine.certificate), ("key", mine.key)):
        (folder / name).write_bytes(content)
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    try:
        assert process.stdout is not None
        yield ServerProgram(int(process.stdout.readline()), process.pid, log)
    finally:
        process.communicate(timeout=WITHIN_S)


async def _serve(folder: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    told = ServerSide(folder / "blobs")
    told.jobs["j"] = ("site-1",)
    told.on_frame = lambda session, frame: session.send(Frame("echo", head={"from": session.peer.name, **frame.head}))
    told.alarm = lambda text: logging.getLogger("alarm").error(text)  # type: ignore[method-assign]
    mine = Tls(*((folder / name).read_bytes() for name in ("ca", "certificate", "key")))
    server = NetworkServer(mine, identify=peer_of, handlers=told, limits=NetLimits(), epoch=1)
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0.2)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
