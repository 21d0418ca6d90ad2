"""Frames and shared memory between two ends, in one process."""

from __future__ import annotations

import gc
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import EncodeError
from hansa.wire.local_frames import frame_bytes
from hansa.wire.local_link import LocalLink
from hansa.wire.slots import SlotPool

MB = 1 << 20


class Ends:
    """Two ends that are connected, each with a pool; `left` sends in most tests."""

    def __init__(self, folder: Path | None = None, quota_bytes: int = 1 << 30) -> None:
        self.sockets = socket.socketpair()
        self.left_pool = SlotPool(folder, quota_bytes=quota_bytes)
        self.right_pool = SlotPool()
        self.left = LocalLink(self.sockets[0], self.left_pool)
        self.right = LocalLink(self.sockets[1], self.right_pool)

    def close(self) -> None:
        self.left.close()
        self.right.close()
        self.left_pool.close()
        self.right_pool.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.close()


def received(link: LocalLink) -> tuple[Any, list[Any]]:
    frame = link.receive()
    assert frame is not None
    return frame


# -- frames -----------------------------------------------------------------------------------------------------------

HEADS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(HEADS, st.lists(st.binary(max_size=100), max_size=20))
def test_what_is_sent_arrives(head: object, parts: list[bytes]) -> None:
    ends = Ends()
    ends.left.send(head, parts)
    got, arrays = received(ends.right)
    assert got == head
    assert [part.tobytes() for part in arrays] == parts
    assert all(part.ctypes.data % 16 == 0 and not part.flags.writeable for part in arrays if part.nbytes)
    ends.close()


def test_arrays_of_every_form_travel_as_their_bytes(ends: Ends) -> None:
    scalar, gaps, columns = np.array(2.5), np.arange(10)[::2], np.arange(6, dtype=np.int16).reshape(2, 3).T
    ends.left.send([], [scalar, gaps, columns, np.zeros((0, 3)), memoryview(b"abc")])
    _, parts = received(ends.right)
    assert [part.tobytes() for part in parts] == [
        scalar.tobytes(), gaps.tobytes(), columns.tobytes(), b"", b"abc",
    ]  # fmt: skip


def test_frames_keep_their_order_and_their_heads_may_be_null(ends: Ends) -> None:
    for number in range(100):
        ends.left.send(number)
    ends.left.send(None)
    assert [received(ends.right)[0] for _ in range(101)] == [*range(100), None]


def test_up_to_64_kb_ride_along_and_more_is_copied_into_a_slot(ends: Ends) -> None:
    small, large = bytes(range(256)) * 256, bytes(range(256)) * 256 + b"!"
    ends.left.send("both", [small, large])
    _, parts = received(ends.right)
    assert [part.tobytes() for part in parts] == [small, large]
    assert [part.flags.writeable for part in parts] == [False, True]
    assert (ends.left.num_copies, ends.left_pool.num_slots, ends.right.num_mapped) == (1, 1, 1)


def test_many_small_parts_share_a_slot(ends: Ends) -> None:
    values = [np.full(10_001, number, dtype=np.uint8) for number in range(30)]  # 300 KB; 256 KB would ride along
    ends.left.send("many", values)
    _, parts = received(ends.right)
    assert all((part == value).all() and part.nbytes == 10_001 for part, value in zip(parts, values, strict=True))
    assert all(part.ctypes.data % 64 == 0 for part in parts)
    assert ends.left_pool.num_slots == 1
    del parts
    ends.right.flush_releases()
    ends.left.send("next")
    ends.right.send("answer")
    received(ends.left)
    assert ends.left_pool.num_idle == 1


# -- slots ------------------------------------------------------------------------------------------------------------


def test_what_lies_in_a_slot_is_not_copied(ends: Ends) -> None:
    memory = ends.left_pool.allocate(MB)
    memory[:] = 1
    ends.left.send("here", [memory[100:200], memory.view(np.float32)[1000:]])
    _, (few, rest) = received(ends.right)
    assert (few.nbytes, rest.nbytes) == (100, MB - 4000)
    memory[150] = 7  # both have the same memory
    assert few[50] == 7
    rest[0] = 9
    assert memory[4000] == 9
    assert ends.left.num_copies == 0


def test_a_slot_that_comes_again_needs_no_new_map_and_no_descriptor(ends: Ends) -> None:
    addresses = set()
    for number in range(20):
        memory = ends.left_pool.allocate(MB)
        memory[:] = number
        ends.left.send(number, [memory])
        del memory
        _, (part,) = received(ends.right)
        assert part[0] == part[-1] == number
        addresses.add(part.ctypes.data)
        del part
        ends.right.send("thanks")  # takes the release along
        received(ends.left)
    assert len(addresses) == 1
    assert (ends.left_pool.num_slots, ends.right.num_mapped) == (1, 1)


