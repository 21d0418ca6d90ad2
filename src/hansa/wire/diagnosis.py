"""Why a connection does not come about, in one line that says what to do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hansa.wire.net_options import Tls

_TIMEOUT_S = 5.0


def diagnose(host: str, port: int, tls: Tls) -> str:
    """Try to connect step by step, and say which step fails.

    Args:
        host: The server.
        port: Its port.
        tls: Who tries.
    """
    where = f"{host}:{port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"{where}: the name {host!r} cannot be resolved ({error.strerror}): check it, and this machine's DNS"
    sock = None
    problem = "no address"
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_TIMEOUT_S)
            sock.connect(address)
            break
        except TimeoutError:
            problem = "no answer within 5 s: a firewall may drop it"
        except ConnectionRefusedError:
            problem = "nobody listens there: is the server running, and is the port right?"
        except OSError as error:
            problem = error.strerror or str(error)
        sock.close()
        sock = None
    if sock is None:
        return f"{where}: {problem}"
    with sock:
        return f"{where}: {_handshake(sock, host, tls)}"


async def diagnosed(server: str, tls: Tls) -> str:
    """What `diagnose` says of `host:port`, without holding up the loop.

    On a thread of its own that nobody waits for at the end: resolving a name can take long, and cannot be stopped.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    host, _, port = server.rpartition(":")

    def tell(text: str) -> None:
        if not answer.done():
            answer.set_result(text)

    def work() -> None:
        text = f"{server}: no connection"
        try:
            text = diagnose(host.strip("[]"), int(port), tls)
        finally:
            with suppress(RuntimeError):  # the loop is closed, and nobody asks any more
                loop.call_soon_threadsafe(tell, text)

    threading.Thread(target=work, name="hansa-diagnosis", daemon=True).start()
    return await answer


def _handshake(sock: socket.socket, host: str, tls: Tls) -> str:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=tls.ca.decode())
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:  # ssl takes files only
        file = Path(folder, "pair.pem")
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(tls.certificate + tls.key)
        try:
            context.load_cert_chain(file)
        except ssl.SSLError as error:
            return f"the kit's certificate and key do not fit together ({error.reason})"
    try:
        with context.wrap_socket(sock, server_hostname=host) as wrapped:
            wrapped.settimeout(_TIMEOUT_S)
            wrapped.recv(1)  # with TLS 1.3 the server says only now what it thinks of our certificate
    except ssl.SSLCertVerificationError as error:
        return _verification(error)
    except ssl.SSLError as error:
        return _alert(error, tls)
    except TimeoutError:
        return "the server takes the connection but does not answer; it may be overloaded, or no server of Hansa"
    except OSError as error:
        return f"the connection was cut during the TLS handshake ({error.strerror or error}): is a proxy in between?"
    return "the server can be reached; the connection was cut for a moment"


def _verification(error: ssl.SSLCertVerificationError) -> str:
    now = f"here it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    match error.verify_code:
        case 9:
            return f"the server's certificate is not yet valid; {now}: is this clock right?"
        case 10:
            return f"the server's certificate has expired; {now}: it needs a new kit, or this clock is wrong"
        case 18 | 19 | 20 | 21 | 7:
            return "the server's certificate is of another authority: the kit and the server are of different projects"
        case 62 | 64:
            return f"the server's certificate is for other names ({error.verify_message}): use the name in the kit"
        case 26:
            return "that is no server: its certificate is of another role"
    return f"the server's certificate is refused: {error.verify_message}"


def _alert(error: ssl.SSLError, tls: Tls) -> str:
    reason = (error.reason or str(error)).upper()
    if "CERTIFICATE_EXPIRED" in reason:
        return "the server says that this kit's certificate has expired: ask the project for a new kit"
    if "UNKNOWN_CA" in reason or "DECRYPT_ERROR" in reason or "UNKNOWN_PSK" in reason:
        return "the server does not know the authority of this kit: the kit and the server are of different projects"
    if "CERTIFICATE" in reason:
        return f"the server refuses this kit's certificate ({error.reason}): clock, or another project?"
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return "what answers there does not speak TLS: is the port right?"
    return f"the TLS handshake fails ({error.reason or error})"
