"""An event loop on a thread of its own, for callers who have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from hansa.errors import RunError

T = TypeVar("T")
_END = object()


class Portal:
    """Runs coroutines from other threads; owns its thread and joins it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hansa-admin", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._loop.is_closed()

    def call(self, work: Coroutine[Any, Any, T]) -> T:  # Any: as asyncio has it
        """Run a coroutine to its end, and give what it returns or raises.

        A KeyboardInterrupt cancels it.

        Raises:
            RunError: The portal is closed.
        """
        if self._loop.is_closed():
            work.close()
            raise RunError("the session is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """What an async iterator yields."""

        async def following() -> Any:  # Any: an item, or the mark of the end
            return await anext(source, _END)

        while (item := self.call(following())) is not _END:
            yield item

    def close(self) -> None:
        """Stop the loop and join its thread; again does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(_quiet(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _quiet() -> None:
    """Cancel what is left, and see it end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
