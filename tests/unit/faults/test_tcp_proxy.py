"""The proxy with faults: what it does to a connection, and what it leaves alone."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from hansa.faults.proxy_thread import ProxyThread
from hansa.faults.tcp_proxy import Faults, Way
from source_code import PACKAGE

DEADLINE_S = 10.0
SOME = bytes(range(256)) * 4096  # 1 MB


class Echo:
    """A server that sends back what it gets, and knows how its connections ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.ends: list[str] = []
        self.ended = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def one_ended(self) -> str:
        assert self.ended.acquire(timeout=DEADLINE_S), "no connection has ended"
        return self.ends[-1]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._echo, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _echo(self, connection: socket.socket) -> None:
        end = "closed"
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except ConnectionError:
                end = "reset"
        self.ends.append(end)
        self.ended.release()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as server:
        yield server


def dial(proxy: ProxyThread) -> socket.socket:
    return socket.create_connection(proxy.address, DEADLINE_S)


def received(connection: socket.socket, num_bytes: int) -> bytes:
    """So many bytes, or those that came before the end."""
    data = bytearray()
    while len(data) < num_bytes and (more := connection.recv(65536)):
        data += more
    return bytes(data)


def there_and_back(connection: socket.socket, data: bytes) -> bytes:
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    back = received(connection, len(data))
    sender.join(DEADLINE_S)
    return back


def test_without_faults_all_bytes_pass_both_ways_and_ends_are_passed_on(echo: Echo) -> None:
    with ProxyThread(echo.address) as proxy, dial(proxy) as connection:
        assert there_and_back(connection, SOME) == SOME
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
        assert echo.one_ended() == "closed"
        assert (proxy.counts.accepted, proxy.counts.cut) == (1, 0)
        assert proxy.counts.up_bytes == proxy.counts.down_bytes == len(SOME)


def test_a_reset_is_passed_on_as_a_reset(echo: Echo) -> None:
    with ProxyThread(echo.address) as proxy:
        connection = dial(proxy)
        assert there_and_back(connection, b"x") == b"x"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        assert echo.one_ended() == "reset"


def test_latency_delays_and_keeps_the_order(echo: Echo) -> None:
    with ProxyThread(echo.address, Faults(latency_s=0.05, jitter_s=0.02)) as proxy, dial(proxy) as connection:
        began = time.monotonic()
        assert there_and_back(connection, b"x") == b"x"
        assert time.monotonic() - began >= 0.1
        assert there_and_back(connection, SOME) == SOME


def test_a_rate_limits_and_delays_nothing_else(echo: Echo) -> None:
    faults = Faults(bytes_per_s=1_000_000, ways=frozenset({Way.UP}))
    with ProxyThread(echo.address, faults) as proxy, dial(proxy) as connection:
        began = time.monotonic()
        assert there_and_back(connection, SOME[:300_000]) == SOME[:300_000]
        assert time.monotonic() - began >= 0.3


def test_slices_change_no_byte(echo: Echo) -> None:
    with ProxyThread(echo.address, Faults(slice_bytes=7)) as proxy, dial(proxy) as connection:
        assert there_and_back(connection, SOME[:50_000]) == SOME[:50_000]


def test_one_bit_of_one_byte_is_flipped_the_same_one_for_the_same_seed(echo: Echo) -> None:
    spoiled = []
    for _ in range(2):
        faults = Faults(corrupt_at=70_000, ways=frozenset({Way.DOWN}))
        with ProxyThread(echo.address, faults, seed=3) as proxy, dial(proxy) as connection:
            spoiled.append(there_and_back(connection, SOME[:100_000]))
    assert [at for at in range(100_000) if spoiled[0][at] != SOME[at]] == [70_000]
    assert (spoiled[0][70_000] ^ SOME[70_000]).bit_count() == 1
    assert spoiled[0] == spoiled[1]


