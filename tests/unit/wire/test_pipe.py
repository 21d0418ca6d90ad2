"""Frames on a pipe: round trips however they are cut, what is refused, and who is let in."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import tempfile
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import DecodeError, EncodeError
from hansa.wire.local_socket import connect, is_ours
from hansa.wire.pipe import (
    MAX_BACKLOG_BYTES,
    MAX_HEAD_BYTES,
    MAX_PARTS,
    MAX_PARTS_BYTES,
    AsyncPipe,
    FrameReader,
    Pipe,
    PipeServer,
    connect_pipe,
    pack_frame,
)

MB = 1 << 20
PATIENCE_S = 30.0

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
frames = st.tuples(
    st.dictionaries(st.text(max_size=5), json_values, max_size=3), st.lists(st.binary(max_size=50), max_size=4)
)


def raw_frame(
    head: bytes, *, magic: bytes = b"HP", version: int = 1, zero: int = 0, sizes: Sequence[int] = ()
) -> bytes:
    return struct.pack(f"<2sBBII{len(sizes)}Q", magic, version, zero, len(head), len(sizes), *sizes) + head


# -- bytes -------------------------------------------------------------------------------------------------------------


@given(st.lists(frames, max_size=4), st.data())
def test_frames_come_back_however_they_are_cut(sent: list[tuple[dict[str, Any], list[bytes]]], data: Any) -> None:
    stream = b"".join(pack_frame(head, parts) for head, parts in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    came = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        came += reader.feed(stream[begin:end])
    assert came == sent


def test_frames_come_back_byte_by_byte() -> None:
    stream = pack_frame({"k": "a", "ü": "\ud800"}, [b"", b"12"]) + pack_frame({}) + pack_frame({"k": "b"}, [b"3"])
    reader = FrameReader()
    came = [frame for number in stream for frame in reader.feed(bytes([number]))]
    assert came == [({"k": "a", "ü": "\ud800"}, [b"", b"12"]), ({}, []), ({"k": "b"}, [b"3"])]


def test_the_bytes_are_as_documented() -> None:
    # magic HP, version 1, zero, head of 7 bytes, one part, of 2 bytes
    expected = b"HP\x01\x00" + b"\x07\0\0\0" + b"\x01\0\0\0" + b"\x02\0\0\0\0\0\0\0" + b'{"k":1}' + b"ab"
    assert pack_frame({"k": 1}, [b"ab"]) == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (raw_frame(b"{}", magic=b"XX"), "no frame of version 1"),
        (raw_frame(b"{}", version=2), "no frame of version 1"),
        (raw_frame(b"{}", zero=1), "no frame of version 1"),
        (raw_frame(b"[]"), "a frame's head is no JSON object"),
        (raw_frame(b"{"), "a frame's head is no JSON: "),
        (raw_frame(b""), "a frame's head is no JSON: "),
        (raw_frame(b'"\xff"'), "a frame's head is no JSON: "),
        (raw_frame(b"[" * 100_000), "a frame's head is no JSON: "),
        (raw_frame(b'{"k":' + b"9" * 5000 + b"}"), "a frame's head is no JSON: "),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        FrameReader().feed(data)
    assert str(caught.value).startswith(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            struct.pack("<2sBBII", b"HP", 1, 0, MAX_HEAD_BYTES + 1, 0),
            f"a frame's head has {MAX_HEAD_BYTES + 1} bytes, {MAX_HEAD_BYTES} at most",
        ),
        (
            struct.pack("<2sBBII", b"HP", 1, 0, 2, MAX_PARTS + 1),
            f"a frame has {MAX_PARTS + 1} parts, {MAX_PARTS} at most",
        ),
        (
            raw_frame(b"", sizes=[MAX_PARTS_BYTES, 1]),
            f"a frame's parts have {MAX_PARTS_BYTES + 1} bytes, {MAX_PARTS_BYTES} at most",
        ),
        (
            raw_frame(b"", sizes=[(1 << 64) - 1] * 2),
            f"a frame's parts have {(1 << 65) - 2} bytes, {MAX_PARTS_BYTES} at most",
        ),
    ],
)
def test_what_is_too_large_is_refused_as_soon_as_it_says_so(data: bytes, text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            FrameReader().feed(data)
        assert str(caught.value) == text
        assert tracemalloc.get_traced_memory()[1] < MB
    finally:
        tracemalloc.stop()


def test_a_stranger_may_say_little_at_first() -> None:
    hello, long = pack_frame({"k": "hello"}), pack_frame({"k": "a"}, [b"x" * 5000])
    assert [len(parts) for _, parts in FrameReader(4096).feed(hello + long + long)] == [0, 1, 1]
    with pytest.raises(DecodeError, match="^a frame of 5029 bytes, 4096 at most here$"):  # 12 + 8 + 9 + 5000
        FrameReader(4096).feed(long[:30])


@pytest.mark.parametrize(
    ("head", "parts", "text"),
    [
        ({"k": object()}, [], "cannot encode head: Object of type object is not JSON serializable"),
        ({"k": "x" * MB}, [], f"cannot encode head: a frame's head has {MB + 8} bytes, {MB} at most"),
        ({}, [b""] * 10_001, "cannot encode head: a frame has 10001 parts, 10000 at most"),
        (
            {},
            [bytes(MAX_PARTS_BYTES), b"1"],
            "cannot encode head: a frame's parts have 67108865 bytes, 67108864 at most",
        ),
    ],
)
def test_what_would_be_refused_is_not_sent(head: dict[str, Any], parts: list[bytes], text: str) -> None:
    with pytest.raises(EncodeError) as caught:
        pack_frame(head, parts)
    assert str(caught.value) == text


# -- the blocking end --------------------------------------------------------------------------------------------------


def ends() -> tuple[Pipe, Pipe]:
    one, other = socket.socketpair()
    return Pipe(one), Pipe(other)


def test_threads_send_whole_frames() -> None:
    one, other = ends()

    def send(number: int) -> None:
        for _ in range(20):
            one.send({"from": number}, [bytes([number]) * 50_000])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    came = [other.receive() for _ in range(80)]
    for thread in threads:
        thread.join()
    assert all(frame and frame[1] == [bytes([frame[0]["from"]]) * 50_000] for frame in came)
    one.close()
    assert other.receive() is None
    other.close()


def test_the_end_wakes_who_waits_and_who_sends() -> None:
    one, other = ends()
    got: list[object] = []

    def send() -> None:
        with pytest.raises(ConnectionError, match="^the pipe to the agent is closed: "):
            one.send({}, [bytes(32 * MB)])  # more than the system holds
        got.append("told")

    threads = [threading.Thread(target=lambda: got.append(one.receive())), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    assert other._sock.recv(1)
    one.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(map(str, got)) == ["None", "told"]
    assert one.receive() is None
    with pytest.raises(ConnectionError):
        one.send({})
    other.close()


def test_a_pipe_that_brought_nonsense_is_closed() -> None:
    sock, far = socket.socketpair()
    pipe = Pipe(sock)
    far.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(DecodeError):
        pipe.receive()
    assert pipe.receive() is None
    assert not far.recv(1)
    far.close()


# -- the agent's end ---------------------------------------------------------------------------------------------------


class Agent:
    """A server of pipes, and all that happened on them."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.pipes: list[AsyncPipe] = []
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.server = PipeServer(Path(self.folder.name), self.called_back)

    def called_back(self, pipe: AsyncPipe) -> None:
        self.pipes.append(pipe)
        pipe.on_frame = lambda head, parts: self.events.put_nowait((pipe.name, (head, parts)))
        pipe.on_close = lambda: self.events.put_nowait((pipe.name, "closed"))

    async def next(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self.events.get(), PATIENCE_S)


