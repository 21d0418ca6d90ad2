"""Makes startup kits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa.provision.authority import Authority, write_secret
from hansa.provision.identity import Identity, Role
from hansa.provision.kit import _SETTINGS, _STEMS, CA, STARTUP, sign

Settings = Mapping[str, Any]  # Any: JSON


def write_kit(
    folder: Path, identity: Identity, *, authority: Authority, settings: Settings, hosts: Sequence[str] = ()
) -> Path:
    """Write one participant's kit; returns its folder."""
    startup = folder / STARTUP
    startup.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    made = authority.issue(identity, hosts)
    stem = _STEMS[identity.role]
    (startup / CA).write_bytes(authority.certificate)
    (startup / f"{stem}.crt").write_bytes(made.certificate)
    write_secret(startup / f"{stem}.key", made.key)
    (startup / _SETTINGS[identity.role]).write_text(json.dumps(dict(settings), indent=1) + "\n", encoding="utf-8")
    sign(startup, authority)
    return folder


def make_kits(
    folder: Path,
    *,
    project: str = "poc",
    server_host: str = "localhost",
    server_port: int = 8002,
    sites: Sequence[str] = (),
    admins: Sequence[str] = ("admin@poc.local",),
    settings: Mapping[str, Settings] | None = None,
) -> dict[str, Path]:
    """The kits of a federation on one machine.

    Args:
        folder: Where they are put, each in a folder of its name: `server`, `admin` (the first), the sites.
        project: The federation's name.
        server_host: Where the server is reached.
        server_port: Its port.
        sites: Names of sites.
        admins: E-mail addresses.
        settings: Further settings by role (`server`, `client`, `admin`).

    Returns:
        The kits' folders by name.
    """
    more = settings or {}
    authority = Authority.create(project)
    place = {"host": server_host, "port": server_port}
    kits = {}
    org = project
    kits["server"] = write_kit(
        folder / "server",
        Identity(project, org, server_host, Role.SERVER),
        authority=authority,
        settings={**place, **more.get("server", {})},
        hosts=[server_host, "localhost", "127.0.0.1"],
    )
    for name in sites:
        kits[name] = write_kit(
            folder / name,
            Identity(project, org, name, Role.CLIENT),
            authority=authority,
            settings={"server": place, **more.get("client", {})},
        )
    for index, name in enumerate(admins):
        label = "admin" if index == 0 else name
        kits[label] = write_kit(
            folder / label,
            Identity(project, org, name, Role.ADMIN),
            authority=authority,
            settings={"server": place, **more.get("admin", {})},
        )
    return kits