def test_a_slot_is_free_only_when_both_ends_let_go(ends: Ends) -> None:
    memory = ends.left_pool.allocate(MB)
    ends.left.send(1, [memory])
    ends.left.send(2, [memory, memory[:10]])
    _, (first,) = received(ends.right)
    _, second = received(ends.right)

    def idle_after_release() -> int:
        ends.right.flush_releases()
        ends.right.send("tick")
        received(ends.left)
        return ends.left_pool.num_idle

    kept = first.view(np.int32)[5:9]
    del memory, second
    assert idle_after_release() == 0
    del first
    assert idle_after_release() == 0
    del kept
    assert idle_after_release() == 1


def test_a_release_needs_no_frame_of_the_users(ends: Ends) -> None:
    ends.left.send("x", [ends.left_pool.allocate(MB)])
    received(ends.right)
    gc.collect()
    ends.right.flush_releases()
    ends.right.flush_releases()  # there is nothing left to say
    assert ends.right.num_frames == 1
    ends.right.send("end")
    assert received(ends.left) == ("end", [])  # and what comes before is not seen
    assert ends.left_pool.num_idle == 1


def test_two_connections_count_for_themselves() -> None:
    pool = SlotPool()
    pairs = [socket.socketpair() for _ in range(2)]
    senders = [LocalLink(pair[0], pool) for pair in pairs]
    receivers = [LocalLink(pair[1], SlotPool()) for pair in pairs]
    memory = pool.allocate(MB)
    for sender in senders:
        sender.send("model", [memory])
    del memory
    parts = [received(receiver)[1] for receiver in receivers]
    parts[0].clear()
    receivers[0].send("done")
    received(senders[0])
    assert pool.num_idle == 0
    senders[1].close()  # it will not release any more
    assert pool.num_idle == 1
    for link in (*senders, *receivers):
        link.close()


def test_beyond_the_quota_descriptors_of_files_go_over(tmp_path: Path) -> None:
    ends = Ends(tmp_path, quota_bytes=MB)
    arrays = [ends.left_pool.allocate(MB) for _ in range(3)]
    for number, memory in enumerate(arrays):
        memory[:] = number
    ends.left.send("three", arrays)
    _, parts = received(ends.right)
    assert [int(part[-1]) for part in parts] == [0, 1, 2]
    assert ends.right.num_mapped == 2  # the one in memory; the two on disk share a file
    assert list(tmp_path.iterdir()) == []
    ends.close()


def test_what_was_received_outlives_the_sender(ends: Ends) -> None:
    memory = ends.left_pool.allocate(MB)
    memory[:] = 5
    ends.left.send("last", [memory])
    _, (part,) = received(ends.right)
    del memory
    ends.left.close()
    ends.left_pool.close()
    assert ends.right.receive() is None
    ends.right.close()
    part[0] = 6
    assert part.sum() == 5 * MB + 1
    del part  # its release has nowhere to go


# -- limits -----------------------------------------------------------------------------------------------------------


def test_too_many_descriptors_are_refused_and_nothing_is_sent(ends: Ends) -> None:
    arrays = [ends.left_pool.allocate(5 * MB) for _ in range(251)]  # each has a file of its own; no page is touched
    with pytest.raises(EncodeError, match="brings 251 new files, 250 at most"):
        ends.left.send("all", arrays)
    ends.left.send("some", arrays[:250])
    ends.left.send("all", arrays)  # 250 are known by now
    assert len(received(ends.right)[1]) == 250
    assert len(received(ends.right)[1]) == 251
    assert ends.right.num_mapped == 251


def test_heads_that_are_no_json_or_too_long_are_refused(ends: Ends) -> None:
    with pytest.raises(EncodeError, match="no JSON"):
        ends.left.send({"what": object()})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="no JSON"):
        ends.left.send(loop)
    with pytest.raises(EncodeError, match="67108865 bytes, 67108864 at most"):
        ends.left.send("x" * (64 * MB - 1))
    ends.left.send("fine")
    assert received(ends.right)[0] == "fine"


def test_a_refused_frame_loses_no_release(ends: Ends) -> None:
    ends.right.send("x", [ends.right_pool.allocate(MB)])
    received(ends.left)
    with pytest.raises(EncodeError):
        ends.left.send("many", [ends.left_pool.allocate(5 * MB) for _ in range(251)])
    ends.left.send("few")
    received(ends.right)
    assert ends.right_pool.num_idle == 1


# -- the end ----------------------------------------------------------------------------------------------------------


