"""Questions to sites whose answers come later, as frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hansa.errors import ConfigError
from hansa.wire.frames import Frame


class Asking:
    """Numbers questions and finds who waits for an answer.

    Args:
        send: Brings a frame to a site; False if it has no session.
    """

    def __init__(self, send: Callable[[str, Frame], bool]) -> None:
        self._send = send
        self._number = 0
        self._waiting: dict[tuple[str, int], asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, site: str, name: str, *, args: dict[str, Any], timeout_s: float) -> dict[str, Any]:  # Any: JSON
        """Ask a site's agent.

        Raises:
            ConfigError: It is not connected, does not answer in time, or says no.
        """
        self._number += 1
        key = site, self._number
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        answer: dict[str, Any]
        try:
            if not self._send(site, Frame("ask", "", {"number": self._number, "name": name, "args": args})):
                raise ConfigError(f"{site} is not connected")
            answer = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise ConfigError(f"{site} has not answered within {timeout_s:.0f} s") from None
        finally:
            del self._waiting[key]
        if answer.get("error"):
            raise ConfigError(f"{site}: {answer['error']}")
        return answer

    def answered(self, site: str, answer: dict[str, Any]) -> None:  # Any: JSON
        """An answer has come; one that nobody waits for is dropped."""
        number = answer.get("number")
        future = self._waiting.get((site, number)) if isinstance(number, int) else None
        if future is not None and not future.done():
            future.set_result(answer)

    def gone(self, site: str) -> None:
        """The site will not answer any more."""
        for (name, number), future in list(self._waiting.items()):
            if name == site and not future.done():
                future.set_result({"number": number, "error": "it is not connected any more"})
