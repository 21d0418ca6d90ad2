"""A startup kit: the folder with which a participant joins a federation.

::

    site-1/
      startup/
        fed_client.json     settings (fed_server.json, fed_admin.json)
        client.crt          certificate (server.crt)
        client.key          private key, readable for its owner alone
        rootCA.pem          the project's authority
        signature.json      digests of all of these, signed by the authority
        start.sh            starts it; hansa.service does so for systemd
        readme.txt
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hansa.provision.identity import Identity, KitError, Role, identity_of
from hansa.provision.local_settings import with_local

STARTUP = "startup"
SIGNATURE = "signature.json"
CA = "rootCA.pem"
SETTINGS_FILES = {Role.SERVER: "fed_server.json", Role.CLIENT: "fed_client.json", Role.ADMIN: "fed_admin.json"}
_WHOSE = {Role.SERVER: "a server", Role.CLIENT: "a site", Role.ADMIN: "an admin"}
STEMS = {Role.SERVER: "server", Role.CLIENT: "client", Role.ADMIN: "client"}


@dataclass(frozen=True)
class Kit:
    """A startup kit that was checked.

    Attributes:
        folder: The kit; the participant's workspace root.
        identity: Whose it is, from its certificate.
        server_host: Where the server is.
        server_port: Its port.
        certificate: PEM.
        key: PEM.
        ca: The project's authority, PEM.
        settings: The settings file; with what `local/site.json` or `local/server.json` says in its place.
    """

    folder: Path
    identity: Identity
    server_host: str
    server_port: int
    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes
    settings: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    @property
    def server_address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        host = f"[{self.server_host}]" if ":" in self.server_host else self.server_host
        return f"{host}:{self.server_port}"

    @classmethod
    def load(cls, folder: Path | str, role: Role | None = None) -> Kit:
        """Read a kit and check it.

        Args:
            folder: The kit, or the `startup` folder in it.
            role: Whose kit it must be.

        Raises:
            KitError: Something is missing, was changed, may be read by others, or is not valid (any more, yet).
        """
        root, startup = _folders(Path(folder))
        found = _role_of(startup)
        if role is not None and found is not role:
            raise KitError(
                f"is the kit of {_WHOSE[found]}, and here {_WHOSE[role]}'s is needed: name that one", file=str(root)
            )
        stem = STEMS[found]
        _check_private(startup / f"{stem}.key")
        ca, certificate, key = (_read(startup / name) for name in (CA, f"{stem}.crt", f"{stem}.key"))
        _check_signature(startup, ca)
        identity = _checked_identity(certificate, ca, found, startup / f"{stem}.crt")
        _check_pair(certificate, key, startup / f"{stem}.key")
        settings = _settings(startup / SETTINGS_FILES[found])
        server = settings if found is Role.SERVER else settings.get("server", {})
        try:
            host, port = str(server["host"]), int(server["port"])
        except (KeyError, TypeError, ValueError):
            raise KitError("names no host and port of the server", file=str(startup / SETTINGS_FILES[found])) from None
        if found is not Role.ADMIN:
            settings = with_local(settings, root, found)
        return cls(root, identity, host, port, certificate, key, ca, settings)


def sign(startup: Path, authority: Any) -> None:  # Any: an Authority, which loads cryptography
    """Write the signed list of a kit's files."""
    digests = digests_of(startup)
    content = json.dumps(digests, sort_keys=True)
    signature = base64.b64encode(authority.sign(content.encode())).decode()
    (startup / SIGNATURE).write_text(
        json.dumps({"version": 1, "files": digests, "signature": signature}, indent=1) + "\n", encoding="utf-8"
    )


def digests_of(startup: Path) -> dict[str, str]:
    """The digest of each file of a kit, by its name.

    Raises:
        KitError: There is a link, or something that is no file.
    """
    digests = {}
    for path in sorted(startup.iterdir()):
        if path.name == SIGNATURE:
            continue
        if path.is_symlink() or not path.is_file():
            raise KitError("is no plain file, and a kit has nothing else; take it away", file=str(path))
        digests[path.name] = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _folders(folder: Path) -> tuple[Path, Path]:
    """The kit and its `startup` folder; either may be named."""
    root = folder.absolute()
    root = root.parent if root.name == STARTUP and not (root / STARTUP).is_dir() else root
    try:
        next(root.iterdir(), None)
    except FileNotFoundError:
        raise KitError(
            "there is no such folder: name the kit's, the one in which startup lies", file=str(root)
        ) from None
    except OSError as error:
        raise KitError(
            f"cannot be read: {error.strerror}; a kit is for the user it belongs to", file=str(root)
        ) from None
    startup = root / STARTUP
    if not startup.is_dir():
        raise KitError(
            "is no startup kit: there is no folder startup in it; name the folder that has one", file=str(root)
        )
    return root, startup


