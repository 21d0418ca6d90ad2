"""What gRPC itself takes, over mutual TLS on this machine: the yardsticks of the federation's benchmarks.

- **Ping.** A server (`grpc.aio`) holds a stream with each of some processes; a round is a message to all and an answer
  from all.
- **Blobs.** Some processes at a time each get so many bytes and then send as many back, in pieces of 1 MB; either end
  takes the SHA-256, the receiver writes a file. The server is one process with threads, which is the fastest of gRPC's
  kinds in Python.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from federation_parts import pss

_PIECE = 1 << 20
_OPTIONS = [
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.max_send_message_length", 8 << 20),
    ("grpc.so_reuseport", 0),
]
_METHOD = "/bare.Bare/"
_MESSAGE = bytes(200)
_END_S = 10.0


# -- what the benchmarks call -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pings:
    """Rounds of a message to all and an answer from all.

    Attributes:
        median_s: A round's time.
        all_s: Of every round, the first ones apart.
        bytes_per_stream: By how much the server's memory grew with every stream.
    """

    median_s: float
    all_s: list[float]
    bytes_per_stream: float


def ping(num_processes: int, num_rounds: int, *, per_process: int = 1) -> Pings:
    """Time rounds with so many processes, each with so many connections."""
    num_streams = num_processes * per_process
    with _bare("ping-server", str(num_streams), str(num_rounds)) as (folder, server, port), ExitStack() as stack:
        for _ in range(num_processes):
            stack.enter_context(_started(folder, "ping-client", port, str(per_process)))
        seconds, num_bytes = json.loads(_line(server))
    return Pings(statistics.median(seconds), seconds, num_bytes / num_streams)


@contextmanager
def blob_server(num_bytes: int) -> Iterator[BlobServer]:
    """A server that gives and takes so many bytes, while the context is open."""
    with _bare("blob-server", str(num_bytes)) as (folder, server, port):
        yield BlobServer(folder, server.pid, port)


@dataclass(frozen=True)
class BlobServer:
    """A running one.

    Attributes:
        folder: Where its certificates are, and the files that it takes.
        pid: Its process.
        port: Where it listens.
    """

    folder: Path
    pid: int
    port: str

    def turn(self, num_processes: int) -> float:
        """Seconds in which so many processes, all at once, get all bytes and send as many back."""
        with ExitStack() as stack:
            clients = [
                stack.enter_context(_started(self.folder, "blob-client", self.port)) for _ in range(num_processes)
            ]
            for client in clients:
                assert _line(client) == "ready"
            began = time.perf_counter()
            for client in clients:
                print(file=_pipe(client.stdin), flush=True)
            for client in clients:
                assert _line(client) == "done"
            return time.perf_counter() - began


def write_certificates(folder: Path) -> None:
    """A CA, a server of it that is called localhost, and a client, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = dt.datetime.now(dt.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server", "client")}
    names = {name: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in keys}
    for name, key in keys.items():
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(keys["ca"], hashes.SHA256())
        )
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{name}.key").write_bytes(key.private_bytes(*form))


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def _bare(*server: str) -> Iterator[tuple[Path, subprocess.Popen[str], str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificates(folder)
        with _started(folder, *server) as process:
            yield folder, process, _line(process)


@contextmanager
def _started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, __file__, arguments[0], str(folder), *arguments[1:]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _line(process: subprocess.Popen[str]) -> str:
    line = _pipe(process.stdout).readline()
    if not line:
        raise RuntimeError(f"{process.args} ended with exit code {process.wait(_END_S)}")
    return line.strip()


# -- in these processes -----------------------------------------------------------------------------------------------


def _server_credentials(folder: Path) -> object:
    import grpc

    pair = ((folder / "server.key").read_bytes(), (folder / "server.crt").read_bytes())
    return grpc.ssl_server_credentials([pair], (folder / "ca.crt").read_bytes(), require_client_auth=True)


def _client_credentials(folder: Path) -> object:
    import grpc

    return grpc.ssl_channel_credentials(
        *((folder / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt"))
    )


async def _ping_server(folder: Path, num_streams: int, num_rounds: int) -> None:
    import grpc

    streams: asyncio.Queue[object] = asyncio.Queue()
    over = asyncio.Event()

    async def stream(requests: object, context: object) -> None:
        streams.put_nowait(context)
        await over.wait()

    async def ask(context: object) -> None:
        await context.write(_MESSAGE)
        assert await context.read() == _MESSAGE

    server = grpc.aio.server(options=_OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare.Bare", {"Ping": handler})])
    port = server.add_secure_port("localhost:0", _server_credentials(folder))
    await server.start()
    _, before = pss(os.getpid())
    print(port, flush=True)
    contexts = [await streams.get() for _ in range(num_streams)]
    _, after = pss(os.getpid())
    seconds = []
    for _ in range(num_rounds + 5):
        began = time.perf_counter()
        await asyncio.gather(*map(ask, contexts))
        seconds.append(time.perf_counter() - began)
    over.set()
    await server.stop(_END_S)
    print(json.dumps([seconds[5:], after - before]), flush=True)


async def _ping_clients(folder: Path, port: str, num_streams: int) -> None:
    await asyncio.gather(*(_ping_client(folder, port) for _ in range(num_streams)))


async def _ping_client(folder: Path, port: str) -> None:
    import grpc

    options = [*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    async with grpc.aio.secure_channel(f"localhost:{port}", _client_credentials(folder), options) as channel:
        call = channel.stream_stream(f"{_METHOD}Ping")()
        while (message := await call.read()) is not grpc.aio.EOF:
            await call.write(message)


def _pieces(data: memoryview, digest: hashlib._Hash) -> Iterator[bytes]:
    for at in range(0, len(data), _PIECE):
        piece = bytes(data[at : at + _PIECE])
        digest.update(piece)
        yield piece


def _take(pieces: Iterable[bytes], file: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with file.open("wb") as out:
        for piece in pieces:
            digest.update(piece)
            size += out.write(piece)
    file.unlink()
    return size, digest.hexdigest()


def _blob_server(folder: Path, num_bytes: int) -> None:
    import grpc

    data = memoryview(bytes(num_bytes))

    def down(request: bytes, context: object) -> Iterator[bytes]:
        yield from _pieces(data, hashlib.sha256())

    def up(pieces: Iterator[bytes], context: object) -> bytes:
        return json.dumps(_take(pieces, folder / f"up-{id(context)}")).encode()

    methods = {
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
    }
    server = grpc.server(ThreadPoolExecutor(20), options=_OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare.Bare", methods)])
    port = server.add_secure_port("localhost:0", _server_credentials(folder))
    server.start()
    print(port, flush=True)
    sys.stdin.readline()


def _blob_client(folder: Path, port: str) -> None:
    import grpc

    with grpc.secure_channel(f"localhost:{port}", _client_credentials(folder), _OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(60)
        print("ready", flush=True)
        sys.stdin.readline()
        size, digest = _take(channel.unary_stream(f"{_METHOD}Down")(b""), folder / f"down-{os.getpid()}")
        own = hashlib.sha256()
        answer = channel.stream_unary(f"{_METHOD}Up")(_pieces(memoryview(bytes(size)), own))
        assert json.loads(answer) == [size, digest] == [size, own.hexdigest()]
        print("done", flush=True)


def main() -> None:
    """One of the processes."""
    role, folder, *arguments = sys.argv[1:]
    if role == "ping-server":
        asyncio.run(_ping_server(Path(folder), int(arguments[0]), int(arguments[1])))
    elif role == "ping-client":
        asyncio.run(_ping_clients(Path(folder), arguments[0], int(arguments[1])))
    elif role == "blob-server":
        _blob_server(Path(folder), int(arguments[0]))
    elif role == "blob-client":
        _blob_client(Path(folder), arguments[0])


if __name__ == "__main__":
    main()
