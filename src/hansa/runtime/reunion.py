"""After the start of a server: what is put off until the sites are back that were there before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

SITES_BACK_S = 6.0
"""How long at most: sites that were there take up to 5 s to dial again."""


class Reunion:
    """Jobs may want all sites that are there, so none begins while these are still on their way."""

    def __init__(self) -> None:
        self._awaited: set[str] = set()
        self._waiting: list[Callable[[], None]] = []

    def then(self, work: Callable[[], None]) -> None:
        """Do something once the sites are back, or the time is over."""
        self._waiting.append(work)

    def wait_for(self, sites: Iterable[str]) -> None:
        """Begin to wait for sites."""
        self._awaited = set(sites)
        if self._waiting:
            asyncio.get_running_loop().call_later(SITES_BACK_S if self._awaited else 0.0, self._over)

    def site_up(self, name: str) -> None:
        """A site is there."""
        self._awaited.discard(name)
        if not self._awaited:
            self._over()

    def _over(self) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()
