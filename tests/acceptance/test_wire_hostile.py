"""Whoever reaches the port may send what they like: it is refused, logged once, and costs the others nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from hansa.provision.identity import Role
from hansa.wire import federation_pb2 as pb
from hansa.wire.frames import Frame
from hansa.wire.net_client import SiteClient
from hansa.wire.net_options import MAX_FRAMES, PROTOCOL, SERVICE, Tls
from network import (
    WITHIN_S,
    ServerProgram,
    SiteSideOf,
    authority,
    dialled,
    hello,
    play,
    read,
    server_program,
    session_call,
    tls,
)

pytestmark = pytest.mark.slow

MB = 1 << 20
GROWTH_MB = 48
"""By how much a server may grow whatever it is sent; what it is sent each time is more."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    with server_program(tmp_path_factory.mktemp("server")) as running:
        play(serves(running))  # what the first caller makes it load is not what this is about
        yield running


@pytest.fixture
def server(program: ServerProgram) -> Iterator[ServerProgram]:
    """The server; afterwards it serves as before, has hardly grown, and has logged no accident."""
    before = program.rss_mb()
    known = len(program.lines())
    yield program
    play(serves(program))
    assert program.rss_mb() - before < GROWTH_MB
    new = program.lines()[known:]  # by Hansa, and a line for each refusal; gRPC and asyncio have no accident to tell of
    assert all(line.startswith("hansa.network ") and " is refused: " in line for line in new), new
    assert all(len(line) < 500 for line in new)


async def serves(program: ServerProgram) -> None:
    """An honest site joins, says something, and is heard."""
    told = SiteSideOf()
    client = SiteClient(tls("honest"), f"127.0.0.1:{program.port}", hello=dict, handlers=told)
    running = asyncio.ensure_future(client.run())
    client.send(Frame("are you there", head={"n": 1}))
    await told.until(lambda: told.frames)
    assert told.frames == [Frame("echo", head={"from": "honest", "n": 1})]
    await client.stop()
    await running


@contextmanager
def logs(program: ServerProgram, *expected: str) -> Iterator[None]:
    """Meanwhile the server refuses for these reasons, and logs each once."""
    known = len(program.lines())
    yield
    refusals = [line for line in program.lines()[known:] if " is refused: " in line]
    assert len(refusals) == len(expected), refusals
    for line, text in zip(refusals, expected, strict=True):
        assert text in line


@asynccontextmanager
async def site(program: ServerProgram, name: str, role: Role = Role.CLIENT) -> AsyncIterator[grpc.aio.Channel]:
    async with dialled(program.port, tls(name, role)) as channel:
        yield channel


async def greeted(channel: grpc.aio.Channel, **fields: Any) -> Any:
    call = session_call(channel)
    await call.write(hello(**fields))
    assert (await read(call)).HasField("welcome")
    return call


def up(*numbers: int, **fields: Any) -> bytes:
    return pb.Up(frames=[pb.Frame(number=number, kind="k") for number in numbers], **fields).SerializeToString()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


# -- a site's session --------------------------------------------------------------------------------------------------

BEFORE_HELLO = {
    "nothing": (b"", "the first message of a session must be a hello"),
    "garbage": (b"\xff\xff\xff", "no message of this protocol"),
    "noise": (bytes(range(1, 256)) * 100, "no message of this protocol"),
    "frames": (up(1, 2, 3), "the first message of a session must be a hello"),
    "frames with it": (hello() + up(1), "must be a hello, and no more"),
    "deep groups": (b"\x0b" * 60_000, "no message of this protocol"),
    "more groups": (b"\x0b" * 3 * MB, "too many small things"),
    "a flood of fields": (b"\x18\x00" * (2 * MB - 1), "too many small things"),
    "a flood of frames": (b"\x12\x00" * (2 * MB - 1), "too many small things"),
    "a frame of many blobs": (field(2, b"\x32\x00" * (2 * MB - 100)), "too many small things"),
    "a name without end": (hello(incarnation="x" * 3 * MB), "names that are too long"),
    "a life story": (hello(about=b'{"a":"' + b"x" * 2 * MB + b'"}'), "JSON of 2097160 bytes, 1048576 at most"),
    "no JSON": (hello(about=b"\xff"), "no JSON"),
    "no object": (hello(about=b"[1]"), "no JSON object"),
    "depth": (hello(about=b"[" * MB), "no JSON"),
    "a long number": (hello(about=b"1" * MB), "no JSON"),
}


