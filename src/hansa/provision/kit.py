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

STARTUP = "startup"
SIGNATURE = "signature.json"
CA = "rootCA.pem"
_SETTINGS = {Role.SERVER: "fed_server.json", Role.CLIENT: "fed_client.json", Role.ADMIN: "fed_admin.json"}
_STEMS = {Role.SERVER: "server", Role.CLIENT: "client", Role.ADMIN: "client"}


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
        settings: The settings file.
    """

    folder: Path
    identity: Identity
    server_host: str
    server_port: int
    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes
    settings: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    @classmethod
    def load(cls, folder: Path | str, role: Role | None = None) -> Kit:
        """Read a kit and check it.

        Args:
            folder: The kit, or the `startup` folder in it.
            role: Whose kit it must be.

        Raises:
            KitError: Something is missing, was changed, may be read by others, or is not valid (any more, yet).
        """
        root = Path(folder).absolute()
        root = root.parent if root.name == STARTUP and not (root / STARTUP).is_dir() else root
        startup = root / STARTUP
        if not startup.is_dir():
            raise KitError("is no startup kit: it has no folder 'startup'", file=str(root))
        found = _role_of(startup)
        if role is not None and found is not role:
            raise KitError(f"is the kit of a {found.value}, and the one of a {role.value} is needed", file=str(root))
        stem = _STEMS[found]
        _check_private(startup / f"{stem}.key")
        ca, certificate, key = (_read(startup / name) for name in (CA, f"{stem}.crt", f"{stem}.key"))
        _check_signature(startup, ca)
        identity = _checked_identity(certificate, ca, found, startup / f"{stem}.crt")
        settings = _settings(startup / _SETTINGS[found])
        server = settings if found is Role.SERVER else settings.get("server", {})
        try:
            host, port = str(server["host"]), int(server["port"])
        except (KeyError, TypeError, ValueError):
            raise KitError("names no host and port of the server", file=str(startup / _SETTINGS[found])) from None
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
            raise KitError("is no plain file; a kit has nothing else", file=str(path))
        digests[path.name] = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _role_of(startup: Path) -> Role:
    for role, name in _SETTINGS.items():
        if (startup / name).exists():
            return role
    raise KitError(f"is no startup kit: it has none of {', '.join(_SETTINGS.values())}", file=str(startup))


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
        raise KitError("is no plain file", file=str(path))
    if status.st_uid != os.geteuid():
        raise KitError("belongs to another user: the key must be yours alone", file=str(path))
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
            raise KitError("was changed after it was issued; get the kit anew", file=str(startup / name))


def _checked_identity(certificate: bytes, ca: bytes, role: Role, file: Path) -> Identity:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    identity = identity_of(certificate)
    if identity.role is not role:
        raise KitError(f"is the certificate of a {identity.role.value}, not of a {role.value}", file=str(file))
    own, issuer = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificate(ca)
    try:
        own.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise KitError("was not issued by the authority beside it (another project?)", file=str(file)) from None
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


def _settings(file: Path) -> dict[str, Any]:  # Any: JSON
    try:
        content = json.loads(_read(file))
    except ValueError as error:
        raise KitError(f"is no JSON: {error}", file=str(file)) from None
    if not isinstance(content, dict):
        raise KitError("must be an object", file=str(file))
    return content
