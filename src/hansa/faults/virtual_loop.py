"""An event loop on which time is a number: it jumps to the next thing that is due, and runs are the same each time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

from hansa.errors import HansaError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Wedged(Exception):
    """Nothing is due, and somebody still waits."""


class _Selector(selectors.SelectSelector):
    """Waits for nothing: time passes instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Wedged("nothing can happen any more")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, of one thread: what others would do on threads is done at once.

    Attributes:
        life: Whose life new tasks belong to; `end_life` ends all of them.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.life = 0
        self._of_life: dict[int, set[asyncio.Task[Any]]] = {}
        self.set_task_factory(self._task)

    def time(self) -> float:
        """Seconds since the world began."""
        return self._virtual.now

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Do it now."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except (HansaError, OSError) as error:
            done.set_exception(error)
        return done

    def end_life(self, life: int) -> None:
        """Cancel what was begun in a life: the process that it belonged to is gone."""
        for task in self._of_life.pop(life, ()):
            task.cancel()

    def _task(self, loop: Any, work: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
        mine = self._of_life.setdefault(self.life, set())
        mine.add(task)
        task.add_done_callback(mine.discard)
        return task
