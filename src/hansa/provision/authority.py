"""The project's certificate authority: it issues one certificate per participant, and signs startup kits."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from hansa.provision.identity import Identity, KitError, Role

CA_DAYS = 3650
LEAF_DAYS = 360
_CLOCKS_DIFFER = timedelta(hours=1)

ROLE_USAGE = {
    Role.SERVER: ObjectIdentifier("2.25.311027461842159837044127706312805113857.1"),
    Role.CLIENT: ObjectIdentifier("2.25.311027461842159837044127706312805113857.2"),
    Role.ADMIN: ObjectIdentifier("2.25.311027461842159837044127706312805113857.3"),
}
"""What a certificate may be used for, besides TLS; below a UUID, where nobody has to be asked for a number."""

_TLS_USAGE = {
    Role.SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
    Role.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH,
    Role.ADMIN: ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True)
class Credentials:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates and signs.

    Args:
        certificate: Its own.
        key: Its private key, on P-256.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, project: str, *, now: datetime | None = None) -> Authority:
        """A new one for a project."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, project[:64])])
        builder = _builder(name, name, key.public_key(), days=CA_DAYS, now=now)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(is_ca=True), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return cls(builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()), key)

    @property
    def certificate(self) -> bytes:
        """Its certificate as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, identity: Identity, hosts: Sequence[str] = (), *, days: float = LEAF_DAYS, now: datetime | None = None
    ) -> Credentials:
        """A certificate for a participant, with a key of its own.

        Args:
            identity: Who it is.
            hosts: Host names and addresses by which a server is reached.
            days: How long it is valid.
            now: From when; from an hour ago if None, since clocks differ.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, identity.name[:64]),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.org[:64]),
            ]
        )
        builder = _builder(subject, self._certificate.subject, key.public_key(), days=days, now=now)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
        usages = [_TLS_USAGE[identity.role], ROLE_USAGE[identity.role]]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(is_ca=False), True),
            (x509.SubjectAlternativeName(names + [_host(host) for host in dict.fromkeys(hosts)]), False),
            (x509.ExtendedKeyUsage(usages), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Credentials(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))

    def sign(self, content: bytes) -> bytes:
        """The signature of some bytes (ECDSA, SHA-256)."""
        return self._key.sign(content, ec.ECDSA(hashes.SHA256()))

    def save(self, folder: Path) -> None:
        """Keep certificate and key in a folder; only this user may read the key."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "rootCA.pem").write_bytes(self.certificate)
        write_secret(folder / "rootCA.key", _pem(self._key))

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The one that `save` has kept.

        Raises:
            KitError: It is not there, or damaged.
        """
        try:
            mode = stat.S_IMODE((folder / "rootCA.key").stat().st_mode)
            certificate = x509.load_pem_x509_certificate((folder / "rootCA.pem").read_bytes())
            key = serialization.load_pem_private_key((folder / "rootCA.key").read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            why = getattr(error, "strerror", None) or "it is damaged"
            raise KitError(
                f"the project's authority cannot be read ({why}); bring its backup back", file=str(folder)
            ) from None
        if mode & 0o077:
            raise KitError(
                f"the project's most secret key may be read by others (mode {mode:04o}): chmod 600 it",
                file=str(folder / "rootCA.key"),
            )
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise KitError("rootCA.key is not the key of rootCA.pem; bring the backup of both back", file=str(folder))
        return cls(certificate, key)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, from its first byte on."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: float, now: datetime | None
) -> x509.CertificateBuilder:
    begin = (now or datetime.now(UTC)) - _CLOCKS_DIFFER
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
