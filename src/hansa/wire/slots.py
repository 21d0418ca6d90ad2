"""Memory that other processes of this machine can map: it goes over by descriptor, once, and is used again."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from bisect import bisect_right, insort
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hansa.errors import DecodeError, RunError
from hansa.tensors import Array

QUOTA_BYTES = 2 << 30
_FILE_BYTES = 32 << 20  # small slots share a file: a result of 100 KB must not cost a descriptor in both processes
_SHARED_BYTES = 4 << 20  # slots up to this size do
_STEPS = 8  # sizes between a power of two and the next: at most an eighth of a slot lies idle
_NEAR = 3  # sizes that are looked through for a slot whose pages are there already


class MemoryFile:
    """A file, in memory or on disk, mapped here; one or many slots of one size.

    Args:
        number: Its name on every connection; from 1.
        descriptor: The open file, which this object closes.
        slot_bytes: The size of a slot, whole pages.
        num_slots: How many there is room for.
        on_disk: Whether it lies on a disk.
    """

    def __init__(self, number: int, descriptor: int, *, slot_bytes: int, num_slots: int, on_disk: bool) -> None:
        self.number = number
        self.descriptor = descriptor
        self.slot_bytes = slot_bytes
        self.size_bytes = slot_bytes * num_slots
        self.on_disk = on_disk
        self.slots: list[Slot] = []
        os.ftruncate(descriptor, self.size_bytes)
        self.mapping = mmap.mmap(descriptor, self.size_bytes)
        self.memory: Array = np.frombuffer(self.mapping, dtype=np.uint8)
        self.address = int(self.memory.ctypes.data)

    def carve(self) -> Slot | None:
        """A slot that was never used; None if all were."""
        begin = len(self.slots) * self.slot_bytes
        if begin == self.size_bytes:
            return None
        if self.on_disk:
            _reserve(self.descriptor, begin, self.slot_bytes)
        self.slots.append(Slot(self, len(self.slots)))
        return self.slots[-1]

    def close(self) -> None:
        """Close it; only arrays that are alive still hold its map."""
        os.close(self.descriptor)
        del self.mapping, self.memory  # slots refer to this object, and finalizers to them


class Slot:
    """A piece of a memory file that is given out as a whole."""

    __slots__ = ("file", "idle_since", "is_lent", "number", "sent")

    def __init__(self, file: MemoryFile, number: int) -> None:
        self.file = file
        self.number = number
        self.is_lent = False  # an array over it is alive here
        self.sent: Counter[object] = Counter()  # connection: how often it got there and was not yet released
        self.idle_since = 0

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self.file.slot_bytes

    @property
    def begin(self) -> int:
        """Its first byte in the file."""
        return self.number * self.file.slot_bytes


class Place(NamedTuple):
    """Where an array lies: in `slot`, which begins `offset` bytes before it."""

    slot: Slot
    offset: int


class SlotPool:
    """Gives out memory for arrays, and takes a slot back once no array over it is alive here or where it was sent.

    Any thread may use it. What lies idle is given out again, the last that came back first: its pages are there. Idle
    memory goes back to the system only when the quota needs it.

    Args:
        folder: For files where memory does not suffice; None: the system's folder for temporary files. No name stays.
        quota_bytes: How much may lie in memory (a slot counts whole); what goes beyond it lies on disk.
    """

    def __init__(self, folder: Path | None = None, *, quota_bytes: int = QUOTA_BYTES) -> None:
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._quota_bytes = quota_bytes if hasattr(os, "memfd_create") else 0
        self._files: dict[int, MemoryFile] = {}
        self._addresses: list[tuple[int, int]] = []  # where each file is mapped, and its number; sorted
        self._roomy: dict[tuple[int, bool], MemoryFile] = {}  # slot size, on disk: the file to carve from
        self._idle: dict[tuple[int, bool], deque[Slot]] = {}  # slot size, on disk: the last that came back at the end
        self._cold: dict[int, list[Slot]] = {}  # slot size: slots in memory whose pages the system has back
        self._dead: deque[Slot] = deque()  # no array is alive any more; filled by the garbage collector, so no lock
        self._lock = threading.Lock()
        self._clock = 0
        self._is_closed = False
        self.memory_bytes = 0
        """What counts towards the quota: slots in use or idle, with pages in memory."""

    @property
    def num_slots(self) -> int:
        """How many slots there are, in use or not."""
        with self._lock:
            return sum(len(file.slots) for file in self._files.values())

    @property
    def num_files(self) -> int:
        """How many files they lie in; each costs two descriptors here and one where it is received."""
        with self._lock:
            return len(self._files)

    @property
    def num_idle(self) -> int:
        """How many slots are free, with pages in place."""
        with self._lock:
            self._sweep()
            return sum(map(len, self._idle.values()))

    def allocate(self, size_bytes: int) -> Array:
        """A flat writable array of that many uint8 at a multiple of 64, its content arbitrary.

        Raises:
            RunError: Neither memory nor the disk has room.
        """
        if not size_bytes:
            return np.empty(0, dtype=np.uint8)
        capacity = _capacity(size_bytes)
        with self._lock:
            if self._is_closed:
                raise RunError("memory was asked for after the end of the run")
            self._sweep()
            slot = (
                self._reused(capacity, on_disk=False)
                or self._new_in_memory(capacity)
                or self._reused(capacity, on_disk=True)
                or self._carved(capacity, on_disk=True)
            )
            slot.is_lent = True
            # Views refer to the array that first has the memory, not to those in between; of a memoryview the lease
            # is the first for all views of it, and dies after the last of them.
            view = memoryview(slot.file.memory)[slot.begin : slot.begin + size_bytes]
        lease: Array = np.frombuffer(view, dtype=np.uint8)
        weakref.finalize(lease, self._dead.append, slot).atexit = False
        return lease

    def slot_of(self, array: Array) -> Place | None:
        """Which slot of this pool an array lies in, if it lies in one as a whole, without gaps and in C order."""
        if not array.nbytes or not array.flags.c_contiguous:
            return None
        address = int(array.ctypes.data)
        with self._lock:
            index = bisect_right(self._addresses, (address, 1 << 62)) - 1
            if index < 0:
                return None
            file = self._files[self._addresses[index][1]]
        number, offset = divmod(address - file.address, file.slot_bytes)
        if number >= len(file.slots) or offset + array.nbytes > file.slot_bytes:
            return None
        return Place(file.slots[number], offset)

    def sending(self, link: object, places: list[Place]) -> None:
        """Count what is about to go over a connection; an array over each slot must be alive."""
        with self._lock:
            for place in places:
                place.slot.sent[link] += 1

    def released(self, link: object, *, file: int, slot: int, count: int) -> None:
        """The other end has no array any more over `count` of the sendings of a slot.

        Raises:
            DecodeError: It did not get that many.
        """
        with self._lock:
            if self._is_closed:
                return
            slots = self._files[file].slots if file in self._files else []
            if slot >= len(slots) or not 0 < count <= slots[slot].sent[link]:
                raise DecodeError(f"slot {slot} of file {file} was released {count} times, more than it was sent")
            self._returned(slots[slot], link, count=count)

    def forget(self, link: object) -> None:
        """A connection is over: what the other end did not release counts as released."""
        with self._lock:
            for file in self._files.values():
                for slot in file.slots:
                    if link in slot.sent:
                        self._returned(slot, link, count=slot.sent[link])

    def close(self) -> None:
        """Close all files; arrays over them stay valid, here and elsewhere."""
        with self._lock:
            self._is_closed = True
            for file in self._files.values():
                file.close()
            for table in (self._files, self._addresses, self._roomy, self._idle, self._cold, self._dead):
                table.clear()
            self.memory_bytes = 0

    # -- all below with the lock held ---------------------------------------------------------------------------------

    def _sweep(self) -> None:
        while self._dead:
            slot = self._dead.popleft()
            slot.is_lent = False
            if not slot.sent:
                self._free(slot)

    def _returned(self, slot: Slot, link: object, *, count: int) -> None:
        slot.sent[link] -= count
        if not slot.sent[link]:
            del slot.sent[link]
            if not slot.sent and not slot.is_lent:
                self._free(slot)

    def _free(self, slot: Slot) -> None:
        self._clock += 1
        slot.idle_since = self._clock
        self._idle.setdefault((slot.size_bytes, slot.file.on_disk), deque()).append(slot)

    def _reused(self, capacity: int, *, on_disk: bool) -> Slot | None:
        for _ in range(_NEAR):
            if idle := self._idle.get((capacity, on_disk)):
                return idle.pop()
            capacity = _capacity(capacity + 1)
        return None

    def _new_in_memory(self, capacity: int) -> Slot | None:
        if capacity > self._quota_bytes:
            return None
        while self.memory_bytes + capacity > self._quota_bytes:
            if not self._cool():
                return None
        cold = self._cold.get(capacity)
        slot = cold.pop() if cold else self._carved(capacity, on_disk=False)
        self.memory_bytes += capacity
        return slot

    def _cool(self) -> bool:
        """Give the pages of the slot that has been idle for longest back; they are gone from every process's map."""
        rows = [row for (_, on_disk), row in self._idle.items() if row and not on_disk]
        if not rows:
            return False
        slot = min(rows, key=lambda row: row[0].idle_since).popleft()
        slot.file.mapping.madvise(mmap.MADV_REMOVE, slot.begin, slot.size_bytes)
        self._cold.setdefault(slot.size_bytes, []).append(slot)
        self.memory_bytes -= slot.size_bytes
        return True

    def _carved(self, capacity: int, *, on_disk: bool) -> Slot:
        roomy = self._roomy.get((capacity, on_disk))
        try:
            slot = roomy.carve() if roomy else None
            if slot is None:
                file = self._new_file(capacity, on_disk=on_disk)
                slot = file.carve()
        except OSError as error:
            where = f"in {self._folder}" if on_disk else "in memory"
            raise RunError(f"no room for {capacity} bytes {where}: {error.strerror}") from error
        assert slot is not None
        return slot

    def _new_file(self, capacity: int, *, on_disk: bool) -> MemoryFile:
        number = len(self._files) + 1
        descriptor = _file_on_disk(self._folder) if on_disk else _file_in_memory()
        num_slots = _FILE_BYTES // capacity if capacity <= _SHARED_BYTES else 1
        try:
            file = MemoryFile(number, descriptor, slot_bytes=capacity, num_slots=num_slots, on_disk=on_disk)
            if not on_disk:
                # Who shortened a mapped file would kill all who read it.
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except OSError:
            os.close(descriptor)
            raise
        self._files[number] = self._roomy[capacity, on_disk] = file
        insort(self._addresses, (file.address, number))
        return file


def _capacity(size_bytes: int) -> int:
    """The size of the slot for that many bytes, 1 at least."""
    step = max(mmap.PAGESIZE, (1 << (size_bytes - 1).bit_length()) // (2 * _STEPS))
    return -(-size_bytes // step) * step


def _file_in_memory() -> int:
    return os.memfd_create("hansa", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _file_on_disk(folder: Path) -> int:
    descriptor, name = tempfile.mkstemp(prefix="hansa-", suffix=".slots", dir=folder)
    Path(name).unlink()
    return descriptor


def _reserve(descriptor: int, begin: int, size_bytes: int) -> None:
    """Have the disk set room aside: to write to a map of a full disk would end the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, begin, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot
            raise
