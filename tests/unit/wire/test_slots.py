"""Slots come back when no array over them is alive, in any process, and cost a descriptor only now and then."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import DecodeError, RunError
from hansa.wire.slots import SlotPool

MB = 1 << 20


def test_a_slot_is_used_again_once_no_array_over_it_is_alive() -> None:
    pool = SlotPool()
    first = pool.allocate(MB)
    assert first.nbytes == MB
    assert first.flags.writeable
    assert first.ctypes.data % 64 == 0
    address = first.ctypes.data
    kept = first.view(np.float32).reshape(512, 512)[5:]
    del first
    second = pool.allocate(MB)
    assert second.ctypes.data != address  # a view of a view still holds the first
    assert pool.num_slots == 2
    del kept
    third = pool.allocate(MB)
    assert third.ctypes.data == address
    assert pool.num_slots == 2


def test_the_last_that_came_back_is_given_first() -> None:
    pool = SlotPool()
    arrays = [pool.allocate(MB) for _ in range(3)]
    addresses = [array.ctypes.data for array in arrays]
    del arrays[1]
    del arrays[0]
    assert pool.allocate(MB).ctypes.data == addresses[0]


def test_a_slot_serves_sizes_near_its_own_and_no_others() -> None:
    pool = SlotPool()
    pool.allocate(MB)
    near = pool.allocate(MB - 100_000)  # within the slot, and no eighth too small
    assert pool.num_slots == 1
    del near
    assert pool.allocate(MB // 2).nbytes == MB // 2
    assert pool.num_slots == 2
    assert pool.allocate(2 * MB).nbytes == 2 * MB
    assert pool.num_slots == 3


@given(st.integers(1, 64 * MB))
def test_a_slot_is_whole_pages_and_hardly_larger_than_asked(size: int) -> None:
    pool = SlotPool()
    array = pool.allocate(size)
    place = pool.slot_of(array)
    assert place is not None
    assert size <= place.slot.size_bytes < size * 9 / 8 + 4096 + 1
    assert place.slot.size_bytes % 4096 == 0
    assert pool.memory_bytes == place.slot.size_bytes
    pool.close()


def test_nothing_needs_no_slot() -> None:
    pool = SlotPool()
    empty = pool.allocate(0)
    assert empty.nbytes == 0
    assert pool.slot_of(empty) is None
    assert pool.num_slots == 0


def test_small_slots_share_a_file() -> None:
    # 100 KB take 26 pages, 106,496 bytes; 32 MB hold 315 of them. 630 fill two files, one more needs a third.
    pool = SlotPool()
    arrays = [pool.allocate(100_000) for _ in range(630)]
    assert pool.num_files == 2
    for index, array in enumerate(arrays):
        array[:] = index % 251
    assert all((array == index % 251).all() for index, array in enumerate(arrays))
    arrays.append(pool.allocate(100_000))
    assert (pool.num_files, pool.num_slots) == (3, 631)


def test_where_an_array_lies_is_found_by_its_address() -> None:
    pool = SlotPool()
    arrays = [pool.allocate(100_000) for _ in range(3)]
    place = pool.slot_of(arrays[2])
    assert place is not None
    assert (place.slot.number, place.offset) == (2, 0)
    part = pool.slot_of(arrays[1][400:].view(np.float32)[10:20].reshape(2, 5))
    assert part is not None
    assert (part.slot.number, part.offset) == (1, 440)
    assert pool.slot_of(np.zeros(10)) is None
    assert pool.slot_of(arrays[0][::2]) is None  # has gaps
    assert pool.slot_of(arrays[0][:100].reshape(10, 10).T) is None  # not in C order
    assert SlotPool().slot_of(arrays[0]) is None
    whole = place.slot.file.memory
    assert pool.slot_of(whole[100_000:120_000]) is None  # reaches into the next slot
    assert pool.slot_of(whole[5 * place.slot.size_bytes :][:100]) is None  # nobody was given this one


def test_beyond_the_quota_slots_lie_in_files_without_a_name(tmp_path: Path) -> None:
    pool = SlotPool(tmp_path, quota_bytes=MB)
    in_memory = pool.allocate(MB)
    on_disk = pool.allocate(MB)
    places = [pool.slot_of(in_memory), pool.slot_of(on_disk)]
    assert [place.slot.file.on_disk for place in places if place] == [False, True]
    assert list(tmp_path.iterdir()) == []
    on_disk[:] = 7
    assert on_disk.sum() == 7 * MB
    addresses = in_memory.ctypes.data, on_disk.ctypes.data
    del on_disk
    assert pool.allocate(MB).ctypes.data == addresses[1]  # files are used again, too
    del in_memory
    assert pool.allocate(MB).ctypes.data == addresses[0]  # but memory first
    assert pool.num_slots == 2


def test_without_memory_everything_lies_on_disk(tmp_path: Path) -> None:
    pool = SlotPool(tmp_path, quota_bytes=0)
    array = pool.allocate(10)
    place = pool.slot_of(array)
    assert place is not None
    assert place.slot.file.on_disk
    assert pool.memory_bytes == 0


def test_no_room_is_said_in_one_line(tmp_path: Path) -> None:
    pool = SlotPool(tmp_path / "gone", quota_bytes=0)
    with pytest.raises(RunError, match=r"no room for 4096 bytes in .*/gone: No such file or directory"):
        pool.allocate(10)


def test_idle_memory_makes_room_for_other_sizes_and_its_pages_go_back() -> None:
    pool = SlotPool(quota_bytes=10 * MB)
    oldest = pool.allocate(4 * MB)
    later = pool.allocate(4 * MB)
    oldest[:] = later[:] = 1
    oldest_place, later_place = pool.slot_of(oldest), pool.slot_of(later)
    assert oldest_place is not None
    assert later_place is not None
    file = oldest_place.slot.file
    del oldest
    assert pool.num_idle == 1
    del later
    large = pool.allocate(6 * MB)  # 8 MB are idle: one has to go, the one that has been idle for longer
    place = pool.slot_of(large)
    assert place is not None
    assert not place.slot.file.on_disk
    assert pool.memory_bytes == 10 * MB
    assert pool.num_idle == 1
    assert os.fstat(file.descriptor).st_blocks * 512 == 4 * MB
    assert file.memory[:MB].sum() == 0  # a hole
    assert file.memory[later_place.slot.begin :][:MB].sum() == MB
    del large
    again = [pool.allocate(4 * MB), pool.allocate(4 * MB)]  # the one that is idle, then the one without pages
    assert {pool.slot_of(array) for array in again} == {oldest_place, later_place}
    assert pool.num_slots == 3
    assert pool.memory_bytes == 8 * MB


def test_the_memory_that_has_been_idle_for_longest_goes_first_whatever_its_size() -> None:
    pool = SlotPool(quota_bytes=4 * MB)
    small, large = pool.allocate(MB), pool.allocate(2 * MB)
    small_place = pool.slot_of(small)
    assert small_place is not None
    del large
    assert pool.num_idle == 1
    del small
    pool.allocate(MB + MB // 2)  # 4.5 MB with it: the large one goes, though the small one would do, too
    assert pool.memory_bytes == MB + MB + MB // 2
    assert pool.slot_of(pool.allocate(MB)) == small_place


def test_nobody_who_has_a_descriptor_can_shorten_the_file() -> None:
    pool = SlotPool()
    array = pool.allocate(MB)
    place = pool.slot_of(array)
    assert place is not None
    with pytest.raises(PermissionError):
        os.ftruncate(place.slot.file.descriptor, 0)


def test_the_disk_sets_room_aside_before_anybody_writes(tmp_path: Path) -> None:
    pool = SlotPool(tmp_path, quota_bytes=0)
    array = pool.allocate(MB)
    place = pool.slot_of(array)
    assert place is not None
    assert os.fstat(place.slot.file.descriptor).st_blocks * 512 >= MB


def test_what_was_sent_waits_until_it_is_released_as_often() -> None:
    pool = SlotPool()
    array = pool.allocate(MB)
    place = pool.slot_of(array)
    assert place is not None
    pool.sending("left", [place, place])
    pool.sending("right", [place])
    del array
    assert pool.num_idle == 0
    file = place.slot.file.number
    pool.released("left", file=file, slot=0, count=1)
    pool.released("right", file=file, slot=0, count=1)
    assert pool.num_idle == 0
    with pytest.raises(DecodeError, match="released 2 times, more than it was sent"):
        pool.released("left", file=file, slot=0, count=2)
    with pytest.raises(DecodeError, match="more than it was sent"):
        pool.released("right", file=file, slot=0, count=1)
    pool.released("left", file=file, slot=0, count=1)
    assert pool.num_idle == 1


def test_a_slot_with_an_array_here_is_not_free_though_all_released_it() -> None:
    pool = SlotPool()
    array = pool.allocate(MB)
    place = pool.slot_of(array)
    assert place is not None
    pool.sending("link", [place])
    pool.released("link", file=place.slot.file.number, slot=0, count=1)
    assert pool.num_idle == 0
    del array
    assert pool.num_idle == 1


@pytest.mark.parametrize(("file", "slot", "count"), [(9, 0, 1), (1, 9, 1), (1, 0, 0), (0, 0, 1), (2**64 - 1, 0, 1)])
def test_releases_of_what_is_not_there_are_refused(file: int, slot: int, count: int) -> None:
    pool = SlotPool()
    place = pool.slot_of(held := pool.allocate(MB))
    assert place is not None
    pool.sending("link", [place])
    with pytest.raises(DecodeError):
        pool.released("link", file=file, slot=slot, count=count)
    assert held.nbytes == MB


def test_a_connection_that_ends_holds_nothing() -> None:
    pool = SlotPool()
    place = pool.slot_of(array := pool.allocate(MB))
    assert place is not None
    pool.sending("dead", [place, place])
    pool.sending("alive", [place])
    del array
    pool.forget("dead")
    assert pool.num_idle == 0
    pool.forget("alive")
    pool.forget("alive")
    assert pool.num_idle == 1


def test_after_the_end_arrays_stay_valid_and_descriptors_are_gone() -> None:
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    pool = SlotPool()
    array = pool.allocate(MB)
    array[:] = 3
    pool.close()
    pool.close()
    assert array.sum() == 3 * MB
    assert pool.slot_of(array) is None
    pool.released("link", file=1, slot=0, count=1)  # came too late to matter
    with pytest.raises(RunError, match="after the end"):
        pool.allocate(1)
    del array
    assert len(os.listdir("/dev/fd")) == before