def serve(test: Callable[[Agent], Awaitable[None]]) -> None:
    async def whole() -> None:
        agent = Agent()
        await agent.server.start()
        await test(agent)
        await agent.server.close()
        agent.folder.cleanup()

    asyncio.run(whole())


def test_a_process_with_its_token_is_let_in_under_its_name() -> None:
    async def test(agent: Agent) -> None:
        agent.server.expect("t1", "job 1")
        agent.server.expect("t2", "job 2")
        other = connect_pipe(agent.server.address, "t2")
        pipe = connect_pipe(agent.server.address, "t1")
        await asyncio.to_thread(pipe.send, {"k": "ready"}, [b"1", b"x" * MB])
        assert await agent.next() == ("job 1", ({"k": "ready"}, [b"1", b"x" * MB]))
        found = next(each for each in agent.pipes if each.name == "job 1")
        found.send({"k": "task"}, [b"2"])
        assert await asyncio.to_thread(pipe.receive) == ({"k": "task"}, [b"2"])
        pipe.close()
        assert await agent.next() == ("job 1", "closed")
        found.send({"k": "late"})
        other.close()
        assert await agent.next() == ("job 2", "closed")
        assert agent.events.empty()

    serve(test)


def test_frames_that_come_with_the_hello_are_not_lost() -> None:
    async def test(agent: Agent) -> None:
        agent.server.expect("t", "job")
        with connect(agent.server.address) as sock:
            sock.sendall(pack_frame({"k": "hello", "token": "t"}) + pack_frame({"n": 1}) + pack_frame({"n": 2})[:5])
            assert (await agent.next())[1] == ({"n": 1}, [])
            sock.sendall(pack_frame({"n": 2})[5:])
            assert (await agent.next())[1] == ({"n": 2}, [])

    serve(test)