def test_at_the_end_who_receives_gets_none_and_who_sends_an_error(ends: Ends) -> None:
    ends.left.send("last words")
    ends.left.close()
    ends.left.close()
    assert received(ends.right)[0] == "last words"
    assert ends.right.receive() is None
    assert ends.right.receive() is None
    with pytest.raises(ConnectionError):
        ends.right.send("too late")
    with pytest.raises(ConnectionError, match="closed"):
        ends.right.send("and again")
    with pytest.raises(ConnectionError, match="closed"):
        ends.left.send("too late")
    assert ends.left.receive() is None
    ends.left.flush_releases()


def test_close_wakes_who_waits(ends: Ends) -> None:
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(ends.right.receive()))
    waiting.start()
    full = threading.Thread(target=lambda: got.append(sent_until_the_end(ends.left)))
    ends.right.close()
    waiting.join(10)
    full.start()
    ends.left.close()
    full.join(10)
    assert got[0] is None
    assert isinstance(got[1], ConnectionError)


def sent_until_the_end(link: LocalLink) -> ConnectionError:
    try:
        while True:
            link.send("x" * 100_000)
    except ConnectionError as error:
        return error


def test_close_wakes_who_sends_to_an_end_that_does_not_receive(ends: Ends) -> None:
    errors: list[ConnectionError] = []
    full = threading.Thread(target=lambda: errors.append(sent_until_the_end(ends.left)))
    full.start()
    while ends.left.num_frames < 2:  # then the socket is full before long
        full.join(0.01)
    ends.left.close()
    full.join(10)
    assert len(errors) == 1


def test_an_end_in_the_midst_of_a_frame_is_the_end(ends: Ends) -> None:
    frame = frame_bytes(b'"head"')
    ends.sockets[0].sendall(frame[:-1])
    ends.left.close()
    assert ends.right.receive() is None


# -- many threads, and the garbage collector --------------------------------------------------------------------------


def test_no_slot_is_used_again_while_somebody_reads_it(ends: Ends) -> None:
    """Two threads send slots full of one number each; the receiver keeps some for a while, and none ever changes."""
    num_each = 1000
    wrong: list[int] = []

    def send(offset: int) -> None:
        for number in range(offset, offset + num_each):
            memory = ends.left_pool.allocate(70_000).view(np.uint32)
            memory[:] = number
            ends.left.send(number, [memory])

    def hear_releases() -> None:
        while ends.left.receive() is not None:
            pass

    draw = random.Random(3)
    threads = [threading.Thread(target=send, args=(offset,)) for offset in (1000, 5000)]
    listening = threading.Thread(target=hear_releases)
    for thread in (*threads, listening):
        thread.start()
    kept: list[tuple[int, Any]] = []
    for _ in range(2 * num_each):
        number, (part,) = received(ends.right)
        kept.append((number, part.view(np.uint32)))
        del part
        if len(kept) > 20:
            number, values = kept.pop(draw.randrange(20))
            wrong += [number] if (values != number).any() else []
            del values
    for thread in threads:
        thread.join(10)
    wrong += [number for number, values in kept if (values != number).any()]
    assert wrong == []
    # 21 are kept; more are under way, in the socket and released but not yet heard of. Without reuse it were 2000.
    assert ends.left_pool.num_slots < 2000
    kept.clear()
    ends.right.send("end")
    ends.right.close()
    listening.join(10)
    assert ends.left_pool.num_idle == ends.left_pool.num_slots


def test_arrays_that_die_in_the_midst_of_sending_block_nothing(ends: Ends) -> None:
    def talk() -> None:
        for number in range(1, 300):
            ends.left.send(number, [ends.left_pool.allocate(70_000) for _ in range(3)])
            cycle: list[Any] = [received(ends.right)]
            cycle.append(cycle)  # only the garbage collector frees this
            del cycle
            gc.set_threshold(number)  # it strikes at that many objects, so once at every place
            gc.enable()
            ends.right.send(number, [b"x"] * 100)
            gc.disable()
            received(ends.left)

    thresholds = gc.get_threshold()
    gc.disable()
    try:
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    gc.collect()
    ends.right.send("end")
    received(ends.left)
    assert ends.left_pool.num_idle == ends.left_pool.num_slots


def test_releases_wait_for_nobody(ends: Ends) -> None:
    """The other end does not receive, the socket is full, yet telling it what is free returns; nothing gets lost."""
    ends.sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    arrays = [ends.left_pool.allocate(4096) for _ in range(3000)]
    for begin in range(0, 3000, 500):
        ends.left.send(begin, arrays[begin : begin + 500])
        received(ends.right)
        ends.right.flush_releases()  # 500 releases, 12 KB
    arrays.clear()
    threading.Thread(target=ends.right.send, args=("after them",)).start()
    assert received(ends.left)[0] == "after them"
    assert ends.left_pool.num_idle == 3000
