"""An admin's end of the network: commands, streams, files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines are for its authors

import grpc
import grpc.aio

from hansa.errors import ConfigError, HansaError, RunError
from hansa.wire import federation_pb2 as pb
from hansa.wire.blob_transfer import BlobChannel, Interrupted, Stop, forget
from hansa.wire.diagnosis import diagnosed
from hansa.wire.frames import BlobRef
from hansa.wire.net_frames import dump, load
from hansa.wire.net_options import MESSAGE_BYTES, PROTOCOL, SERVICE, NetLimits, Tls, client_options

_CALL_S = 60.0
_PAUSE_S = 0.1
_KINDS: dict[str, type[HansaError]] = {"ConfigError": ConfigError, "NotPermitted": ConfigError, "KitError": ConfigError}


class Unreachable(RunError):
    """The server cannot be reached; the text says why."""


class AdminClient:
    """A connection to a server, opened when it is first used; on one event loop.

    Args:
        tls: The admin's certificate.
        server: `host:port`.
        tries: How often a transfer that breaks is taken up.
    """

    def __init__(self, tls: Tls, server: str, *, tries: int = 8) -> None:
        self._tls = tls
        self._server = server
        self._tries = tries
        self._limits = NetLimits()
        self._open: grpc.aio.Channel | None = None
        self._blobs: BlobChannel | None = None

    async def call(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        """Give a command.

        Raises:
            HansaError: The server refuses it, with its own words.
            Unreachable: There is no connection.
        """
        call = self._channel().unary_unary(
            f"/{SERVICE}/Call",
            request_serializer=pb.Command.SerializeToString,
            response_deserializer=pb.Answer.FromString,
        )
        try:
            answer = await call(pb.Command(name=name, args=dump(dict(args)), protocol=PROTOCOL), timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            raise await self._why(error) from None
        return _content(answer)

    async def watch(self, name: str, args: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        """Give a command that answers with a stream; raises as `call` does."""
        call = self._channel().unary_stream(
            f"/{SERVICE}/Watch",
            request_serializer=pb.Command.SerializeToString,
            response_deserializer=pb.Answer.FromString,
        )
        stream = call(pb.Command(name=name, args=dump(dict(args)), protocol=PROTOCOL))
        try:
            async for answer in stream:
                yield _content(answer)
        except grpc.aio.AioRpcError as error:
            raise await self._why(error) from None
        finally:
            stream.cancel()

    async def upload(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Bring a file to the server.

        Raises:
            RunError: The server refuses it.
            Unreachable: The connection breaks again and again.
            OSError: The file.
        """
        await self._persistently(
            lambda stop, first: self._blob_channel().upload(job, ref, path=path, stop=stop, is_first=first)
        )

    async def download(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Fetch a file of a job; it appears whole or not at all.

        Raises:
            RunError: The server refuses it, or it is not what was announced.
            Unreachable: The connection breaks again and again.
            OSError: The disk.
        """
        try:
            await self._persistently(lambda stop, _: self._blob_channel().download(job, ref, path=path, stop=stop))
        except (Unreachable, asyncio.CancelledError):
            forget(ref, path)
            raise

    async def _persistently(self, transfer: Callable[[Stop, bool], None]) -> None:
        stop = Stop()
        problem = ""
        try:
            for attempt in range(self._tries):
                try:
                    await asyncio.to_thread(transfer, stop, attempt == 0)
                except Interrupted as error:
                    problem = str(error)
                    await _pause(attempt)
                else:
                    return
        finally:
            stop.set()
        raise Unreachable(f"{self._server}: {problem}")

    async def close(self) -> None:
        """Hang up."""
        if self._open is not None:
            await self._open.close()
            self._open = None
        if self._blobs is not None:
            self._blobs.close()
            self._blobs = None

    def _channel(self) -> grpc.aio.Channel:
        if self._open is None:
            self._open = grpc.aio.secure_channel(
                self._server, self._credentials(), options=client_options(self._limits, self._server)
            )
        return self._open

    def _blob_channel(self) -> BlobChannel:
        if self._blobs is None:
            self._blobs = BlobChannel(
                grpc.secure_channel(
                    self._server, self._credentials(), options=client_options(self._limits, self._server)
                )
            )
        return self._blobs

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.certificate)

    async def _why(self, error: grpc.aio.AioRpcError) -> RunError:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return Unreachable(await diagnosed(self._server, self._tls))
        return RunError(f"the server at {self._server}: {error.details() or error.code().name}")


async def _pause(attempt: int) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_PAUSE_S * 2**attempt):
            await asyncio.Event().wait()


def _content(answer: pb.Answer) -> dict[str, Any]:  # Any: JSON
    if answer.HasField("refusal"):
        raise _KINDS.get(answer.refusal.code, RunError)(answer.refusal.text)
    return load(answer.content, most_bytes=MESSAGE_BYTES)