@pytest.mark.parametrize("what", BEFORE_HELLO)
def test_a_session_that_begins_wrongly_is_refused(server: ServerProgram, what: str) -> None:
    message, reason = BEFORE_HELLO[what]

    async def scenario() -> None:
        async with site(server, f"{what[:20]}-1") as channel:
            for _ in range(5):
                call = session_call(channel)
                await call.write(message)
                refusal = (await read(call)).refusal
                assert refusal.code == "malformed"
                assert reason in refusal.text
                assert len(refusal.text) < 300

    with logs(server, reason):
        play(scenario())


IN_SESSION = {
    "a replayed frame": ([up(1), up(1)], "frame 1 where 2 was due"),
    "a replayed batch": ([up(1, 2, 3), up(2, 3)], "frame 2 where 4 was due"),
    "a gap": ([up(1), up(3)], "frame 3 where 2 was due"),
    "number nought": ([up(0)], "frame 0 where 1 was due"),
    "a huge number": ([up((1 << 64) - 1)], "frame 18446744073709551615 where 1 was due"),
    "a second hello": ([hello()], "a second hello in one session"),
    "what was never sent": ([up(received=99)], "frame 99 is acknowledged, and 0 were sent"),
    "garbage": ([b"\xff\xff\xff"], "no message of this protocol"),
    "a head that is no JSON": ([pb.Up(frames=[pb.Frame(number=1, head=b"{")]).SerializeToString()], "no JSON"),
    "a head too large": (
        [pb.Up(frames=[pb.Frame(number=1, head=b" " * (MB + 1))]).SerializeToString()],
        "1048577 bytes, 1048576 at most",
    ),
    "too many frames": ([up(*range(1, MAX_FRAMES * 9))], "too many small things"),
    "too many parts": (
        [pb.Up(frames=[pb.Frame(number=1, parts=[b""] * 20_000)]).SerializeToString()],
        "a frame with 20000 parts",
    ),
    "a flood of frames": ([b"\x12\x00" * (2 * MB - 1)], "too many small things"),
}


@pytest.mark.parametrize("what", IN_SESSION)
def test_a_session_ends_with_the_first_word_out_of_place(server: ServerProgram, what: str) -> None:
    messages, reason = IN_SESSION[what]

    async def scenario() -> None:
        async with site(server, f"{what[:20]}-2") as channel:
            for _ in range(3):
                call = await greeted(channel)
                for each in messages:
                    await call.write(each)
                while not (answer := await read(call)).HasField("refusal"):
                    pass
                assert answer.refusal.code == "over"
                assert reason in answer.refusal.text

    with logs(server, reason):
        play(scenario())