@pytest.mark.parametrize(
    "said",
    [
        pack_frame({"k": "hello", "token": "wrong"}),
        pack_frame({"k": "hello", "token": "used"}),
        pack_frame({"k": "hello", "token": "void"}),
        pack_frame({"k": "hello", "token": ["t"]}),
        pack_frame({"k": "hello", "token": "\ud800"}),
        pack_frame({"k": "hello"}),
        pack_frame({"k": "result", "token": "t"}),
        pack_frame({"k": "hello", "token": "t" * 4096}),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_process_without_a_token_that_is_expected_is_turned_away(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(agent: Agent) -> None:
        agent.server.expect("void", "job")
        agent.server.expect("t", "job")
        agent.server.expect("used", "other")
        connect_pipe(agent.server.address, "used").close()
        assert await agent.next() == ("other", "closed")
        for _ in range(3):
            with connect(agent.server.address) as sock:
                sock.sendall(said)
                assert not await asyncio.to_thread(sock.recv, 1)
        assert len(agent.pipes) == 1
        assert [record.name for record in caplog.records] == ["hansa.pipe"]  # once
        assert f"process {os.getpid()}, " in caplog.text
        assert "turned away" in caplog.text
        connect_pipe(agent.server.address, "t").close()  # who is expected still comes in
        assert await agent.next() == ("job", "closed")

    with caplog.at_level(logging.WARNING):
        serve(test)


def test_those_who_say_nothing_are_not_many(caplog: pytest.LogCaptureFixture) -> None:
    async def test(agent: Agent) -> None:
        socks = [connect(agent.server.address) for _ in range(65)]
        assert not await asyncio.to_thread(socks[-1].recv, 1)
        agent.server.expect("t", "job")
        for sock in socks:
            sock.close()
        for _ in range(3):  # turns of the loop, which must see that they have gone
            await asyncio.to_thread(lambda: None)
        connect_pipe(agent.server.address, "t").close()
        assert await agent.next() == ("job", "closed")
        assert "one of more than 64" in caplog.text

    with caplog.at_level(logging.WARNING):
        serve(test)


def test_another_users_process_is_none_of_ours() -> None:
    class Theirs:
        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            return struct.pack("3i", 1, os.getuid() + 1, 0)

    one, other = socket.socketpair()
    assert is_ours(one)
    assert not is_ours(Theirs())
    one.close()
    other.close()


def test_a_process_that_sends_nonsense_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async def test(agent: Agent) -> None:
        agent.server.expect("t", "job")
        with connect(agent.server.address) as sock:
            sock.sendall(pack_frame({"k": "hello", "token": "t"}) + pack_frame({"n": 1}))
            assert (await agent.next())[1] == ({"n": 1}, [])
            sock.sendall(raw_frame(json.dumps([1]).encode()))
            assert await agent.next() == ("job", "closed")
        assert caplog.messages == ["job: a frame's head is no JSON object: its pipe is closed"]

    with caplog.at_level(logging.WARNING):
        serve(test)


def test_what_a_process_leaves_unread_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    async def test(agent: Agent) -> None:
        agent.server.expect("t", "job")
        with connect(agent.server.address) as sock:
            sock.sendall(pack_frame({"k": "hello", "token": "t"}) + pack_frame({}))
            await agent.next()
            (pipe,) = agent.pipes
            part = bytes(MAX_PARTS_BYTES)
            for _ in range(MAX_BACKLOG_BYTES // MAX_PARTS_BYTES):
                pipe.send({}, [part])
            assert MAX_BACKLOG_BYTES // 2 < pipe.buffered_bytes <= MAX_BACKLOG_BYTES
            assert agent.events.empty()
            pipe.send({}, [part])
            assert await agent.next() == ("job", "closed")
            pipe.send({}, [part])
        assert len(caplog.messages) == 1
        assert "its pipe is closed" in caplog.text

    with caplog.at_level(logging.WARNING):
        serve(test)


def test_closing_the_server_lets_out_what_was_sent() -> None:
    async def test(agent: Agent) -> None:
        agent.server.expect("t", "job")
        pipe = connect_pipe(agent.server.address, "t")
        pipe.send({})
        await agent.next()
        agent.pipes[0].send({"k": "last"}, [bytes(MB)])
        frame, _ = await asyncio.gather(asyncio.to_thread(pipe.receive), agent.server.close())
        assert frame == ({"k": "last"}, [bytes(MB)])
        assert await asyncio.to_thread(pipe.receive) is None
        pipe.close()
        with pytest.raises(OSError):
            connect_pipe(agent.server.address, "t")

    serve(test)