def _role_of(startup: Path) -> Role:
    for role, name in SETTINGS_FILES.items():
        if (startup / name).exists():
            return role
    raise KitError(
        f"is no startup kit: it has none of {', '.join(SETTINGS_FILES.values())}; get it anew", file=str(startup)
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KitError(f"cannot be read: {error.strerror}; get the kit anew", file=str(path)) from None


def _check_private(path: Path) -> None:
    try:
        status = path.lstat()
    except OSError as error:
        raise KitError(f"cannot be read: {error.strerror}; get the kit anew", file=str(path)) from None
    if not stat.S_ISREG(status.st_mode):
        raise KitError("is no plain file; get the kit anew", file=str(path))
    if status.st_uid != os.geteuid():
        raise KitError(
            "belongs to another user, and must be yours alone: start as that user, or chown it", file=str(path)
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KitError(f"may be read by others (mode {mode:04o}): chmod 600 {path.name}", file=str(path))


def _check_signature(startup: Path, ca: bytes) -> None:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    file = startup / SIGNATURE
    try:
        manifest = json.loads(_read(file))
        files, signature = dict(manifest["files"]), base64.b64decode(manifest["signature"])
        key = x509.load_pem_x509_certificate(ca).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, json.dumps(files, sort_keys=True).encode(), ec.ECDSA(hashes.SHA256()))
    except (ValueError, KeyError, TypeError, AssertionError, InvalidSignature):
        raise KitError("the kit's signature is not the project's; get the kit anew", file=str(file)) from None
    present = digests_of(startup)
    for name in sorted({*files, *present}):
        if name not in present:
            raise KitError("is missing; get the kit anew", file=str(startup / name))
        if name not in files:
            raise KitError("does not belong to the kit; take it away", file=str(startup / name))
        if files[name] != present[name]:
            raise KitError("was changed after it was issued; undo that, or get the kit anew", file=str(startup / name))


def _checked_identity(certificate: bytes, ca: bytes, role: Role, file: Path) -> Identity:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        identity = identity_of(certificate)
    except KitError as error:
        raise KitError(f"{error.message}; get the kit anew", file=str(file)) from None
    if identity.role is not role:
        raise KitError(
            f"is the certificate of {_WHOSE[identity.role]}, not {_WHOSE[role]}'s; get the kit anew", file=str(file)
        )
    own, issuer = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificate(ca)
    try:
        own.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise KitError(
            "was not issued by the authority beside it (is it another project's?); get the kit anew", file=str(file)
        ) from None
    now = datetime.now(UTC)
    for name, each in (("certificate", own), ("authority's certificate", issuer)):
        begin, end = each.not_valid_before_utc, each.not_valid_after_utc
        if now < begin:
            raise KitError(f"the {name} is valid from {begin:%Y-%m-%d %H:%M} UTC; here it is {now:%Y-%m-%d %H:%M}: "
                           "is the clock right?", file=str(file))  # fmt: skip
        if now > end:
            raise KitError(f"the {name} has expired on {end:%Y-%m-%d %H:%M} UTC (here it is {now:%Y-%m-%d %H:%M}): "
                           "ask the project for a new kit", file=str(file))  # fmt: skip
    return identity


def _check_pair(certificate: bytes, key: bytes, file: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        public = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError):
        raise KitError("is no private key; get the kit anew", file=str(file)) from None
    if public != x509.load_pem_x509_certificate(certificate).public_key():
        raise KitError("is not the key of the certificate beside it; get the kit anew", file=str(file))


def _settings(file: Path) -> dict[str, Any]:  # Any: JSON
    try:
        content = json.loads(_read(file))
    except ValueError as error:
        raise KitError(f"is no JSON: {error}", file=str(file)) from None
    if not isinstance(content, dict):
        raise KitError("must be an object", file=str(file))
    return content
