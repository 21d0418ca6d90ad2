"""The server's end of blobs: calls wait on the event loop, threads write, read and hash one piece at a time.

So a peer that sends nothing holds no thread, and one that is cut off is noticed by the loop.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio

from hansa.errors import MAY_PASS, ConfigError, DecodeError, HansaError, RunError
from hansa.failpoints import reach
from hansa.wire.blob_files import Part, part_of
from hansa.wire.frames import BlobRef, Peer
from hansa.wire.net_frames import dump, load
from hansa.wire.net_options import CHUNK_BYTES, NetLimits
from hansa.wire.refusals import Refusals


class Closable(Protocol):
    """A file, or something like it."""

    def close(self) -> None:
        """Close it."""
        ...


T = TypeVar("T")
C = TypeVar("C", bound=Closable)

HEADER = "hansa-blob-bin"
_MOST_HEADER_BYTES = 8 << 10
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CUT_S = 0.3
DISK_RESERVE_BYTES = 256 << 20


class TryAgain(RunError):
    """Not now: the caller is to try again in a while."""


class NoRoom(RunError):
    """A blob finds no room on the disk."""


class BlobHandlers(Protocol):
    """Who says where blobs go and lie; called on threads."""

    def upload_target(self, peer: Peer, job: str, *, ref: BlobRef) -> Path:
        """Where a blob goes; raises HansaError to refuse it."""
        ...

    def download_source(self, peer: Peer, job: str, *, name: str) -> Path:
        """Where a blob lies; raises HansaError to refuse it."""
        ...

    def no_room(self, text: str) -> None:
        """The disk does not take a blob; its sender tries again. On the event loop."""
        ...


class BlobService:
    """The server's end.

    Args:
        handlers: Say where blobs are.
        admit: Says who calls, with that session if any; raises HansaError if that is nobody, or may not.
        refusals: Where refusals are logged.
        limits: What is allowed.
        threads: Where files are read and written.
    """

    def __init__(
        self,
        handlers: BlobHandlers,
        *,
        admit: Callable[[Any, str | None], Peer],  # Any: a context of gRPC's
        refusals: Refusals,
        limits: NetLimits,
        threads: Executor,
    ) -> None:
        self._handlers = handlers
        self._admit = admit
        self._refusals = refusals
        self._limits = limits
        self._threads = threads
        self._uploads: dict[Path, asyncio.Task[None]] = {}
        self._moving: Counter[str] = Counter()

    def methods(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """The calls, for gRPC's generic handler."""
        return {
            "Upload": grpc.stream_unary_rpc_method_handler(self._upload),
            "UploadOffset": grpc.unary_unary_rpc_method_handler(self._upload_offset),
            "Download": grpc.unary_stream_rpc_method_handler(self._download),
        }

    # -- the calls ---------------------------------------------------------------------------------------------

    async def _upload_offset(self, request: bytes, context: Any) -> bytes:  # Any: gRPC's
        """How much of a blob is there already."""
        peer, job, ref, _ = await self._asked(request, context)
        try:
            target = await self._target(peer, job, ref)
            await self._superseded(target)
            size = await self._threaded(_size_of, part_of(target, ref))
        except (HansaError, OSError) as error:
            await self._refuse(peer, error, context)
        return dump({"offset": size})

    async def _upload(self, chunks: Any, context: Any) -> bytes:  # Any: gRPC's
        """Take a blob; it appears at its place when all of it is there and its digest is right."""
        peer, job, ref, offset = await self._asked(_header(context), context)
        target = None
        try:
            with self._turn(peer):
                target = await self._target(peer, job, ref)
                await self._superseded(target)
                told = partial(reach, "result.mid_stream") if peer.role == "client" else _nothing
                await self._only(target, self._receive(context, target, ref=ref, offset=offset, on_chunk=told))
        except FileNotFoundError:  # an upload before this one became whole over it
            await self._refuse(peer, TryAgain("what had come of the blob is gone; try again"), context)
        except (HansaError, OSError) as error:
            if isinstance(error, OSError) and target is not None and peer.role != "client":
                await self._threaded(partial(part_of(target, ref).unlink, missing_ok=True))
            await self._refuse(peer, error, context)
        return b"{}"

    async def _download(self, request: bytes, context: Any) -> None:  # Any: gRPC's
        """Give a blob from an offset on."""
        peer, job, ref, offset = await self._asked(request, context)
        try:
            with self._turn(peer):
                await self._give(context, peer, job=job, name=ref.name, offset=offset)
        except (HansaError, OSError) as error:
            await self._refuse(peer, error, context)

    # -- moving ------------------------------------------------------------------------------------------------

    async def _target(self, peer: Peer, job: str, ref: BlobRef) -> Path:
        if not _DIGEST.fullmatch(ref.digest):
            raise DecodeError("a blob without a digest")
        if ref.size_bytes > self._limits.blob_bytes:
            most = self._limits.blob_bytes
            raise ConfigError(f"{ref.name[:80]} has {ref.size_bytes} bytes; the server takes {most} at most")
        return await self._threaded(lambda: self._handlers.upload_target(peer, job, ref=ref))

    async def _superseded(self, target: Path) -> None:
        """An upload of the same blob that is still open was cut off, and its connection is not known to be gone."""
        old = self._uploads.pop(target, None)
        if old is not None:
            old.cancel()
            await asyncio.wait((old,))

    async def _only(self, target: Path, receive: Coroutine[Any, Any, None]) -> None:
        """Receive a blob, unless it begins to come anew."""
        task = self._uploads[target] = asyncio.ensure_future(receive)
        try:
            await asyncio.wait((task,))
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if self._uploads.get(target) is task:
                del self._uploads[target]
        if task.cancelled():
            raise RunError(f"{target.name} is being sent anew")
        task.result()

    async def _receive(
        self, context: Any, target: Path, *, ref: BlobRef, offset: int, on_chunk: Callable[[], None]
    ) -> None:  # Any: gRPC's
        part = await self._opened(lambda: _part_for(target, ref, offset))
        writing: asyncio.Future[None] | None = None
        try:
            left = ref.size_bytes - offset
            while (chunk := await self._chunk(context)) is not grpc.aio.EOF:
                if len(chunk) > left:
                    raise part.spoiled(f"is longer than the {ref.size_bytes} bytes that were announced")
                if len(chunk) != min(left, CHUNK_BYTES) or not chunk:
                    raise part.spoiled(f"comes in pieces of {len(chunk)} bytes")
                left -= len(chunk)
                if writing is not None:
                    await asyncio.shield(writing)
                writing = self._loop.run_in_executor(self._threads, part.write, chunk)
                on_chunk()
            if writing is not None:
                await asyncio.shield(writing)
            if left:
                await _cancelled_if_cut()
                raise part.spoiled(f"breaks off at {ref.size_bytes - left} of {ref.size_bytes} bytes")
            writing = self._loop.run_in_executor(self._threads, part.finish)
            await asyncio.shield(writing)  # who supersedes this waits for it, too
        finally:
            if writing is not None and not writing.done():
                await asyncio.wait((writing,))
            part.close()

    async def _chunk(self, context: Any) -> Any:  # Any: bytes, or gRPC's EOF
        try:
            async with asyncio.timeout(self._limits.blob_stall_s):
                return await context.read()
        except TimeoutError:
            raise TryAgain(f"nothing came for {self._limits.blob_stall_s:g} s") from None

    async def _give(self, context: Any, peer: Peer, *, job: str, name: str, offset: int) -> None:  # Any: gRPC's
        def opened() -> Any:  # Any: a file
            stream = self._handlers.download_source(peer, job, name=name).open("rb", buffering=0)
            stream.seek(offset)
            return stream

        stream = await self._opened(opened)
        reading = self._loop.run_in_executor(self._threads, stream.read, CHUNK_BYTES)
        try:
            while chunk := await asyncio.shield(reading):
                reading = self._loop.run_in_executor(self._threads, stream.read, CHUNK_BYTES)
                async with asyncio.timeout(self._limits.blob_stall_s):
                    await context.write(chunk)
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            return  # the connection is gone
        except TimeoutError:
            raise TryAgain(f"nothing was taken for {self._limits.blob_stall_s:g} s") from None
        finally:
            if not reading.done():
                await asyncio.wait((reading,))
            stream.close()

    # -- who, how many, and why not ----------------------------------------------------------------------------

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def _threaded(self, work: Callable[..., T], *args: Any) -> T:  # Any: the work's
        return await self._loop.run_in_executor(self._threads, work, *args)

    async def _opened(self, work: Callable[[], C]) -> C:
        """Something that `work` opens; closed again if nobody waits for it any more."""
        opening = self._loop.run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait((opening,))
            if opening.exception() is None:
                opening.result().close()
            raise

    async def _asked(self, request: bytes, context: Any) -> tuple[Peer, str, BlobRef, int]:  # Any: gRPC's
        """Who calls, and the job, blob and offset that it is about."""
        asked: _Asked | DecodeError
        try:
            asked = _parsed(request)
        except DecodeError as error:
            asked = error
        try:
            peer = self._admit(context, asked.session if isinstance(asked, _Asked) else None)
        except HansaError as error:
            code = grpc.StatusCode.UNAVAILABLE if isinstance(error, TryAgain) else grpc.StatusCode.PERMISSION_DENIED
            await context.abort(code, str(error))
            raise
        if isinstance(asked, DecodeError):
            await self._refuse(peer, asked, context)
        return peer, asked.job, asked.ref, asked.offset

    @contextmanager
    def _turn(self, peer: Peer) -> Iterator[None]:
        if self._moving[peer.name] >= self._limits.blobs_per_peer:
            raise TryAgain(f"{peer.name} moves {self._limits.blobs_per_peer} blobs already; try again")
        self._moving[peer.name] += 1
        try:
            yield
        finally:
            self._moving[peer.name] -= 1
            if not self._moving[peer.name]:
                del self._moving[peer.name]

    async def _refuse(self, peer: Peer, error: HansaError | OSError, context: Any) -> NoReturn:  # Any: gRPC's
        code, text = grpc.StatusCode.FAILED_PRECONDITION, str(error)
        if isinstance(error, FileNotFoundError):
            code, text = grpc.StatusCode.NOT_FOUND, "the blob is not there"
        elif isinstance(error, OSError):
            code, text = grpc.StatusCode.RESOURCE_EXHAUSTED, f"the server cannot keep or read it: {error.strerror}"
        if isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in MAY_PASS):
            self._handlers.no_room(text)
            # A site has a result that must not be lost; a person reads the line, and may want to do something else.
            code = grpc.StatusCode.UNAVAILABLE if peer.role == "client" else grpc.StatusCode.RESOURCE_EXHAUSTED
        elif isinstance(error, TryAgain):
            code = grpc.StatusCode.UNAVAILABLE
        self._refusals.note(peer, f"blob {type(error).__name__}", text=text)
        await context.abort(code, text)
        raise AssertionError("abort has returned")


