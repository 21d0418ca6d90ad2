"""A server and two sites in network namespaces: the sites cannot be dialled, and what is between cuts them off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from namespaces import KNOWN_AS, MIDDLE, PORT, SERVER, Network

pytestmark = pytest.mark.slow

ECHO = f"""
import socket
with socket.create_server(("", {PORT}), backlog=16) as listener:
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)
"""
DIAL = f"""
import socket, sys
try:
    with socket.create_connection((sys.argv[1], {PORT}), 1) as connection:
        connection.sendall(b"hello")
        print(connection.recv(5).decode(), connection.getpeername()[0])
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:  # says in one line why it cannot be had, where it cannot
        yield made


def echo(network: Network, place: str) -> subprocess.Popen[str]:
    started = network.start(place, sys.executable, "-c", ECHO)
    assert started.stdout is not None
    assert started.stdout.readline() == "listening\n"
    return started


def dial(network: Network, place: str, address: str) -> str:
    return network.run(place, sys.executable, "-c", DIAL, address).strip()


def test_sites_reach_the_server_through_the_proxy_alone_and_nobody_reaches_them(network: Network) -> None:
    for place in (SERVER, "site-1", "site-2"):
        echo(network, place)
    assert dial(network, "site-1", KNOWN_AS) == "ConnectionRefusedError"  # nothing listens in the middle yet
    proxy = network.start_proxy("--seed", "1")
    assert dial(network, "site-1", KNOWN_AS) == dial(network, "site-2", KNOWN_AS) == f"hello {KNOWN_AS}"
    assert dial(network, SERVER, KNOWN_AS) == f"hello {KNOWN_AS}"  # the server's own namespace needs no proxy
    assert dial(network, "site-1", "10.99.0.2") == "TimeoutError"  # nothing is forwarded,
    assert dial(network, SERVER, "10.99.1.2") == "TimeoutError"  # in either direction,
    assert dial(network, "site-2", "10.99.1.2") == "TimeoutError"  # nor from site to site,
    assert dial(network, MIDDLE, "10.99.1.2") == "hello 10.99.1.2"  # though the site does listen
    proxy.send_signal(signal.SIGTERM)
    out, _ = proxy.communicate(timeout=10)
    assert json.loads(out)["accepted"] == 2
