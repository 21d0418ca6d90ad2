"""What comes from the other process is checked before it is used: bad frames, files, releases."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import DecodeError
from hansa.tensors import Array
from hansa.wire.local_frames import MAX_FRAME_BYTES, FileRow, PartRow, ReleaseRow, frame_bytes
from hansa.wire.local_link import LocalLink
from hansa.wire.slots import SlotPool

MB = 1 << 20


class Ends:
    """A link, and the other end of its connection: a socket, and (for good frames) a link over it."""

    def __init__(self) -> None:
        self.attacker, sock = socket.socketpair()
        self.pool = SlotPool()
        self.link = LocalLink(sock, self.pool)
        self.sender_pool = SlotPool()
        self.sender = LocalLink(self.attacker, self.sender_pool)


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.link.close()
    both.sender.close()
    both.sender_pool.close()
    both.pool.close()


def received(link: LocalLink) -> tuple[object, list[Array]]:
    frame = link.receive()
    assert frame is not None
    return frame


def raw_frame(*numbers: int, tables: list[int] | None = None, head: bytes = b"1", rest: bytes = b"") -> bytes:
    """A frame of any numbers; without a body length, the right one."""
    body = struct.pack(f"<{len(tables or [])}Q", *(tables or [])) + head + rest
    return struct.pack("<5I", *(numbers if len(numbers) == 5 else (len(body), *numbers))) + body


HUGE = 2**64 - 1
HOSTILE = {
    "a frame of 268435457 bytes": raw_frame(MAX_FRAME_BYTES + 1, 1, 0, 0, 0),
    "a head of 67108865 bytes": raw_frame(MAX_FRAME_BYTES, 64 * MB + 1, 0, 0, 0),
    "a frame with 251 descriptors": raw_frame(1, 251, 0, 0),
    "a frame of 1 bytes cannot hold": raw_frame(1, 1, 0, 2**31, 0),
    "cannot hold 97": raw_frame(1, 0, 4, 0),
    "parts and no head": raw_frame(0, 0, 0, 1, tables=[0, 0, 0, 0], head=b""),
    "1 files and 0 descriptors": raw_frame(1, 1, 0, 0, tables=[1, 10]),
    "holds 1": raw_frame(1, 0, 0, 0, rest=b"more"),
    "the head of a frame is no JSON": raw_frame(1, 0, 0, 0, head=b"{"),
    "the head .* codec can't decode": raw_frame(2, 0, 0, 0, head=b'"\xff'),
    "the head .* integer string": raw_frame(5000, 0, 0, 0, head=b"9" * 5000),
    "the head .* recursion": raw_frame(100_000, 0, 0, 0, head=b"[" * 100_000),
    "a part ends at byte": raw_frame(1, 0, 0, 1, tables=[0, 0, 0, HUGE]),
    "a part cannot lie at 0 of file 7": raw_frame(1, 0, 0, 1, tables=[7, 0, 0, 1]),
    "released 1 times": raw_frame(1, 0, 1, 0, tables=[1, 0, 1]),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_bad_frame_is_refused_and_ends_the_connection(text: str, ends: Ends) -> None:
    ends.attacker.sendall(HOSTILE[text])
    ends.sender.send("never read")
    with pytest.raises(DecodeError, match=text):
        ends.link.receive()
    assert ends.link.receive() is None
    with pytest.raises(ConnectionError):
        ends.link.send("x")


def send_with_files(sock: socket.socket, frame: bytes, *descriptors: int) -> None:
    sock.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))])


def test_a_part_outside_its_file_is_refused(ends: Ends) -> None:
    good = ends.sender_pool.allocate(4096)
    ends.sender.send("good", [good])
    received(ends.link)
    size = 32 * MB  # of the whole file
    ends.attacker.sendall(frame_bytes(b"1", parts=[PartRow(1, 0, size - 1, 1)]))
    assert received(ends.link)[1][0].nbytes == 1
    ends.attacker.sendall(frame_bytes(b"1", parts=[PartRow(1, 0, size - 1, 2)]))
    with pytest.raises(DecodeError, match="a part cannot lie at 33554431 of file 1, 2 bytes long"):
        ends.link.receive()


@pytest.mark.parametrize("row", [PartRow(1, 0, 0, 0), PartRow(1, 0, HUGE, HUGE), PartRow(1, 0, 32 * MB, 1)])
def test_an_empty_or_far_part_is_refused(row: PartRow, ends: Ends) -> None:
    ends.sender.send("good", [ends.sender_pool.allocate(4096)])
    received(ends.link)
    ends.attacker.sendall(frame_bytes(b"1", parts=[row]))
    with pytest.raises(DecodeError, match="a part cannot lie"):
        ends.link.receive()


@pytest.mark.parametrize(
    "rows", [[FileRow(5, 4097)], [FileRow(5, 0)], [FileRow(0, 10)], [FileRow(5, 8), FileRow(5, 8)]]
)
def test_a_file_that_is_not_as_announced_is_refused(rows: list[FileRow], ends: Ends) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        send_with_files(ends.attacker, frame_bytes(b"1", files=rows), *[file.fileno()] * len(rows))
    with pytest.raises(DecodeError, match=r"file [05]"):
        ends.link.receive()


def test_a_descriptor_that_is_no_writable_file_is_refused_and_all_are_closed(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(4096))
    before = len(os.listdir("/dev/fd"))
    for descriptor in (ends.attacker.fileno(), os.open(tmp_path / "x", os.O_RDONLY)):
        pair = socket.socketpair()
        link = LocalLink(pair[1], SlotPool())
        send_with_files(pair[0], frame_bytes(b"1", files=[FileRow(1, 4096)]), descriptor)
        send_with_files(pair[0], frame_bytes(b"1"), descriptor)
        with pytest.raises(DecodeError, match=r"has no 4096 bytes|cannot be mapped"):
            link.receive()
        link.close()
        pair[0].close()
    os.close(descriptor)
    assert len(os.listdir("/dev/fd")) == before


def test_descriptors_that_nobody_announced_are_closed(ends: Ends) -> None:
    before = len(os.listdir("/dev/fd"))
    send_with_files(ends.attacker, frame_bytes(b"1"), 0, 1, 2)
    with pytest.raises(DecodeError, match="0 files and 3 descriptors"):
        ends.link.receive()
    assert len(os.listdir("/dev/fd")) == before


def test_a_release_of_more_than_was_sent_is_refused(ends: Ends) -> None:
    memory = ends.pool.allocate(MB)
    ends.link.send("x", [memory])
    ends.attacker.sendall(frame_bytes(b"", releases=[ReleaseRow(1, 0, 2)]))
    with pytest.raises(DecodeError, match="released 2 times, more than it was sent"):
        ends.link.receive()


@given(st.data())
def test_no_bytes_raise_anything_else(data: st.DataObject) -> None:
    frame = bytearray(frame_bytes(b'{"a":[1]}', parts=[PartRow(0, 0, 0, 5)], raw=[np.zeros(5, np.uint8)]))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.sampled_from([0, 1, 2, 8, 44, 127, 255]))
    pair = socket.socketpair()
    pair[0].sendall(frame)
    pair[0].close()
    link = LocalLink(pair[1], SlotPool())
    with suppress(DecodeError):
        while link.receive() is not None:
            pass
    link.close()
