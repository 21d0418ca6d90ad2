"""After the start of a server: what is put off until the sites are back that were there before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

SITES_BACK_S = 6.0
"""Sites that were there take up to 5 s to dial again."""


class Reunion:
    """Jobs may want all sites that are there, so none begins while these are still on their way.

    Args:
        patience_s: How long they may take.
    """

    def __init__(self, patience_s: float = SITES_BACK_S) -> None:
        self._patience_s = patience_s
        self._awaited: set[str] = set()
        self._waiting: list[Callable[[], None]] = []
        self.is_over = False

    def then(self, work: Callable[[], None]) -> None:
        """Do something once the sites are back, or the time is over; at once if that is so."""
        if self.is_over:
            work()
        else:
            self._waiting.append(work)

    def wait_for(self, sites: Iterable[str]) -> None:
        """Begin to wait for sites; for none, it is over."""
        self._awaited = set(sites)
        if self._awaited:
            asyncio.get_running_loop().call_later(self._patience_s, self._over)
        else:
            self._over()

    def site_up(self, name: str) -> None:
        """A site is there."""
        self._awaited.discard(name)
        if not self._awaited:
            self._over()

    def _over(self) -> None:
        self.is_over = True
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()
