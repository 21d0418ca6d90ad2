"""Makes startup kits.

::

    <workspace>/<project>/
      state/            the authority: rootCA.pem and rootCA.key, with which new kits can be made
      prod_00/          one folder per run of `provision`, with one kit per participant
        fl.example.org/
        hospital-a/
        ada@example.org/
      prod_01/ ...
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError
from hansa.provision.authority import LEAF_DAYS, Authority, write_secret
from hansa.provision.identity import Identity, Role
from hansa.provision.kit import CA, SETTINGS_FILES, STARTUP, STEMS, sign
from hansa.provision.project import Participant, Project
from hansa.provision.project_values import bare_host
from hansa.provision.start_files import START, start_files

STATE = "state"

Settings = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Provisioned:
    """What a run of `provision` has made.

    Attributes:
        folder: Where the kits are: `prod_00`, `prod_01`, ...
        kits: Each participant's kit, by name.
        is_new: Whether the project's authority was made, too; else it is the one of the runs before.
    """

    folder: Path
    kits: Mapping[str, Path]
    is_new: bool


def provision(project: Project, workspace: Path) -> Provisioned:
    """Make a kit for every participant.

    The kits appear all at once, or none does. Every run issues new certificates, of the same authority: kits of an
    earlier run stay good until they expire.

    Raises:
        ConfigError: The folder cannot be written, or the authority in it cannot be read.
    """
    root = workspace.absolute() / project.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        authority, is_new = _authority(root / STATE, project.name)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=root))
        try:
            for each in project.participants:
                _write(making / each.name, each, project=project, authority=authority)
            folder = _appear(making, root)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror or error}", file=str(error.filename or root)) from None
    return Provisioned(folder, {each.name: folder / each.name for each in project.participants}, is_new)


def _authority(state: Path, project: str) -> tuple[Authority, bool]:
    if state.exists():
        return Authority.load(state), False
    made = Authority.create(project)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=state.parent))
    try:
        made.save(making)
        making.rename(state)  # whole or not at all: a key without its certificate helps nobody
    except OSError:
        if not state.exists():
            raise
        return Authority.load(state), False  # another run was faster
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return made, True


def _write(folder: Path, each: Participant, *, project: Project, authority: Authority) -> None:
    server = project.server
    place = {"host": server.hosts[0], "port": server.port}
    write_kit(
        folder,
        Identity(project.name, each.org, each.name, each.role),
        authority=authority,
        settings={**(place if each is server else {"server": place}), **each.settings},
        hosts=each.hosts,
        days=LEAF_DAYS if each.days is None else each.days,
    )


def _appear(making: Path, root: Path) -> Path:
    number = 0
    while True:
        folder = root / f"prod_{number:02d}"
        number += 1
        if folder.exists():
            continue
        try:
            making.rename(folder)
        except OSError:
            if folder.exists():  # another run was faster
                continue
            raise
        return folder


def write_kit(
    folder: Path,
    identity: Identity,
    *,
    authority: Authority,
    settings: Settings,
    hosts: Sequence[str] = (),
    days: float = LEAF_DAYS,
) -> Path:
    """Write one participant's kit; returns its folder."""
    startup = folder / STARTUP
    startup.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    made = authority.issue(identity, hosts, days=days)
    stem = STEMS[identity.role]
    (startup / CA).write_bytes(authority.certificate)
    (startup / f"{stem}.crt").write_bytes(made.certificate)
    write_secret(startup / f"{stem}.key", made.key)
    (startup / SETTINGS_FILES[identity.role]).write_text(json.dumps(dict(settings), indent=1) + "\n", encoding="utf-8")
    server = settings if identity.role is Role.SERVER else settings["server"]
    texts = start_files(
        identity,
        (server["host"], server["port"]),
        stem=stem,
        allow_custom_code=bool(settings.get("allow_custom_code")),
    )
    for name, text in texts.items():
        (startup / name).write_text(text, encoding="utf-8")
    if START in texts:
        (startup / START).chmod(0o700)
    sign(startup, authority)
    return folder


def make_kits(
    folder: Path,
    *,
    project: str = "poc",
    server_host: str = "localhost",
    server_port: int = 8002,
    sites: Sequence[str] = (),
    settings: Mapping[str, Settings] | None = None,
) -> dict[str, Path]:
    """The kits of a federation on one machine.

    Args:
        folder: Where they are put, each in a folder of its name: `server`, `admin`, the sites.
        project: The federation's name.
        server_host: Where the server is reached.
        server_port: Its port.
        sites: Names of sites.
        settings: Further settings by role (`server`, `client`, `admin`), or by a site's name.

    Returns:
        The kits' folders by name.
    """
    more = settings or {}
    authority = Authority.create(project)
    server_host = bare_host(server_host)
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
            settings={"server": place, **more.get("client", {}), **more.get(name, {})},
        )
    kits["admin"] = write_kit(
        folder / "admin",
        Identity(project, org, f"admin@{project}.local", Role.ADMIN),
        authority=authority,
        settings={"server": place, **more.get("admin", {})},
    )
    return kits
