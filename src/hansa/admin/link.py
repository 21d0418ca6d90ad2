"""What a session needs of the network: calls, streams, blobs. `hansa.wire` has it over mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hansa.provision.kit import Kit
    from hansa.wire.frames import BlobRef

Json = dict[str, Any]  # Any: JSON


class AdminLink(Protocol):
    """A connection to a server, opened when it is first used; on one event loop."""

    async def call(self, name: str, args: Mapping[str, Any]) -> Json:  # Any: JSON
        """Give a command.

        Raises:
            HansaError: The server refuses it, with its own words; or it cannot be reached, and why.
        """
        ...

    def watch(self, name: str, args: Mapping[str, Any]) -> AsyncIterator[Json]:  # Any: JSON
        """Give a command that answers with a stream; raises as `call` does, also in the middle."""
        ...

    async def upload(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Bring a file to the server."""
        ...

    async def download(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Fetch a file of a job; it appears whole or not at all."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


def open_link(kit: Kit) -> AdminLink:
    """The connection that a kit stands for."""
    from hansa.wire.admin_client import AdminClient
    from hansa.wire.net_options import Tls

    return AdminClient(Tls(kit.ca, kit.certificate, kit.key), kit.server_address)
