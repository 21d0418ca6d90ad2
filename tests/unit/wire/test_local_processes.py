"""The link between real processes: who may connect, memory that goes over, and a child that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import LocalListener, connect, peer_pid
from hansa.wire.slots import SlotPool

MB = 1 << 20

CHILD = """
import sys
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import connect
from hansa.wire.slots import SlotPool
pool = SlotPool()
link = LocalLink(connect(sys.argv[1]), pool)
"""
DOUBLES_IN_PLACE = (
    CHILD
    + """
while (frame := link.receive()) is not None:
    head, parts = frame
    for part in parts:
        part *= 2
    answer = pool.allocate(head["size"])
    answer[:] = head["number"]
    del frame, parts, part
    link.send({"mapped": link.num_mapped, "slots": pool.num_slots}, [answer])
    del answer
"""
)
SENDS_AND_WAITS = (
    CHILD
    + """
memory = pool.allocate(1 << 20)
memory[:] = 5
link.send("here", [memory])
frame = link.receive()  # and keeps what it gets
link.send("got it")
link.receive()
"""
)


@contextmanager
def child(code: str, tmp_path: Path, quota_bytes: int = 1 << 30) -> Iterator[tuple[LocalLink, SlotPool, int]]:
    """A process that runs the code, a link to it, this end's pool, and the process's number."""
    listener = LocalListener(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", code, listener.address])
    try:
        pool = SlotPool(tmp_path, quota_bytes=quota_bytes)
        link = LocalLink(listener.accept(process.pid), pool)
        yield link, pool, process.pid
        link.close()
        pool.close()
    finally:
        listener.close()
        process.kill()
        process.wait(10)


@pytest.mark.slow
def test_memory_goes_to_a_child_and_back_without_new_maps(tmp_path: Path) -> None:
    with child(DOUBLES_IN_PLACE, tmp_path) as (link, pool, _):
        for number in range(10):
            memory = pool.allocate(4 * MB).view(np.uint8)
            memory[:] = number
            link.send({"number": number, "size": 2 * MB}, [memory])
            frame = link.receive()
            assert frame is not None
            head, (answer,) = frame
            assert head == {"mapped": 1, "slots": 1}  # in the child: the same slots every time
            assert (memory == 2 * number).all()
            assert (answer == number).all()
            del memory, frame, answer
        assert (pool.num_slots, link.num_mapped, link.num_copies) == (1, 1, 0)
        assert pool.num_idle == 1


@pytest.mark.slow
def test_a_child_gets_files_where_the_quota_is_one_slot(tmp_path: Path) -> None:
    with child(DOUBLES_IN_PLACE, tmp_path, quota_bytes=MB) as (link, pool, _):
        arrays = [pool.allocate(MB) for _ in range(2)]
        arrays[0][:], arrays[1][:] = 3, 4
        link.send({"number": 0, "size": 10}, arrays)
        frame = link.receive()
        assert frame is not None
        assert frame[0]["mapped"] == 2
        assert [int(array[-1]) for array in arrays] == [6, 8]
        assert pool.memory_bytes == MB
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_child_sent_stays_and_what_it_held_comes_back(tmp_path: Path) -> None:
    with child(SENDS_AND_WAITS, tmp_path) as (link, pool, pid):
        frame = link.receive()
        assert frame is not None
        _, (part,) = frame
        link.send("keep this", [pool.allocate(MB)])
        assert link.receive() == ("got it", [])
        assert pool.num_idle == 0
        os.kill(pid, signal.SIGKILL)
        assert link.receive() is None
        with pytest.raises(ConnectionError):
            link.send("anybody there?")
        part[0] = 6
        assert part.sum() == 5 * MB + 1
        assert pool.num_idle == 0
        link.close()
        assert pool.num_idle == 1
        assert part.sum() == 5 * MB + 1
        del frame, part


@pytest.mark.slow
def test_other_processes_are_turned_away(tmp_path: Path) -> None:
    listener = LocalListener(tmp_path)
    early = connect(listener.address)  # this process, which nobody expects
    process = subprocess.Popen([sys.executable, "-c", CHILD + "link.receive()", listener.address])
    sock = listener.accept({process.pid, 1})
    assert peer_pid(sock) == process.pid
    assert early.recv(1) == b""
    for one in (sock, early):
        one.close()
    listener.close()
    assert process.wait(30) == 0


# -- the listener -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [True, False])
def test_who_connects_is_accepted(tmp_path: Path, abstract: bool) -> None:
    listener = LocalListener(tmp_path, abstract=abstract)
    there = connect(listener.address)
    here = listener.accept(os.getpid(), timeout_s=10)
    there.sendall(b"x")
    assert here.recv(1) == b"x"
    assert here.gettimeout() is None
    listener.close()
    with pytest.raises(OSError, match="refused|No such file"):
        connect(listener.address)
    here.sendall(b"y")
    assert there.recv(1) == b"y"
    assert list(tmp_path.iterdir()) == []
    here.close()
    there.close()


def test_the_folder_of_a_socket_file_is_closed_to_others(tmp_path: Path) -> None:
    listener = LocalListener(tmp_path, abstract=False)
    path = Path(listener.address)
    assert path.parent.parent == tmp_path
    assert path.parent.stat().st_mode & 0o777 == 0o700
    listener.close()


def test_a_path_that_is_too_long_is_not_used(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    listener = LocalListener(long, abstract=False)
    assert Path(listener.address).parent.parent == Path(tempfile.gettempdir())
    connect(listener.address).close()
    listener.close()
    assert not Path(listener.address).parent.exists()
    assert list(long.iterdir()) == []


def test_nobody_comes(tmp_path: Path) -> None:
    listener = LocalListener(tmp_path)
    with pytest.raises(TimeoutError, match=r"no process connected within 0\.01 s"):
        listener.accept(timeout_s=0.01)
    stranger = connect(listener.address)
    with pytest.raises(TimeoutError):
        listener.accept(1, timeout_s=0.05)
    assert stranger.recv(1) == b""
    stranger.close()
    listener.close()


def test_a_closed_listener_accepts_nobody(tmp_path: Path) -> None:
    listener = LocalListener(tmp_path)
    listener.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        listener.accept()


def test_addresses_differ_and_survive_a_command_line(tmp_path: Path) -> None:
    listeners = [LocalListener(tmp_path) for _ in range(2)]
    addresses = [listener.address for listener in listeners]
    assert addresses[0] != addresses[1]
    assert all(address.isprintable() and not address.startswith("-") for address in addresses)
    for listener in listeners:
        listener.close()


def test_several_connect_at_once(tmp_path: Path) -> None:
    listener = LocalListener(tmp_path)
    socks: list[socket.socket] = []
    threads = [threading.Thread(target=lambda: socks.append(connect(listener.address))) for _ in range(20)]
    for thread in threads:
        thread.start()
    accepted = [listener.accept(timeout_s=10) for _ in threads]
    for thread in threads:
        thread.join(10)
    for sock in (*accepted, *socks):
        sock.close()
    listener.close()
    assert len(socks) == len(accepted) == 20
