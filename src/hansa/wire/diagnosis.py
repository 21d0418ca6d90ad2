"""Why a connection does not come about, in one line that says what to do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hansa.wire.net_options import Tls

_TIMEOUT_S = 5.0
_NEW_KIT = "ask the project's lead for a new kit"
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


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
        text = f"{server}: there is no connection"
        try:
            text = diagnose(host.strip("[]"), int(port), tls)
        finally:
            with suppress(RuntimeError):  # the loop is closed, and nobody asks any more
                loop.call_soon_threadsafe(tell, text)

    threading.Thread(target=work, name="hansa-diagnosis", daemon=True).start()
    return await answer


def diagnose(
    host: str, port: int, tls: Tls, *, timeout_s: float = _TIMEOUT_S, environment: Mapping[str, str] = os.environ
) -> str:
    """Try to connect step by step, and say which step fails.

    Args:
        host: The server.
        port: Its port.
        tls: Who tries.
        timeout_s: How long a step may take.
        environment: Where a proxy may be named.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if (problem := _own(tls)) is not None:
        return f"{where}: {problem}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return f"{where}: the name {host!r} cannot be resolved ({why}): check it, and this machine's DNS"
    problem = "it has no address"
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(timeout_s)
            found = _connected(sock, address)
            if found is None:
                return f"{where}: {_handshake(sock, host, address=address, tls=tls)}"
            problem = found
    return f"{where}: {problem}{_proxy(environment)}"


def _connected(sock: socket.socket, address: Any) -> str | None:  # Any: each family's own
    try:
        sock.connect(address)
    except TimeoutError:
        return f"no answer within {sock.gettimeout():g} s: does a firewall drop it, or is the address wrong?"
    except ConnectionRefusedError:
        return "nobody listens there: is the server running, and is the port right?"
    except OSError as error:
        return f"it cannot be reached ({error.strerror or error}): check the network, and the address"
    return None


def _proxy(environment: Mapping[str, str]) -> str:
    for name in _PROXIES:
        if environment.get(name):
            return f" (the environment names a proxy, {name}: if the server needs none, put it into no_proxy)"
    return ""


# -- our own certificate -----------------------------------------------------------------------------------------------


def _own(tls: Tls) -> str | None:
    """What is wrong with what we would show."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        certificate, ca = x509.load_pem_x509_certificate(tls.certificate), x509.load_pem_x509_certificate(tls.ca)
    except ValueError:
        return f"the kit's certificate or its authority's cannot be read: {_NEW_KIT}"
    if certificate.issuer != ca.subject:
        return f"the kit's certificate is not of the kit's authority: {_NEW_KIT}"
    with suppress(x509.ExtensionNotFound):
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
            return "this kit's certificate is a server's, and only sites and admins connect: use another kit"
    return _dates(certificate, "this kit's certificate")


def _valid(tls: Tls) -> str:
    from cryptography import x509

    own = x509.load_pem_x509_certificate(tls.certificate)
    dates = f"{own.not_valid_before_utc:%Y-%m-%d %H:%M} to {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return f"it is valid from {dates}, and here it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _dates(certificate: object, whose: str) -> str | None:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    now = datetime.now(UTC)
    here = f"here it is {now:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return f"{whose} is not valid before {since}, and {here}: is this machine's clock right?"
    if now > certificate.not_valid_after_utc:
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        return f"{whose} has expired on {until}, and {here}: {_NEW_KIT}, unless this machine's clock is wrong"
    return None


# -- the handshake -----------------------------------------------------------------------------------------------------


def _handshake(sock: socket.socket, host: str, *, address: Any, tls: Tls) -> str:  # Any: each family's own
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=tls.ca.decode())
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:  # ssl takes files only
        file = Path(folder, "pair.pem")
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(tls.certificate + tls.key)
        try:
            context.load_cert_chain(file)
        except ssl.SSLError:
            return f"the kit's certificate and key do not fit together: {_NEW_KIT}"
    timeout_s = sock.gettimeout()
    try:
        sock.getpeername()  # fails where the connection was reset meanwhile; wrap_socket would let go of a socket
        with context.wrap_socket(sock, server_hostname=host) as wrapped:
            heard = wrapped.recv(1)  # with TLS 1.3 the server says only now what it thinks of our certificate
            protocol = wrapped.selected_alpn_protocol()
    except ssl.SSLCertVerificationError as error:
        with socket.socket(sock.family) as second:
            second.settimeout(timeout_s)
            return _verification(error, _certificate_at(second, address))
    except ssl.SSLError as error:
        return _alert(error)
    except TimeoutError:
        return "the server takes the connection but does not answer: is it overloaded, or no server of Hansa?"
    except OSError as error:
        return f"the connection was cut during the TLS handshake ({error.strerror or error}): is a proxy in between?"
    if protocol != "h2":
        return "what answers there speaks TLS, but no HTTP/2: is the port right, or is a proxy in between?"
    if not heard:
        return (
            f"the server hangs up on this kit's certificate; {_valid(tls)}: is it of another project, or a clock wrong?"
        )
    return "the server can be reached; the connection was cut for a moment"


def _certificate_at(sock: socket.socket, address: Any) -> object | None:  # Any: each family's own
    """The certificate of whoever answers, whoever that is."""
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        sock.connect(address)
        with context.wrap_socket(sock) as wrapped:
            found = wrapped.getpeercert(binary_form=True)
        return None if found is None else x509.load_der_x509_certificate(found)
    except (OSError, ValueError):
        return None


def _verification(error: ssl.SSLCertVerificationError, certificate: object | None) -> str:
    match error.verify_code:
        case 9 | 10:
            dates = None if certificate is None else _dates(certificate, "the server's certificate")
            return (
                dates or f"a certificate of the server is not valid now ({error.verify_message}): is the clock right?"
            )
        case 7 | 18 | 19 | 20 | 21:
            return "the server's certificate is of another authority: this kit is of another project than the server"
        case 62 | 64:
            names = "" if certificate is None else f", only for {_names(certificate)}"
            return f"the server's certificate is not for this name{names}: use one of its names, or issue it anew"
        case 26:
            return "who answers there has the certificate of another role, not a server's: is the address right?"
    return f"the server's certificate is refused ({error.verify_message}): ask the project's lead"


def _names(certificate: object) -> str:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "none at all"
    names = extension.get_values_for_type(x509.DNSName)
    addresses = [str(each) for each in extension.get_values_for_type(x509.IPAddress)]
    return ", ".join([*names, *addresses]) or "none at all"


def _alert(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).upper()
    here = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if "CERTIFICATE_EXPIRED" in reason:
        return f"the server says that this kit's certificate is not valid now; here it is {here}: compare the clocks"
    if "UNKNOWN_CA" in reason or "DECRYPT_ERROR" in reason:
        return "the server does not know the authority of this kit: the kit is of another project than the server"
    if "CERTIFICATE" in reason:
        what = "is it of another project, or do the clocks differ?"
        return f"the server refuses this kit's certificate ({reason.lower()}); here it is {here}: {what}"
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return "what answers there does not speak TLS: is the port right?"
    return f"the TLS handshake fails ({error.reason or error}): is the port right, or is a proxy in between?"
