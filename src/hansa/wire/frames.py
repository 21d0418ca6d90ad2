"""What travels between a server, its sites and its admins, as values; no gRPC here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, from its certificate alone.

    Attributes:
        project: The federation.
        org: The organisation.
        name: Its name in the project.
        role: `server`, `client` (a site) or `admin`.
    """

    project: str
    org: str
    name: str
    role: str


@dataclass(frozen=True)
class BlobRef:
    """A blob: an immutable file that travels on a stream of its own.

    Attributes:
        name: Its name within a job.
        size_bytes: Its size.
        digest: The tagged digest of its bytes, `sha256:...`.
    """

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Frame:
    """One thing said in a session.

    Attributes:
        kind: What it is.
        job: The job that it belongs to; empty for none.
        head: JSON.
        parts: Bytes that go with it.
        blobs: Files that its receiver will want.
    """

    kind: str
    job: str = ""
    head: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    parts: tuple[bytes, ...] = ()
    blobs: tuple[BlobRef, ...] = ()
