"""What is put off after a start, and until when."""

from __future__ import annotations

import asyncio

from hansa.runtime.reunion import Reunion


def test_what_is_put_off_is_done_in_order_once_all_are_back() -> None:
    async def story() -> None:
        done: list[int] = []
        both = Reunion()
        both.then(lambda: done.append(1))
        both.wait_for(["a", "b"])
        both.site_up("a")
        both.then(lambda: done.append(2))
        both.site_up("c")
        assert done == []
        both.site_up("b")
        both.then(lambda: done.append(3))
        assert done == [1, 2, 3]

    asyncio.run(story())


def test_where_nobody_is_awaited_nothing_is_put_off() -> None:
    async def story() -> None:
        done: list[int] = []
        nobody = Reunion()
        nobody.then(lambda: done.append(1))
        nobody.wait_for([])
        assert done == [1]

    asyncio.run(story())


def test_a_site_that_stays_away_is_not_awaited_for_ever() -> None:
    async def story() -> None:
        over = asyncio.Event()
        lost = Reunion(0.01)
        lost.wait_for(["a"])
        lost.then(over.set)
        await asyncio.wait_for(over.wait(), 10)

    asyncio.run(story())
