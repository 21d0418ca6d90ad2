"""Why a connection does not come about: one line for each cause, and it says what to do."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from hansa.errors import ConfigError
from hansa.provision.authority import Authority
from hansa.provision.identity import Identity, Role
from hansa.wire.admin_client import AdminClient, Unreachable
from hansa.wire.diagnosis import diagnose
from hansa.wire.net_options import PROTOCOL, NetLimits, Tls, version_problem
from network import Network, play, tls

SITE = tls("site-1")


@contextmanager
def grpc_server(mine: Tls) -> Iterator[int]:
    """A server with such a certificate, in gRPC's own way."""
    server = grpc.server(None)
    credentials = grpc.ssl_server_credentials([(mine.key, mine.certificate)], mine.ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def tcp_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does with each connection as it is told."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock, suppress(OSError):
                answer(sock)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def now(**later: float) -> datetime:
    return datetime.now(UTC) + timedelta(**later)


SERVERS = {
    "of another authority": (
        tls("server", Role.SERVER, project="elsewhere", trusts="proj"),
        "the server's certificate is of another authority: this kit is of another project than the server",
    ),
    "expired": (
        tls("server", Role.SERVER, now=now(days=-9), days=2),
        r"the server's certificate has expired on \d{4}-.* UTC, and here it is .*: ask .* new kit, unless this machine",
    ),
    "not yet valid": (
        tls("server", Role.SERVER, now=now(days=1)),
        r"the server's certificate is not valid before \d{4}-.* UTC, and here it is .* UTC: is this machine's clock",
    ),
    "of another name": (
        tls("server", Role.SERVER, hosts=("fl.example.org", "10.1.2.3")),
        "is not for this name, only for fl.example.org, 10.1.2.3: use one of its names, or issue it anew",
    ),
    "of no name": (tls("server", Role.SERVER, hosts=()), "is not for this name, only for none at all"),
    "of another role": (
        tls("site-9", hosts=("127.0.0.1",)),
        "who answers there has the certificate of another role, not a server's: is the address right?",
    ),
}


@pytest.mark.parametrize("what", SERVERS)
def test_a_server_that_is_not_the_one(what: str) -> None:
    mine, expected = SERVERS[what]
    with grpc_server(mine) as port:
        text = diagnose("127.0.0.1", port, SITE)
    assert_line(text, port, expected)


def assert_line(text: str, port: int, expected: str, host: str = "127.0.0.1") -> None:
    assert text.startswith(f"{host}:{port}: ")
    assert "\n" not in text
    assert re.search(expected, text), text


KITS = {
    "another project": (
        tls("site-1", project="elsewhere", trusts="elsewhere"),
        "the server's certificate is of another authority: this kit is of another project",
    ),
    "expired": (
        tls("site-1", now=now(days=-9), days=2),
        r"this kit's certificate has expired on \d{4}-.*, and here it is .*: ask the project's lead for a new kit",
    ),
    "not yet valid": (
        tls("site-1", now=now(days=1)),
        r"this kit's certificate is not valid before .*, and here it is .*: is this machine's clock right\?",
    ),
    "another role": (
        tls("server", Role.SERVER),
        "this kit's certificate is a server's, and only sites and admins connect: use another kit",
    ),
    "another key": (
        Tls(SITE.ca, SITE.certificate, tls("site-2").key),
        "the kit's certificate and key do not fit together: ask the project's lead for a new kit",
    ),
    "a certificate of elsewhere": (
        Tls(SITE.ca, tls("site-1", project="elsewhere").certificate, SITE.key),
        "the kit's certificate is not of the kit's authority",
    ),
    "no certificate": (Tls(SITE.ca, b"nothing", SITE.key), "the kit's certificate or its authority's cannot be read"),
}


@pytest.mark.parametrize("what", KITS)
def test_a_kit_that_is_not_right(what: str) -> None:
    mine, expected = KITS[what]
    with grpc_server(tls("server", Role.SERVER)) as port:
        assert_line(diagnose("127.0.0.1", port, mine), port, expected)


def test_a_kit_of_another_authority_of_the_same_name() -> None:
    other = Authority.create("proj")
    issued = other.issue(Identity("proj", "org", "site-1", Role.CLIENT))
    mine = Tls(SITE.ca, issued.certificate, issued.key)
    with grpc_server(tls("server", Role.SERVER)) as port:
        expected = (
            r"hangs up on this kit's certificate; it is valid from .*, and here it is .* another project, or a clock"
        )
        assert_line(diagnose("127.0.0.1", port, mine), port, expected)


def test_a_clock_that_is_a_day_slow() -> None:
    """Everything of the project seems to be from tomorrow: the authority, too."""
    young = Authority.create("proj", now=now(days=1))

    def made(name: str, role: Role, hosts: tuple[str, ...] = ()) -> Tls:
        issued = young.issue(Identity("proj", "org", name, role), hosts, now=now(days=1))
        return Tls(young.certificate, issued.certificate, issued.key)

    with grpc_server(made("server", Role.SERVER, ("127.0.0.1",))) as port:
        text = diagnose("127.0.0.1", port, made("site-1", Role.CLIENT))
    assert_line(text, port, "this kit's certificate is not valid before .* is this machine's clock right")


def test_a_server_whose_clock_is_a_day_fast() -> None:
    """It holds for expired what is valid here; gRPC has no clock of its own to be set, so that TLS says it."""

    def answer(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"\x15\x03\x03\x00\x02\x02\x2d")  # a fatal alert: certificate expired

    with tcp_server(answer) as port:
        text = diagnose("127.0.0.1", port, SITE)
    assert_line(text, port, "says that this kit's certificate is not valid now; here it is .* UTC: compare the clocks")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    text = diagnose("127.0.0.1", port, SITE, environment={})
    assert text == f"127.0.0.1:{port}: nobody listens there: is the server running, and is the port right?"
    text = diagnose("127.0.0.1", port, SITE, environment={"https_proxy": "http://proxy:3128"})
    assert text.endswith("(the environment names a proxy, https_proxy: if the server needs none, put it into no_proxy)")


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert diagnose("::1", 1, SITE).startswith("[::1]:1: ")  # nobody listens there, or there is no IPv6


def test_a_name_that_does_not_exist() -> None:
    for host in ("no-such-host.invalid", "x" * 70 + ".invalid"):
        text = diagnose(host, 8002, SITE)
        assert text.startswith(f"{host}:8002: the name {host!r} cannot be resolved (")
        assert text.endswith("): check it, and this machine's DNS")


@pytest.mark.parametrize("banner", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n"])
def test_what_answers_speaks_no_tls(banner: bytes) -> None:
    def answer(sock: socket.socket) -> None:
        sock.sendall(banner)
        sock.recv(4096)

    with tcp_server(answer) as port:
        assert_line(diagnose("127.0.0.1", port, SITE), port, "what answers there does not speak TLS: is the port right")


def test_who_hangs_up_and_who_says_nothing() -> None:
    with tcp_server(lambda sock: None) as port:
        assert_line(diagnose("127.0.0.1", port, SITE), port, "is a proxy in between")
    over = threading.Event()
    with tcp_server(lambda sock: over.wait(10) and None) as port:
        text = diagnose("127.0.0.1", port, SITE, timeout_s=0.2)
        over.set()
    assert_line(text, port, "takes the connection but does not answer: is it overloaded, or no server of Hansa")


def test_who_resets_at_once() -> None:
    no_linger = struct.pack("ii", 1, 0)
    with tcp_server(lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)) as port:
        for _ in range(20):  # the reset comes while it connects, or just before it speaks
            expected = r"cut during the TLS handshake|cannot be reached \(Connection reset by peer\)"
            assert_line(diagnose("127.0.0.1", port, SITE), port, expected)


def test_tls_of_something_else(tmp_path: Path) -> None:
    mine = tls("server", Role.SERVER)
    (tmp_path / "pair.pem").write_bytes(mine.certificate + mine.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")

    def answer(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            wrapped.sendall(b"hello")

    with tcp_server(answer) as port:
        assert_line(diagnose("127.0.0.1", port, SITE), port, "speaks TLS, but no HTTP/2")


def test_a_server_that_is_well() -> None:
    with grpc_server(tls("server", Role.SERVER)) as port:
        for host in ("127.0.0.1", "localhost"):
            assert_line(diagnose(host, port, SITE), port, "the server can be reached", host)


# -- where it shows ----------------------------------------------------------------------------------------------------


def test_a_site_says_it_once_however_often_it_tries() -> None:
    async def scenario() -> None:
        with grpc_server(tls("server", Role.SERVER, now=now(days=1))) as port:
            async with Network.up() as net:
                site = net.site("site-1", port=port)
                await site.told.until(lambda: site.told.reasons)
                await site.told.until_past(0.4)
                assert len(site.told.reasons) == 1
                assert "not valid before" in site.told.reasons[0]

    play(scenario())


def test_an_admin_is_told_by_an_error() -> None:
    async def scenario() -> None:
        client = AdminClient(tls("a@b", Role.ADMIN), "no-such-host.invalid:8002")
        with pytest.raises(Unreachable, match="cannot be resolved"):
            await client.call("jobs", {})
        with pytest.raises(Unreachable, match="cannot be resolved"):
            async for _ in client.watch("follow", {}):
                pass
        await client.close()

    play(scenario())


def test_versions_that_are_apart_are_both_named() -> None:
    def problem(theirs: int) -> str | None:
        return version_problem(theirs=theirs, software_there="hansa 9", they="the server", we="this site")

    assert [problem(PROTOCOL + step) for step in (-1, 0, 1)] == [None] * 3
    newer, older = problem(PROTOCOL + 2), problem(PROTOCOL - 2)
    assert newer is not None
    assert older is not None
    assert f"this site speaks protocol {PROTOCOL} (hansa " in newer
    assert f"the server protocol {PROTOCOL + 2} (hansa 9): they must be at most one apart; upgrade this site" in newer
    assert older.endswith("upgrade the server")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"lost_after_s": 0}, "lost_after_s"),
        ({"lost_after_s": "30"}, "lost_after_s"),
        ({"lost_after_s": True}, "lost_after_s"),
        ({"lost_after_s": float("nan")}, "lost_after_s"),
        ({"policy": {"second_session": "supercede"}}, "policy.second_session"),
        ({"policy": "supersede"}, "policy"),
    ],
)
def test_settings_of_the_server_that_make_no_sense(settings: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NetLimits.of(settings)
    assert caught.value.key == key


def test_settings_of_the_server() -> None:
    assert NetLimits.of({}) == NetLimits()
    limits = NetLimits.of({"lost_after_s": 8, "policy": {"second_session": "supersede"}})
    assert (limits.lost_after_s, limits.heartbeat_s, limits.second_session) == (8.0, 2.0, "supersede")
