"""Who may give which commands. What is not granted here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from hansa.errors import ConfigError


class Permission(Enum):
    """A thing that a command may need."""

    SUBMIT = "submit"
    """Bring a job."""
    VIEW = "view"
    """See jobs and sites, and follow a job."""
    STEER = "steer"
    """Stop a job, have it rest, delete it once it is over."""
    FETCH = "fetch"
    """Read logs, and take results home."""


GRANTED: Mapping[str, frozenset[Permission]] = {
    "admin": frozenset(Permission),
    # Sites and job processes have their own ways, on which they reach nothing but their own jobs; they give no command.
    "client": frozenset(),
    "server": frozenset(),
}
"""Role, as the certificate says it, to what it may do."""


class Caller(Protocol):
    """Who gives a command, from the certificate alone; `hansa.wire` has the class."""

    @property
    def name(self) -> str:
        """Its name in the project."""
        ...

    @property
    def role(self) -> str:
        """`admin`, `client` or `server`."""
        ...


class NotPermitted(ConfigError):
    """The caller may not do that."""


def check_permission(caller: Caller, permission: Permission, *, command: str) -> None:
    """Refuse what was not granted.

    Args:
        caller: Who asks.
        permission: What is needed.
        command: For what, for the error.

    Raises:
        NotPermitted: It was not granted.
    """
    if permission not in GRANTED.get(caller.role, frozenset()):
        raise NotPermitted(f"{caller.name} may not {command}: a {caller.role} has no permission to {permission.value}")
