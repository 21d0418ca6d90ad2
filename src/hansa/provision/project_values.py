"""The values of a project file, each with the rule that it must keep."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from hansa.errors import ConfigError

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ORG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")  # as PyPI has it
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_EMAIL = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.'+-]{{0,63}}@{_LABEL}(?:\.{_LABEL})*")
MACHINE_SETTINGS = frozenset({"job_disk_mb", "keep_jobs_days", "plugins", "app_validator"})
"""The keys of a machine, the server's or a site's: what jobs get of its disk, which plug-ins, who looks at them."""
SITE_SETTINGS = frozenset({"enable_byoc", "tags", "max_jobs", "gpus", "memory_mb", "cpus"}) | MACHINE_SETTINGS
"""The keys of what a site offers to jobs."""
_RESERVED = ("server", "admin", "all")


def bare_host(host: str) -> str:
    """A host without the brackets in which an IPv6 address may stand."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


class Reader:
    """One mapping of a project file.

    Args:
        content: The mapping.
        file: Where it stands.
        key: And where in there.
    """

    def __init__(self, content: Mapping[Any, Any], file: str, *, key: str = "") -> None:  # Any: as YAML gives it
        self.content = content
        self._file = file
        self._key = key

    def at(self, key: str) -> str:
        """A key's whole name."""
        return f"{self._key}.{key}" if self._key else key

    def wrong(self, key: str, problem: str) -> ConfigError:
        """The error to raise for a key."""
        return ConfigError(problem, file=self._file, key=self.at(key))

    def check_keys(self, known: Collection[str], later: Collection[str], *, ignored: list[str]) -> None:
        """Note keys that have no effect yet.

        Raises:
            ConfigError: A key is none at all.
        """
        for key in self.content:
            if key in known:
                continue
            if key not in later:
                near = get_close_matches(str(key), sorted(known), n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
                raise self.wrong(str(key)[:80], f"there is no such key{hint}")
            ignored.append(self.at(key))

    def text(self, key: str, *, default: str | None = None, most: int = 253) -> str:
        """A text."""
        value = self.content.get(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if not isinstance(value, str):
            raise self.wrong(key, f"must be a text, not {str(value)[:80]}: put it in quotes")
        if len(value) > most:
            raise self.wrong(key, f"is longer than {most} characters")
        return value

    def _matching(self, key: str, rule: re.Pattern[str], what: str) -> str:
        value = self.text(key)
        if not rule.fullmatch(value):
            raise self.wrong(key, f"{value[:80]!r} is no {what}")
        return value

    def project_name(self, key: str) -> str:
        """A project's name; a folder has it."""
        return self._matching(key, _PROJECT, "project name (letters, digits and _ . -; at most 64)")

    def org(self, key: str) -> str:
        """An organisation."""
        return self._matching(key, _ORG, "organisation (letters, digits and _ . -; at most 64)")

    def site(self, key: str) -> str:
        """A site's name."""
        name = self._matching(key, _WORD, "name of a site (letters, digits and _ -; at most 64)")
        if name.casefold() in _RESERVED:
            raise self.wrong(key, f"{name!r} means something else in commands: call the site otherwise")
        return name

    def email(self, key: str) -> str:
        """An admin's e-mail address."""
        return self._matching(key, _EMAIL, "e-mail address; an admin's name is one, such as ada@example.org")

    def host(self, key: str) -> str:
        """A host name, or an IPv4 address."""
        return self._host(self.text(key), key)

    def _host(self, value: object, key: str) -> str:
        if isinstance(value, str) and _HOST.fullmatch(value):
            if not re.fullmatch(r"[\d.]+", value):
                return value
            try:
                return str(ipaddress.IPv4Address(value))
            except ValueError:
                pass
        raise self.wrong(
            key, f"{str(value)[:80]!r} is no host name or IPv4 address by which sites could reach the server"
        )

    def host_or_address(self, key: str) -> str:
        """A host name or an address, of IPv6, too."""
        return self._host_or_address(self.text(key), key)

    def hosts(self, key: str) -> list[str]:
        """Further host names and addresses; none if the key is not there."""
        return [self._host_or_address(value, f"{key}[{index}]") for index, value in enumerate(self._list(key))]

    def _host_or_address(self, value: object, key: str) -> str:
        try:
            return str(ipaddress.IPv6Address(bare_host(value))) if isinstance(value, str) else self._host(value, key)
        except ValueError:
            return self._host(value, key)

    def address(self, key: str) -> str:
        """An address to listen at."""
        value = self.text(key)
        try:
            return str(ipaddress.ip_address(bare_host(value)))
        except ValueError:
            raise self.wrong(key, f"{value[:80]!r} is no address of this machine, such as 0.0.0.0") from None

    def _list(self, key: str) -> list[Any]:  # Any: as YAML gives it
        value = self.content.get(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, "must be a list")
        return value

    def tags(self, key: str) -> list[str]:
        """A site's tags."""
        values = self._list(key)
        for index, value in enumerate(values):
            if not isinstance(value, str) or not _WORD.fullmatch(value):
                raise self.wrong(f"{key}[{index}]", f"{str(value)[:80]!r} is no tag (letters, digits and _ -)")
        return values

    def packages(self, key: str) -> list[str]:
        """Names of packages."""
        values = self._list(key)
        for index, value in enumerate(values):
            if not isinstance(value, str) or not _PACKAGE.fullmatch(value):
                raise self.wrong(
                    f"{key}[{index}]", f"{str(value)[:80]!r} is no name of a package, such as hansa-robust"
                )
        return values

    def class_path(self, key: str) -> str:
        """The path of a class."""
        value = self.text(key)
        if "." not in value or not all(part.isidentifier() for part in value.split(".")):
            raise self.wrong(key, f"{value[:80]!r} is no path like 'module.Class'")
        return value

    def gpus(self, key: str) -> int | list[int]:
        """How many GPUs, or which."""
        value = self.content.get(key)
        if isinstance(value, list):
            if all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value) and len(
                set(value)
            ) == len(value):
                return value
            raise self.wrong(key, "must be a number of GPUs, or a list of different GPU numbers")
        return self.count(key, least=0)

    def count(self, key: str, *, least: int) -> int:
        """A whole number."""
        value = self.content.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1_000_000:
            raise self.wrong(key, f"must be a whole number from {least} on, not {str(value)[:80]}")
        return value

    def number(self, key: str, *, least: float, most: float) -> float | None:
        """A number within bounds; None if the key is not there."""
        if key not in self.content:
            return None
        value = self.content[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(key, f"must be a number from {least:g} to {most:g}, not {str(value)[:80]}")
        return value

    def port(self, key: str, default: int) -> int:
        """A TCP port."""
        value = self.content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
            raise self.wrong(key, f"must be a port, 1 to 65535, not {str(value)[:80]}")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false if the key is not there."""
        value = self.content.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, not {str(value)[:80]}")
        return value

    def one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.text(key)
        if value not in allowed:
            raise self.wrong(key, f"must be {' or '.join(allowed)}, not {value[:80]!r}")
        return value


def site_settings(reader: Reader) -> dict[str, Any]:  # Any: JSON
    """What a site offers to jobs, as its kit says it."""
    settings: dict[str, Any] = {"allow_custom_code": reader.flag("enable_byoc")}
    if "tags" in reader.content:
        settings["tags"] = reader.tags("tags")
    if "max_jobs" in reader.content:
        settings["max_jobs"] = reader.count("max_jobs", least=1)
    if "gpus" in reader.content:
        settings["gpus"] = reader.gpus("gpus")
    for key in ("memory_mb", "cpus"):
        if key in reader.content:
            settings[key] = reader.number(key, least=0.1, most=1e9)
    return {**settings, **machine_settings(reader)}


def machine_settings(reader: Reader) -> dict[str, Any]:  # Any: JSON
    """What a machine gives jobs of its disk, whose plug-ins they may use, and who looks at their apps."""
    found: dict[str, Any] = {  # Any: JSON
        "job_disk_mb": reader.number("job_disk_mb", least=1, most=1e9),
        "keep_jobs_days": reader.number("keep_jobs_days", least=0.001, most=36500),
        "plugins": reader.packages("plugins") if "plugins" in reader.content else None,
        "app_validator": reader.class_path("app_validator") if "app_validator" in reader.content else None,
    }
    return {key: value for key, value in found.items() if value is not None}