def test_messages_beyond_the_limit_are_cut_off_while_they_come(server: ServerProgram) -> None:
    large = bytes(60 * MB)

    async def scenario() -> None:
        async with site(server, "large") as channel:
            for first in (True, False):
                call = session_call(channel) if first else await greeted(channel)
                await call.write(large)
                assert await read(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with site(server, "large@b", Role.ADMIN) as channel:
            for method in ("Call", "UploadOffset"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(f"/{SERVICE}/{method}")(large)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    play(scenario())


def test_headers_beyond_the_limit_are_refused(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "headers@b", Role.ADMIN) as channel:
            for size in (30_000, 2 * MB):
                for _ in range(5):
                    with pytest.raises(grpc.aio.AioRpcError):
                        await channel.unary_unary(f"/{SERVICE}/Call")(
                            command("jobs"), metadata=(("x", "y" * size),), timeout=WITHIN_S
                        )

    play(scenario())


def test_a_flood_of_frames_from_one_site_does_not_hold_up_another(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "flood") as channel:
            call = await greeted(channel)

            async def flood() -> None:
                for batch in range(100):
                    await call.write(up(*range(batch * MAX_FRAMES + 1, (batch + 1) * MAX_FRAMES + 1)))

            flooding = asyncio.ensure_future(flood())
            for _ in range(3):
                await serves(server)
            flooding.cancel()
            await asyncio.wait((flooding,))
            call.cancel()

    play(scenario())


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_a_name_in_the_payload_is_nobodys(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "mallory") as channel:
            about = {"name": "site-1", "site": "site-1", "peer": "site-1", "role": "admin"}
            call = await greeted(channel, about=json.dumps(about).encode())
            head = json.dumps({"site": "site-1"}).encode()
            await call.write(pb.Up(frames=[pb.Frame(number=1, kind="k", head=head)]).SerializeToString())
            while not (answer := await read(call)).frames:
                pass
            assert json.loads(answer.frames[0].head)["from"] == "mallory"
            call.cancel()

    play(scenario())


def test_a_site_moves_nothing_of_a_job_that_is_not_its_own(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "thief") as channel:
            call = session_call(channel)
            await call.write(hello())
            session = (await read(call)).welcome.session
            said = {"session": session, "job": "j", "name": "b", "size": 1, "digest": "sha256:" + "0" * 64}
            for method in ("UploadOffset", "Download"):
                for _ in range(3):
                    fetch = channel.unary_stream(f"/{SERVICE}/{method}")(json.dumps(said).encode())
                    assert await fetch.code() is grpc.StatusCode.FAILED_PRECONDITION
                    assert "thief takes no part in job 'j'" in await fetch.details()
            call.cancel()

    with logs(server, "thief takes no part in job 'j'"):
        play(scenario())


def command(name: str, **fields: Any) -> bytes:
    return pb.Command(**{"name": name, "args": b"{}", "protocol": PROTOCOL, **fields}).SerializeToString()


def test_a_site_gives_no_commands(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "climber") as channel:
            for request in (command("jobs"), command("jobs", args=b"[" * 3 * MB), b"\xff"):
                for method in ("Call", "Watch"):
                    call = channel.unary_stream(f"/{SERVICE}/{method}", response_deserializer=pb.Answer.FromString)
                    async for answer in call(request):
                        assert answer.refusal.text == "climber has the role client, and only admins give commands"

    with logs(server, "climber has the role client, and only admins give commands"):
        play(scenario())


def test_an_admin_has_no_session(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "boss@b", Role.ADMIN) as channel:
            for _ in range(3):
                call = session_call(channel)
                await call.write(hello())
                assert (await read(call)).refusal.code == "role"

    with logs(server, "boss@b has the role admin, and only sites have sessions"):
        play(scenario())


COMMANDS = {
    "garbage": (b"\xff\xff", "no message of this protocol"),
    "depth": (command("jobs", args=b"[" * MB), "no JSON"),
    "a life story": (command("jobs", args=b" " * 2 * MB), "JSON of 2097152 bytes"),
    "another version": (command("jobs", protocol=7), "the admin's program protocol 7"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_that_makes_no_sense_is_refused(server: ServerProgram, what: str) -> None:
    request, reason = COMMANDS[what]

    async def scenario() -> None:
        async with site(server, f"{what[:20]}@b", Role.ADMIN) as channel:
            call = channel.unary_unary(f"/{SERVICE}/Call", response_deserializer=pb.Answer.FromString)
            for _ in range(3):
                assert reason in (await call(request)).refusal.text

    with logs(server, reason):
        play(scenario())


def test_calls_that_do_not_exist_are_refused(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with site(server, "curious") as channel:
            for path in (f"/{SERVICE}/Shutdown", "/grpc.reflection.v1.ServerReflection/x", "/x", f"/{SERVICE}/"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(path)(b"")
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    play(scenario())


def test_a_certificate_of_another_project_under_the_same_authority_is_refused(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with dialled(server.port, tls("site-1", project="other", issued_by="proj")) as channel:
            for _ in range(3):
                call = session_call(channel)
                await call.write(hello())
                assert (await read(call)).refusal.code == "identity"

    with logs(server, "site-1 is of project 'other', this server of 'proj'"):
        play(scenario())


def strangers() -> dict[str, Tls | None]:
    mine = tls("server", Role.SERVER)
    stolen = tls("site-1")
    return {
        "no certificate": None,
        "another authority": tls("site-1", project="elsewhere", trusts="proj"),
        "expired": tls("site-1", now=datetime.now(UTC) - timedelta(days=9), days=2),
        "not yet valid": tls("site-1", now=datetime.now(UTC) + timedelta(days=2)),
        "a server's": mine,
        "the authority's, with a site's key": Tls(mine.ca, authority().certificate, stolen.key),
    }


@pytest.mark.parametrize("who", strangers())
def test_who_has_no_certificate_of_this_project_gets_nowhere(server: ServerProgram, who: str) -> None:
    async def scenario() -> None:
        async with dialled(server.port, strangers()[who]) as channel:
            for _ in range(2):
                call = session_call(channel)
                with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                    await call.write(hello())
                    answer = await read(call)
                    assert answer is grpc.StatusCode.UNAVAILABLE, answer
                    raise asyncio.InvalidStateError
                fetch = channel.unary_unary(f"/{SERVICE}/Download")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await fetch(b"{}")
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    with logs(server):  # the handshake fails before there is anybody to be named
        play(scenario())


# -- what does not even speak the protocol -----------------------------------------------------------------------------


def connected(server: ServerProgram) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), WITHIN_S)


def wrapped(server: ServerProgram, *, alpn: list[str] | None, version: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority().certificate.decode())
    if version is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    mine = tls("site-1")
    file = Path(os.environ.get("TMPDIR", "/tmp"), f"hostile-{os.getpid()}.pem")
    file.write_bytes(mine.certificate + mine.key)
    try:
        context.load_cert_chain(file)
    finally:
        file.unlink()
    return context.wrap_socket(connected(server), server_hostname="localhost")


def ends(sock: socket.socket, within_s: float = WITHIN_S) -> bool:
    """Whether the server hangs up."""
    sock.settimeout(within_s)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 1000,
        b"\x16\x03\x01\xff\xff" + bytes(5000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_tls_is_hung_up_on(server: ServerProgram, data: bytes) -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(server)) for _ in range(20)]
        for each in socks:
            each.sendall(data)
        assert all(ends(each) for each in socks)


@pytest.mark.parametrize("alpn", [None, ["http/1.1"]])
def test_tls_without_http2_is_hung_up_on(server: ServerProgram, alpn: list[str] | None) -> None:
    sock = None
    with suppress(ssl.SSLError):  # during the handshake, or after it
        sock = wrapped(server, alpn=alpn)
    if sock is not None:
        with sock:
            assert ends(sock)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(server: ServerProgram, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError):
        wrapped(server, alpn=["h2"], version=version)


def test_who_connects_and_says_nothing_keeps_nobody_out_and_is_hung_up_on(server: ServerProgram) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(300)]
        slow = [stack.enter_context(connected(server)) for _ in range(20)]
        for each in slow:
            each.sendall(b"\x16\x03\x01")
        mute = [stack.enter_context(wrapped(server, alpn=["h2"])) for _ in range(20)]
        play(serves(server))
        for each in (silent[0], slow[0], mute[0]):
            assert ends(each, within_s=15)


def test_many_streams_of_one_connection_are_held_back(server: ServerProgram) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(site(server, "streams"))
            calls = [session_call(channel) for _ in range(300)]
            await serves(server)
            for each in calls:
                each.cancel()

    play(scenario())


def test_frames_of_http2_without_end_are_bounded(server: ServerProgram) -> None:
    settings = b"\0\0\0\x04\0\0\0\0\0"
    ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    with wrapped(server, alpn=["h2"]) as sock:
        try:
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
            for _ in range(200):
                sock.sendall((settings + ping) * 500)  # nobody reads the answers
        except OSError:
            pass  # it has hung up, or reads no more
