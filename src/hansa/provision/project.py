"""The project file: who takes part in a federation, in FLARE 2.0's `project.yml` (`api_version: 2`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError
from hansa.provision.identity import Role
from hansa.provision.project_values import MACHINE_SETTINGS, SITE_SETTINGS, Reader, machine_settings, site_settings
from hansa.provision.yaml_file import read_yaml

API_VERSION = 2
PORT = 8002

LATER_TYPES = frozenset({"overseer", "other", "relay"})
"""FLARE has these types of participants; there is nothing here yet that would use them."""
LATER_KEYS = frozenset({"components", "roles", "privilege", "props", "ha_mode", "overseer_end_point"})
"""Keys of FLARE that have no effect yet."""
OWN_BUILDERS = frozenset(
    {"WorkspaceBuilder", "TemplateBuilder", "StaticFileBuilder", "CertBuilder", "SignatureBuilder"}
)
"""What these builders of FLARE do, every run of `provision` does."""

_TOP = frozenset({"api_version", "name", "description", "participants", "builders"})
_BOTH = frozenset({"name", "type", "org", "days"})
_KEYS = {
    Role.SERVER: _BOTH
    | {"fed_learn_port", "admin_port", "enable_byoc", "default_host", "host_names", "listen", "lost_after_s"}
    | {"second_session"}
    | MACHINE_SETTINGS,
    Role.CLIENT: _BOTH | SITE_SETTINGS,
    Role.ADMIN: _BOTH,
}


@dataclass(frozen=True)
class Participant:
    """One who takes part.

    Attributes:
        name: Of a server its host name, of an admin an e-mail address.
        role: What it is.
        org: Its organisation.
        days: How long its certificate is valid; None: as long as usual.
        hosts: Names and addresses in a server's certificate; by the first it is reached.
        port: A server's.
        settings: What else its settings file says.
    """

    name: str
    role: Role
    org: str
    days: float | None = None
    hosts: tuple[str, ...] = ()
    port: int = PORT
    settings: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True)
class Project:
    """A federation, as its file describes it.

    Attributes:
        name: What it is called.
        description: What it is about.
        participants: Who takes part, in the file's order; exactly one is the server.
        ignored: What the file asks for that has no effect yet, each in words.
    """

    name: str
    description: str
    participants: tuple[Participant, ...]
    ignored: tuple[str, ...] = ()

    @property
    def server(self) -> Participant:
        """The server."""
        return next(each for each in self.participants if each.role is Role.SERVER)


def read_project(file: Path) -> Project:
    """Read a project file.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong: file, key, and what.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise ConfigError("must be a mapping with api_version, name and participants", file=str(file))
    top = Reader(content, str(file))
    _check_version(top)
    ignored: list[str] = []
    top.check_keys(_TOP, LATER_KEYS, ignored=ignored)
    name = top.project_name("name")
    description = top.text("description", default="", most=1000)
    listed = content.get("participants")
    if not isinstance(listed, list) or not listed:
        raise ConfigError("must be a list of participants", file=str(file), key="participants")
    found = [
        _participant(each, f"participants[{index}]", file=str(file), ignored=ignored)
        for index, each in enumerate(listed)
    ]
    participants = [each for each in found if each is not None]
    _check_together(participants, file)
    _note_builders(content.get("builders"), str(file), ignored=ignored)
    return Project(name, description, tuple(participants), tuple(ignored))


def _check_version(top: Reader) -> None:
    version = top.content.get("api_version")
    if version is None:
        raise top.wrong("api_version", f"is missing: write `api_version: {API_VERSION}`")
    if isinstance(version, bool) or version != API_VERSION:
        later = " (3 is of FLARE 2.1 and later)" if version == 3 else ""
        raise top.wrong("api_version", f"must be {API_VERSION}, not {version!r}{later}")


def _participant(content: object, key: str, *, file: str, ignored: list[str]) -> Participant | None:
    if not isinstance(content, dict):
        raise ConfigError("must be a mapping with name, type and org", file=file, key=key)
    reader = Reader(content, file, key=key)
    kind = content.get("type")
    known = ", ".join(role.value for role in Role)
    if isinstance(kind, str) and kind in LATER_TYPES:
        ignored.append(f"participant {str(content.get('name'))[:80]!r} of type {kind}")
        return None
    if not isinstance(kind, str) or kind not in {role.value for role in Role}:
        raise reader.wrong("type", "is missing" if kind is None else f"must be one of {known}, not {kind!r}")
    role = Role(kind)
    reader.check_keys(_KEYS[role], LATER_KEYS, ignored=ignored)
    org = reader.org("org")
    days = reader.number("days", least=0.01, most=3650)
    if role is Role.SERVER:
        return _server(reader, org, days=days, ignored=ignored)
    if role is Role.CLIENT:
        return Participant(reader.site("name"), role, org, days, settings=site_settings(reader))
    return Participant(reader.email("name"), role, org, days)


def _server(reader: Reader, org: str, *, days: float | None, ignored: list[str]) -> Participant:
    name = reader.host("name")
    reached_as = reader.host_or_address("default_host") if "default_host" in reader.content else name
    hosts = dict.fromkeys([reached_as, name, *reader.hosts("host_names")])
    port = reader.port("fed_learn_port", PORT)
    if "admin_port" in reader.content:
        admin_port = reader.port("admin_port", port)
        if admin_port != port:
            ignored.append(f"{reader.at('admin_port')}: admins use port {port}, too")
    settings: dict[str, Any] = {"allow_custom_code": reader.flag("enable_byoc")}
    if "listen" in reader.content:
        settings["listen"] = reader.address("listen")
    if (lost_after_s := reader.number("lost_after_s", least=1, most=86400)) is not None:
        settings["lost_after_s"] = lost_after_s
    if "second_session" in reader.content:
        settings["policy"] = {"second_session": reader.one_of("second_session", ("refuse", "supersede"))}
    settings.update(machine_settings(reader))
    return Participant(name, Role.SERVER, org, days, tuple(hosts), port, settings)


def _check_together(participants: list[Participant], file: Path) -> None:
    servers = [each.name for each in participants if each.role is Role.SERVER]
    if len(servers) != 1:
        found = f"there are {len(servers)}: {', '.join(servers)}" if servers else "there is none"
        raise ConfigError(f"a project has exactly one server; {found}", file=str(file), key="participants")
    names: dict[str, str] = {}
    for each in participants:
        before = names.get(each.name.casefold())
        if before is not None:  # kits lie in folders by these names, and not every disk tells A from a
            problem = f"the name {each.name!r} stands there twice"
            if before != each.name:
                problem = f"the names {before!r} and {each.name!r} differ in nothing but case"
            raise ConfigError(problem, file=str(file), key="participants")
        names[each.name.casefold()] = each.name


def _note_builders(builders: object, file: str, *, ignored: list[str]) -> None:
    if builders is None:
        return
    if not isinstance(builders, list):
        raise ConfigError("must be a list", file=file, key="builders")
    later = []
    for index, each in enumerate(builders):
        path = each.get("path") if isinstance(each, dict) else None
        if not isinstance(path, str):
            raise ConfigError("must be a mapping with a path", file=file, key=f"builders[{index}]")
        name = path.rpartition(".")[2]
        if name not in OWN_BUILDERS:
            later.append(name[:80])
    if later:
        ignored.append(f"builders {', '.join(later)}")
