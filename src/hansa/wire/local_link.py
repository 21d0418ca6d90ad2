"""Frames between two processes of one machine and user: heads over a unix socket, arrays in memory that both map."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import stat
import threading
import weakref
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import numpy as np

from hansa.errors import DecodeError
from hansa.tensors import Array
from hansa.wire.limits import INLINE_BYTES
from hansa.wire.local_frames import (
    MAX_DESCRIPTORS,
    PREFIX_BYTES,
    Body,
    FileRow,
    PartRow,
    Prefix,
    ReleaseRow,
    flat,
    frame_bytes,
    head_bytes,
    parse_body,
)
from hansa.wire.slots import MemoryFile, Place, SlotPool
from hansa.wire.structure import Json

_RAW_BYTES = 256 * 1024  # raw parts of one frame beyond this share a slot: frames should fit the socket's buffer
_ALIGNMENT = 64
_ANCILLARY_BYTES = socket.CMSG_SPACE((MAX_DESCRIPTORS + 3) * 4)
_RECEIVE_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class LocalLink:
    """One end of a connection to another process of this machine.

    A part that lies in a slot of the pool goes over without a copy: both processes then have the same memory, and what
    one writes the other sees. A slot is used again once all arrays over it are gone on both sides; to learn of that,
    an end must keep receiving. An end that only waits should call `flush_releases` when it let go of arrays.

    Close a link after the other process ended, or when it will not write to its arrays any more: what it did not
    release is used again from then on.

    Args:
        sock: A connected unix stream socket, which the link closes.
        pool: Where parts lie, and what those that do not are copied into.
    """

    def __init__(self, sock: socket.socket, pool: SlotPool) -> None:
        sock.settimeout(None)
        self._sock = sock
        self._pool = pool
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()
        self._told: set[int] = set()  # our files that the other end has mapped
        self._mapped: dict[int, Array] = {}  # the other end's files
        self._released: deque[tuple[int, int]] = deque()  # filled by the garbage collector, so without a lock
        self._owed: Counter[tuple[int, int]] = Counter()  # taken from there, not yet sent
        self._unsent = memoryview(b"")  # the rest of a frame that the socket had no room for
        self._is_broken = False  # in the midst of a frame, or left there
        self._is_closed = False
        self._is_over = False  # nothing more will be received
        self.num_copies = 0
        """How many parts were copied into slots."""
        self.num_frames = 0
        """How many frames were sent, those with nothing but releases included."""

    @property
    def num_mapped(self) -> int:
        """How many files of the other end were mapped here."""
        return len(self._mapped)

    def fileno(self) -> int:
        """The socket's descriptor, to wait for; something may be there that is no frame for the caller."""
        return self._sock.fileno()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, head: Json, parts: Sequence[bytes | Array] = ()) -> None:
        """Send one frame; any thread. Waits while the other end does not receive.

        Args:
            head: What `json.dumps` takes.
            parts: Bytes and arrays, which must not be written to until the other end is done with them.

        Raises:
            EncodeError: Too much for one frame; nothing was sent.
            ConnectionError: The other end is gone, or the link is closed.
        """
        data = head_bytes(head)
        arrays, places = self._placed([flat(part) for part in parts])
        with self._send_lock:
            files = {place.slot.file.number: place.slot.file for place in places if place is not None}
            fresh = [file for number, file in files.items() if number not in self._told]
            self._collect_releases()
            frame = frame_bytes(
                data,
                files=[FileRow(file.number, file.size_bytes) for file in fresh],
                releases=[ReleaseRow(*slot, count) for slot, count in self._owed.items()],
                parts=[_row(part, place) for part, place in zip(arrays, places, strict=True)],
                raw=[part for part, place in zip(arrays, places, strict=True) if place is None],
            )
            with self._writing():
                self._owed.clear()
                self._pool.sending(self, [place for place in places if place is not None])
                self._told.update(file.number for file in fresh)
                self._write(frame, fresh)

    def flush_releases(self) -> None:
        """Tell the other end which of its slots are free, without waiting; any thread."""
        if not (self._released or self._owed or self._unsent) or not self._send_lock.acquire(blocking=False):
            return  # whoever sends just now takes them along, or the next one does
        try:
            with suppress(ConnectionError), self._writing():
                self._collect_releases()
                if self._owed and not self._unsent:
                    rows = [ReleaseRow(*slot, count) for slot, count in self._owed.items()]
                    self._unsent = memoryview(frame_bytes(b"", releases=rows))
                    self._owed.clear()
                    self.num_frames += 1
                with suppress(BlockingIOError):
                    while self._unsent:
                        self._unsent = self._unsent[self._sock.send(self._unsent, socket.MSG_DONTWAIT) :]
        finally:
            self._send_lock.release()

    def _placed(self, parts: list[Array]) -> tuple[list[Array], list[Place | None]]:
        """Where each part lies, once those that are too large for the frame are in slots."""
        parts = list(parts)
        places = [self._pool.slot_of(part) for part in parts]
        raw = [index for index, place in enumerate(places) if place is None]
        groups = [[index] for index in raw if parts[index].nbytes > INLINE_BYTES]
        small = [index for index in raw if 0 < parts[index].nbytes <= INLINE_BYTES]
        if sum(parts[index].nbytes for index in small) > _RAW_BYTES:
            groups.append(small)
        for group in groups:
            for index, copy in zip(group, self._copied([parts[index] for index in group]), strict=True):
                parts[index], places[index] = copy, self._pool.slot_of(copy)
        return parts, places

    def _copied(self, parts: list[Array]) -> Iterator[Array]:
        sizes = [part.nbytes + -part.nbytes % _ALIGNMENT for part in parts]
        memory = self._pool.allocate(sum(sizes))
        begin = 0
        for part, size in zip(parts, sizes, strict=True):
            copy = memory[begin : begin + part.nbytes]
            copy[:] = part
            begin += size
            self.num_copies += 1
            yield copy

    def _collect_releases(self) -> None:
        while self._released:
            self._owed[self._released.popleft()] += 1

    def _write(self, frame: bytes, fresh: Sequence[MemoryFile]) -> None:
        self._sock.sendall(self._unsent)
        self._unsent = memoryview(b"")
        descriptors = array("i", [file.descriptor for file in fresh])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if fresh else []
        num_sent = self._sock.sendmsg([frame], ancillary)
        if num_sent < len(frame):
            self._sock.sendall(memoryview(frame)[num_sent:])
        self.num_frames += 1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around whatever writes: a frame that was left in its middle makes the link useless."""
        if self._is_closed or self._is_broken:
            raise ConnectionError("the link to the other process is closed")
        self._is_broken = True
        try:
            yield
        except ConnectionError:
            raise
        except OSError as error:
            text = "too many descriptors under way" if error.errno == errno.ETOOMANYREFS else error.strerror
            raise ConnectionError(f"the link to the other process broke: {text}") from error
        self._is_broken = False

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self) -> tuple[Json, list[Array]] | None:
        """Wait for a frame; one thread only.

        Returns:
            Its head, and its parts as flat arrays of uint8: writable views of memory that the sender has mapped, too,
            where they came in slots; else read-only views of the frame. None at the end of the connection.

        Raises:
            DecodeError: What came is no frame; the connection is of no use any more.
        """
        with self._receive_lock:
            while not self._is_over:
                self.flush_releases()
                try:
                    with ExitStack() as held:
                        body = self._read(held)
                except DecodeError:
                    self._shut_down()
                    raise
                except OSError:
                    body = None
                if body is None:
                    break
                if body.has_head:
                    return body.head, body.fill(self._leased)
            self._is_over = True
        return None

    def abandon(self) -> None:
        """Let go of the connection in a process that was forked and has no part in it; the other one keeps it."""
        self._is_closed = self._is_over = True
        self._sock.close()

    def close(self) -> None:
        """End the connection; who waits in `receive` gets None, at both ends. Received arrays stay valid."""
        self._shut_down()  # first, since it wakes those who hold the locks
        with self._send_lock, self._receive_lock:
            self._sock.close()
        self._pool.forget(self)
        self._mapped.clear()

    def _shut_down(self) -> None:
        self._is_closed = self._is_over = True
        with suppress(OSError):  # the other end was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self, held: ExitStack) -> Body | None:
        """The next frame, its files mapped and its releases passed on; `held` closes its descriptors."""
        descriptors: list[int] = []
        data = b""
        while len(data) < PREFIX_BYTES:
            chunk, ancillary, _, _ = self._sock.recvmsg(PREFIX_BYTES - len(data), _ANCILLARY_BYTES, _RECEIVE_FLAGS)
            for descriptor in _descriptors(ancillary):
                held.callback(os.close, descriptor)
                descriptors.append(descriptor)
            if not chunk:
                return None
            data += chunk
        prefix = Prefix.parse(data)
        if len(descriptors) != prefix.num_files:
            raise DecodeError(f"a frame with {prefix.num_files} files and {len(descriptors)} descriptors")
        memory: Array = np.empty(prefix.body_bytes, dtype=np.uint8)
        if not self._read_into(memory.data):
            return None
        body = parse_body(prefix, memory)
        for row, descriptor in zip(body.files, descriptors, strict=True):
            self._map(row, descriptor)
        for release in body.releases:
            self._pool.released(self, file=release.file, slot=release.slot, count=release.times)
        for part in body.parts:
            self._check(part)
        return body

    def _read_into(self, target: memoryview) -> bool:
        while target:
            count = self._sock.recv_into(target)
            if not count:
                return False
            target = target[count:]
        return True

    def _map(self, row: FileRow, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not 0 < row.size_bytes <= status.st_size:
            raise DecodeError(f"file {row.file} has no {row.size_bytes} bytes")
        if row.file in self._mapped or not row.file:
            raise DecodeError(f"file {row.file} is there already")
        try:
            self._mapped[row.file] = np.frombuffer(mmap.mmap(descriptor, row.size_bytes), dtype=np.uint8)
        except (OSError, OverflowError) as error:
            raise DecodeError(f"file {row.file} cannot be mapped: {error}") from error

    def _check(self, part: PartRow) -> None:
        memory = self._mapped.get(part.file)
        if part.file and (memory is None or not 0 < part.size_bytes <= memory.nbytes - part.offset):
            raise DecodeError(f"a part cannot lie at {part.offset} of file {part.file}, {part.size_bytes} bytes long")

    def _leased(self, part: PartRow) -> Array:
        # See SlotPool.allocate: a lease dies after the last view of it.
        view = memoryview(self._mapped[part.file])[part.offset : part.offset + part.size_bytes]
        lease: Array = np.frombuffer(view, dtype=np.uint8)
        weakref.finalize(lease, self._released.append, (part.file, part.slot)).atexit = False
        return lease


def _row(part: Array, place: Place | None) -> PartRow:
    if place is None:
        return PartRow(0, 0, 0, part.nbytes)
    return PartRow(place.slot.file.number, place.slot.number, place.slot.begin + place.offset, part.nbytes)


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            yield from array("i", data[: len(data) // 4 * 4])
