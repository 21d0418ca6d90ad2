"""Coroutines that run beside whoever began them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Begins coroutines, and keeps them until they are over: the event loop alone might forget them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:  # Any: as asyncio has it
        """Run a coroutine beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Until all that was begun is over."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