def test_a_cut_after_so_many_bytes_delivers_exactly_these(echo: Echo) -> None:
    faults = Faults(cut_after_bytes=1234, ways=frozenset({Way.DOWN}))
    with ProxyThread(echo.address, faults) as proxy, dial(proxy) as connection:
        connection.sendall(SOME[:5000])
        assert received(connection, 5000) == SOME[:1234]
        echo.one_ended()
        assert proxy.counts.cut == 1
        assert proxy.counts.down_bytes == 1234


@pytest.mark.parametrize(("reset", "end"), [(False, "closed"), (True, "reset")])
def test_a_cut_ends_both_ends(reset: bool, end: str, echo: Echo) -> None:
    with ProxyThread(echo.address) as proxy, dial(proxy) as connection:
        assert there_and_back(connection, b"x") == b"x"
        assert proxy.cut(reset=reset) == 1
        if reset:
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        else:
            assert connection.recv(1) == b""
        assert echo.one_ended() == end


def test_it_cuts_again_and_again(echo: Echo) -> None:
    with ProxyThread(echo.address, Faults(cut_every_s=(0.05, 0.1))) as proxy:
        for _ in range(3):
            with dial(proxy) as connection:
                assert connection.recv(1) == b""
        proxy.faults = Faults()
        with dial(proxy) as connection:
            assert there_and_back(connection, b"x") == b"x"
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)


def test_a_connection_without_a_byte_for_long_is_cut(echo: Echo) -> None:
    with ProxyThread(echo.address, Faults(idle_s=0.2)) as proxy, dial(proxy) as connection:
        assert there_and_back(connection, b"x") == b"x"
        assert connection.recv(1) == b""
        assert proxy.counts.cut == 1


def test_in_a_black_hole_nobody_hears_anything_not_even_an_end(echo: Echo) -> None:
    with ProxyThread(echo.address) as proxy, dial(proxy) as connection:
        assert there_and_back(connection, b"x") == b"x"
        leaving = dial(proxy)
        assert there_and_back(leaving, b"x") == b"x"
        with proxy.blackholed():
            leaving.close()
            connection.sendall(b"y")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            late = dial(proxy)
            late.sendall(b"z")
            assert echo.ends == []
        connection.settimeout(DEADLINE_S)
        assert received(connection, 1) == b"y"
        assert received(late, 1) == b"z"
        assert echo.one_ended() == "closed"
        late.close()


def test_it_refuses_connections_for_a_while_at_the_same_port(echo: Echo) -> None:
    with ProxyThread(echo.address) as proxy, dial(proxy) as connection:
        port = proxy.port
        assert there_and_back(connection, b"x") == b"x"
        with proxy.refused():
            with pytest.raises(ConnectionRefusedError):
                dial(proxy)
            assert there_and_back(connection, b"y") == b"y"
        assert proxy.port == port
        with dial(proxy) as again:
            assert there_and_back(again, b"z") == b"z"


def test_a_target_that_is_down_looks_like_a_reset(echo: Echo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()
    with ProxyThread(nobody) as proxy:
        with pytest.raises(ConnectionResetError), dial(proxy) as connection:  # perhaps as soon as it is dialled
            connection.recv(1)
        assert proxy.counts.failed == 1


def test_it_runs_as_a_program_and_says_in_the_end_what_it_saw(echo: Echo) -> None:
    command = ["--listen", "127.0.0.1:0", "--to", f"{echo.address[0]}:{echo.address[1]}", "--cut-every", "60"]
    program = subprocess.Popen(
        [sys.executable, str(PACKAGE / "faults" / "tcp_proxy.py"), *command], stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout is not None
        host, port = json.loads(program.stdout.readline())["listening"]
        with socket.create_connection((host, port), DEADLINE_S) as connection:
            assert there_and_back(connection, SOME) == SOME
        program.send_signal(signal.SIGTERM)
        counts = json.loads(program.stdout.read())
    assert counts["accepted"] == 1
    assert counts["up_bytes"] == counts["down_bytes"] == len(SOME)
