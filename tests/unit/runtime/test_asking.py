"""Questions to sites: the right one gets its answer, and nobody waits for a site that is gone."""

from __future__ import annotations

import asyncio

import pytest

from hansa.errors import ConfigError
from hansa.runtime.asking import Asking
from hansa.wire.frames import Frame


class Sites:
    """Sites that take questions and answer by hand."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[tuple[str, int]] = []

    def send(self, site: str, frame: Frame) -> bool:
        if site in self.names:
            self.asked.append((site, frame.head["number"]))
        return site in self.names


async def ask(asking: Asking, site: str, timeout_s: float = 10.0) -> str:
    answer = await asking.ask(site, "logs", args={}, timeout_s=timeout_s)
    return str(answer["text"])


def test_each_question_gets_its_own_answer() -> None:
    async def main() -> list[str]:
        sites = Sites("a", "b")
        asking = Asking(sites.send)
        both = asyncio.gather(ask(asking, "a"), ask(asking, "b"))
        await asyncio.to_thread(lambda: None)
        for site, number in reversed(sites.asked):
            asking.answered("a", {"number": 99, "text": "nobody asked"})
            asking.answered({"a": "b", "b": "a"}[site], {"number": number, "text": "of somebody else"})
            asking.answered(site, {"number": number, "text": f"of {site}"})
        return await both

    assert asyncio.run(main()) == ["of a", "of b"]


def test_who_cannot_answer_is_said() -> None:
    async def main() -> None:
        asking = Asking(Sites("a").send)
        with pytest.raises(ConfigError, match="b is not connected"):
            await ask(asking, "b")
        with pytest.raises(ConfigError, match="a has not answered within 0 s"):
            await ask(asking, "a", timeout_s=0.01)
        waiting = asyncio.ensure_future(ask(asking, "a"))
        await asyncio.to_thread(lambda: None)
        asking.gone("a")
        with pytest.raises(ConfigError, match="a: it is not connected any more"):
            await waiting

    asyncio.run(main())
