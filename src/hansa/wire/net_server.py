"""The server's end of the network: sessions of sites, commands of admins, blobs; one port, mutual TLS, gRPC."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines are for its authors

import grpc
import grpc.aio

from hansa.errors import ConfigError, HansaError
from hansa.wire import federation_pb2 as pb
from hansa.wire.blob_service import BlobHandlers, BlobService, TryAgain
from hansa.wire.frames import Peer
from hansa.wire.net_frames import dump, load, read_command
from hansa.wire.net_options import MAX_FRAME_BYTES, SERVICE, NetLimits, Tls, server_options, version_problem
from hansa.wire.net_sessions import Sessions, SiteHandlers, SiteSession, address_of
from hansa.wire.refusals import Refusals

__all__ = ["NetworkServer", "ServerHandlers", "SiteSession"]

_MOST_KNOWN = 10_000


class ServerHandlers(SiteHandlers, BlobHandlers, Protocol):
    """Who is told what comes in; on the loop's thread, but for blobs."""

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
        self._tls = tls
        self._identify = identify
        self._project = identify(tls.certificate).project
        self._handlers = handlers
        self._limits = limits
        self._known: dict[bytes, Peer] = {}
        self._refusals = Refusals()
        self._sessions = Sessions(handlers, peer_of=self._peer_of, refusals=self._refusals, limits=limits, epoch=epoch)
        self._threads = ThreadPoolExecutor(limits.blob_threads, "hansa-blobs")
        self._server: grpc.aio.Server | None = None

    @property
    def sessions(self) -> dict[str, SiteSession]:
        """The sessions that live, by site."""
        return self._sessions.by_site

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
                self._sessions.serve, response_serializer=pb.Down.SerializeToString
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
            bound = server.add_secure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", credentials)
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(f"port {port} of {host} cannot be used: another program may listen there")
        await server.start()
        self._server = server
        return bound

    async def stop(self, grace_s: float) -> None:
        """Hang up."""
        self._sessions.close("the server is being stopped")
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
            self._refusals.note_address(address_of(context), "identity", text=str(error))
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
            text = f"{peer.name} has the role {peer.role}, and moves no blobs"
            self._refusals.note(peer, "role", text=text)
            raise ConfigError(text)
        current = self.sessions.get(peer.name)
        if current is None or current.id != session or current.is_over is not None:
            text = "blobs go with a session, and this is not the session of the site"
            if current is not None:
                self._refusals.note(peer, "session", text=text)
            raise TryAgain(text)
        return peer

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
                raise ConfigError(f"{peer.name} has the role {peer.role}, and only admins give commands")
            command = read_command(request)
            problem = version_problem(
                theirs=command.protocol, software_there="?", they="the admin's program", we="the server"
            )
            if problem is not None:
                raise ConfigError(problem)
            return peer, command.name, load(command.args) if command.args else {}
        except HansaError as error:
            self._refusals.note(peer, f"command {type(error).__name__}", text=str(error))
            raise


def _answer(content: dict[str, Any]) -> bytes:  # Any: JSON
    return dump(content, what="the answer", most_bytes=MAX_FRAME_BYTES)


def _refusal(error: HansaError) -> pb.Refusal:
    return pb.Refusal(code=type(error).__name__, text=str(error))
