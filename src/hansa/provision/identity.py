"""Who somebody is: project, organisation, name and role, as a certificate says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, unquote, urlsplit

from hansa.errors import ConfigError

SCHEME = "hansa"


class KitError(ConfigError):
    """A certificate or a startup kit is not what it should be."""


class Role(Enum):
    """What a participant is."""

    SERVER = "server"
    """Coordinates the federation."""
    CLIENT = "client"
    """A site."""
    ADMIN = "admin"
    """A person or a program that submits jobs and steers them."""


@dataclass(frozen=True)
class Identity:
    """Who somebody is.

    Attributes:
        project: The federation.
        org: The organisation.
        name: The name in the project: of a server its host name, of an admin an e-mail address.
        role: What it is.
    """

    project: str
    org: str
    name: str
    role: Role

    @property
    def uri(self) -> str:
        """As it stands in the certificate: `hansa://project/org/name/role`, each part quoted."""
        parts = (self.project, self.org, self.name, self.role.value)
        return f"{SCHEME}://" + "/".join(quote(part, safe="") for part in parts)

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """The identity that a URI names.

        Raises:
            KitError: It names none.
        """
        try:
            split = urlsplit(uri)
            parts = [unquote(part, errors="strict") for part in uri.removeprefix(f"{SCHEME}://").split("/")]
            if split.scheme != SCHEME or len(parts) != 4 or not all(parts):
                raise ValueError(uri)
            identity = cls(parts[0], parts[1], parts[2], Role(parts[3]))
        except ValueError:
            raise KitError(f"{uri[:100]!r} names no participant") from None
        if identity.uri != uri:  # one way to write each, or two certificates could look different and be one
            raise KitError(f"{uri[:100]!r} names no participant")
        return identity


def identity_of(pem: bytes) -> Identity:
    """Who a certificate says that somebody is; that its issuer is the project's was TLS's to see.

    Raises:
        KitError: It names nobody, or was not issued for what it says.
    """
    from cryptography import x509

    from hansa.provision.authority import ROLE_USAGE

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise KitError(f"a certificate that names no participant: {error}") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise KitError("a certificate that names no participant, or several")
    identity = Identity.parse(uris[0])
    if ROLE_USAGE[identity.role] not in usages:
        raise KitError(f"a certificate of {identity.name} that was not issued for a {identity.role.value}")
    return identity
