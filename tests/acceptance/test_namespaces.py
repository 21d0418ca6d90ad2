"""A server and two sites in network namespaces: the sites cannot be dialled, and what is between cuts them off."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import hansa
from hansa.provision.provisioner import make_kits
from namespaces import KNOWN_AS, MIDDLE, PORT, SERVER, Network
from poc_parts import PATIENCE_S, environment, processes_below, trains

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
SUBMIT = """
import json, sys
import hansa
with hansa.connect(sys.argv[1]) as session:
    run = session.submit(sys.argv[2]).wait(60)
    counted = [sorted(each.counted) for each in run.history.rounds]
    print(json.dumps([run.status.value, run.model_digest, counted]))
"""
ROUNDS = 100


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


def prepared(folder: Path, server_host: str) -> tuple[Path, Path]:
    """Kits of a server and two sites, and a job."""
    kits, job = folder / "kits", folder / "job"
    kits.mkdir()
    allowed = {"poc": True, "allow_custom_code": True}
    make_kits(
        kits,
        server_host=server_host,
        server_port=PORT,
        sites=["site-1", "site-2"],
        settings={"server": allowed, "client": allowed},
    )
    trains(rounds=ROUNDS).save(job)
    return kits, job


@contextmanager
def started(network: Network, kits: Path, *, sites_in: Sequence[str]) -> Iterator[None]:
    """Server and sites, once all are connected; in the end each leaves when it is told to, and nothing stays."""
    places = {"server": SERVER, "site-1": sites_in[0], "site-2": sites_in[1]}
    programs = {name: start(network, place, kit=kits / name) for name, place in places.items()}
    deadline = time.monotonic() + PATIENCE_S
    for name, (_, ready) in programs.items():
        with os.fdopen(ready) as stream:
            is_there, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            assert is_there, log(kits, name)
            assert stream.readline() == "ready\n", log(kits, name)
    yield
    for name, (process, _) in reversed(programs.items()):
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, log(kits, name)
    assert processes_below(kits) == {}


def start(network: Network, place: str, *, kit: Path) -> tuple[subprocess.Popen[str], int]:
    verb = "server" if kit.name == "server" else "site"
    ready, theirs = os.pipe()
    with kit.with_suffix(".txt").open("w") as said:
        words = (sys.executable, "-m", "hansa.cli.main", verb, "start", str(kit), "--ready-fd", str(theirs))
        process = network.start(place, *words, stderr=said, environment=environment(), pass_fds=(theirs,))
    os.close(theirs)
    return process, ready


def log(kits: Path, name: str) -> str:
    return (kits / f"{name}.txt").read_text()


def submitted(network: Network, kits: Path, job: Path) -> tuple[str, str, list[list[str]]]:
    """A job's end, its model's digest, and the sites that counted in each round."""
    out = network.run(SERVER, sys.executable, "-c", SUBMIT, str(kits / "admin"), str(job), timeout_s=90.0)
    status, digest, counted = json.loads(out.splitlines()[-1])
    return status, digest, counted


@pytest.mark.parametrize("how", ["--reset", ""], ids=["with a reset", "in order"])
def test_a_job_is_finished_through_a_proxy_that_cuts_all_connections(
    network: Network, tmp_path: Path, how: str
) -> None:
    kits, job = prepared(tmp_path, KNOWN_AS)
    proxy = network.start_proxy("--latency", "0.02", "--cut-every", "2:3", "--seed", "3", *how.split())
    with started(network, kits, sites_in=("site-1", "site-2")):
        status, digest, counted = submitted(network, kits, job)
        assert status == "COMPLETED", [said.read_text() for said in kits.glob("*.txt")]
    proxy.send_signal(signal.SIGTERM)
    seen = json.loads(proxy.communicate(timeout=10)[0])
    assert counted == [["site-1", "site-2"]] * ROUNDS
    assert seen["cut"] >= 4, seen
    assert not [name for name in ("server", "site-1", "site-2") if "Traceback" in log(kits, name)]
    assert digest == hansa.simulate(job, 2, workers=0, home=tmp_path / "home", progress=False).model_digest


def test_a_server_with_an_ipv6_address(network: Network, tmp_path: Path) -> None:
    loopbacks = network.run(SERVER, "sh", "-c", "cat /proc/net/if_inet6 || true")
    # Where the kernel has no IPv6, the same job over IPv4; the address's form has tests of its own everywhere.
    host, address = ("[::1]", "[::1]:8002") if loopbacks else ("127.0.0.1", "127.0.0.1:8002")
    kits, job = prepared(tmp_path, host)
    with started(network, kits, sites_in=(SERVER, SERVER)):
        status, _, counted = submitted(network, kits, job)
        assert status == "COMPLETED", [said.read_text() for said in kits.glob("*.txt")]
    assert counted == [["site-1", "site-2"]] * ROUNDS
    assert f"connected to {address}" in log(kits, "site-1")