def _nothing() -> None:
    pass


async def _cancelled_if_cut() -> None:
    """When a connection is cut, gRPC says first that the stream has ended, and then that it was cancelled."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CUT_S):
            await asyncio.Event().wait()


@dataclass(frozen=True)
class _Asked:
    """What a call is about."""

    session: str
    job: str
    ref: BlobRef
    offset: int


def _header(context: Any) -> bytes:  # Any: gRPC's
    for key, value in context.invocation_metadata() or ():
        if key == HEADER:
            return value if isinstance(value, bytes) else bytes(value, "utf-8")
    return b""


def _parsed(request: bytes) -> _Asked:
    if len(request) > _MOST_HEADER_BYTES:
        raise DecodeError("a call with too much in it")
    said = load(request)
    texts = [said.get(key, "") for key in ("session", "job", "name", "digest")]
    numbers = [said.get(key, 0) for key in ("size", "offset")]
    if not all(isinstance(each, str) for each in texts) or not texts[2]:
        raise DecodeError("a call about no blob")
    if not all(type(each) is int and 0 <= each < 1 << 63 for each in numbers) or 0 < numbers[0] < numbers[1]:
        raise DecodeError("a size or an offset that is none")
    return _Asked(texts[0], texts[1], BlobRef(texts[2], numbers[0], texts[3]), numbers[1])


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _part_for(target: Path, ref: BlobRef, offset: int) -> Part:
    disk = shutil.disk_usage(target.parent)
    if ref.size_bytes + DISK_RESERVE_BYTES > disk.total:
        raise ConfigError(f"the server will never have room for the {ref.size_bytes} bytes of {ref.name[:80]}")
    if ref.size_bytes - offset + DISK_RESERVE_BYTES > disk.free:
        raise NoRoom(f"the server has no room for the {ref.size_bytes} bytes of {ref.name[:80]}")
    return Part(target, ref, offset=offset)
