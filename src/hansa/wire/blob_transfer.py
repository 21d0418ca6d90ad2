"""Blobs to and from a server: raw pieces on streams of their own, resumed at an offset, checked by digest at the end.

This end works on threads and blocks: that is as fast as gRPC gets, and an event loop stays free for what is small.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import grpc

from hansa.errors import DecodeError, RunError
from hansa.failpoints import reach
from hansa.wire.blob_files import Part, part_of
from hansa.wire.blob_service import HEADER
from hansa.wire.frames import BlobRef
from hansa.wire.net_options import CHUNK_BYTES, SERVICE

_OFFSET_S = 60.0
_TRANSIENT = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
)


class Interrupted(RunError):
    """The connection was cut in the middle of a transfer; what came is kept, and it can go on."""


class Cancelled(RunError):
    """Nobody wants the transfer any more."""


class Stop:
    """Ends a transfer from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._call: Any = None  # Any: gRPC's call
        self._is_set = False

    def set(self) -> None:
        """End it, now or when it begins."""
        with self._lock:
            self._is_set = True
            call = self._call
        if call is not None:
            call.cancel()

    def watch(self, call: Any) -> None:  # Any: gRPC's call
        """A call that is part of the transfer has begun."""
        with self._lock:
            self._call = call
            is_set = self._is_set
        if is_set:
            call.cancel()

    def check(self) -> None:
        """Raises Cancelled after `set`."""
        if self._is_set:
            raise Cancelled("the transfer is not wanted any more")


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk
        reach("send.mid_stream")


class BlobChannel:
    """Moves blobs to and from a server; any thread, each call on the caller's.

    Args:
        channel: A channel of its own.
        session: Names the caller's session; an admin has none.
    """

    def __init__(self, channel: grpc.Channel, session: Callable[[], str] = lambda: "") -> None:
        self._channel = channel
        self._session = session
        path = f"/{SERVICE}"
        self._upload: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"{path}/Upload")
        self._offset: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{path}/UploadOffset")
        self._download: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"{path}/Download")

    def upload(self, job: str, ref: BlobRef, *, path: Path, stop: Stop, is_first: bool = True) -> None:
        """Bring a blob; what came before a cut is not sent again.

        Raises:
            Interrupted: The connection; to be tried again, with `is_first=False`.
            RunError: The server refuses it.
            OSError: The file.
        """
        said = self._said(job, ref)
        with path.open("rb") as stream:
            try:
                stop.check()
                if not is_first:
                    asked = self._offset.future(json.dumps(said).encode(), timeout=_OFFSET_S)
                    stop.watch(asked)
                    said["offset"] = json.loads(asked.result())["offset"]
                    stream.seek(said["offset"])
                metadata = ((HEADER, json.dumps(said).encode()),)
                call = self._upload.future(_chunks(stream), metadata=metadata)
                stop.watch(call)
                call.result()
            except (grpc.RpcError, grpc.FutureCancelledError) as error:
                stop.check()
                raise _meaning(error) from None

    def download(self, job: str, ref: BlobRef, *, path: Path, stop: Stop) -> None:
        """Fetch a blob; it appears at `path` when all of it is there.

        Raises:
            Interrupted: The connection; to be tried again, and what came is kept.
            RunError: The server refuses it, or it is not what was announced; nothing is kept.
            OSError: The disk.
        """
        part = Part(path, ref)
        try:
            self._fetch(part, {**self._said(job, ref), "offset": part.size}, ref=ref, stop=stop)
            part.finish()
        except DecodeError as error:
            raise RunError(f"job {job}: {error}") from None
        except Interrupted:
            raise
        except RunError:
            part_of(path, ref).unlink(missing_ok=True)
            raise
        finally:
            part.close()

    def _fetch(self, part: Part, said: dict[str, Any], *, ref: BlobRef, stop: Stop) -> None:
        try:
            stop.check()
            call = self._download(json.dumps(said).encode())
            stop.watch(call)
            for chunk in call:
                if part.size + len(chunk) > ref.size_bytes:
                    call.cancel()
                    raise part.spoiled(f"is longer than the {ref.size_bytes} bytes that were announced")
                part.write(chunk)
        except grpc.RpcError as error:
            stop.check()
            raise _meaning(error) from None

    def _said(self, job: str, ref: BlobRef) -> dict[str, Any]:
        return {
            "session": self._session(),
            "job": job,
            "name": ref.name,
            "size": ref.size_bytes,
            "digest": ref.digest,
        }

    def close(self) -> None:
        """Hang up."""
        with suppress(ValueError):
            self._channel.close()


def forget(ref: BlobRef, path: Path) -> None:
    """A download will not go on: what came of it goes away."""
    part_of(path, ref).unlink(missing_ok=True)


def _meaning(error: Any) -> RunError:  # Any: gRPC's error has the call's methods, which its type does not say
    if isinstance(error, grpc.FutureCancelledError):
        return Interrupted("the connection was closed")
    code, details = error.code(), error.details()
    # gRPC has no code for bytes that were damaged on their way, and that TLS has refused.
    is_broken = code is grpc.StatusCode.UNKNOWN and str(details).startswith("Stream removed")
    kind = Interrupted if code in _TRANSIENT or is_broken else RunError
    return kind(details or code.name)
