"""A site, as the server sees it."""

from __future__ import annotations

import time
from typing import Any


class Client:
    """One site that takes part.

    Args:
        name: The site's name, unique in the federation.
        token: What names this connection of the site.
    """

    def __init__(self, name: str, token: str) -> None:
        self.name = name
        self.token = token
        self.last_connect_time = time.time()
        """When the site was last heard of, in seconds since 1970."""
        self.props: dict[str, Any] = {}

    def set_token(self, token: str) -> None:
        """Set what names the connection."""
        self.token = token

    def get_token(self) -> str:
        """What names the connection."""
        return self.token

    def set_prop(self, name: str, value: Any) -> None:  # Any: a note of the caller's own
        """Keep a note about this site."""
        self.props[name] = value

    def get_prop(self, name: str, default: Any = None) -> Any:  # Any: a note of the caller's own
        """A note about this site, or the default."""
        return self.props.get(name, default)

    def __repr__(self) -> str:
        return f"Client({self.name!r})"
