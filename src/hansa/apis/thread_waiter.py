"""A waiter with a thread of its own, for controllers whose engine offers none."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hansa.apis.clock import process_clock

_Watch = tuple[Callable[[], float | None], Callable[[], None]]


class ThreadWaiter:
    """Waits on a condition variable; a daemon thread runs the passes when they are due.

    The thread begins with the first due time, and ends, joined, with the `unwatch` of the last watch. Nothing here
    polls: the thread sleeps until the next due time or a `notify`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watches: list[_Watch] = []
        self._acting: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._news = 0

    def now(self) -> float:
        """Seconds on the clock of this process."""
        return process_clock()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until `condition()` is true. It must take no lock: it is asked while the waiter holds its own."""
        with self._changed:
            self._changed.wait_for(condition)

    def notify(self) -> None:
        """Look at conditions and due times again."""
        self._begin_if_due()
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def watch(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        """Run `act()` whenever the clock passes `due()`."""
        with self._changed:
            self._watches.append((due, act))
        self.notify()

    def unwatch(self, act: Callable[[], None]) -> None:
        """Stop that; waits for an `act` that is running, unless called from it."""
        with self._changed:
            self._watches = [watch for watch in self._watches if watch[1] != act]
            thread = self._thread
            if thread is not None and not self._watches:
                self._thread = None  # it sees that it is not wanted any more; a new watch begins a new one
                self._news += 1
                self._changed.notify_all()
            if thread is None or thread is threading.current_thread():
                return
            if self._watches:
                self._changed.wait_for(lambda: self._acting != act)
                return
        thread.join()

    def _begin_if_due(self) -> None:
        if self._thread is not None or all(due() is None for due, _ in self._watches):
            return
        with self._changed:
            if self._thread is None and self._watches:
                self._thread = threading.Thread(target=self._run, name="hansa-task-watch", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._thread is not threading.current_thread():
                    return
                watches, seen = list(self._watches), self._news
            earliest: float | None = None
            for due, act in watches:
                time = due()
                if time is not None and time <= self.now():
                    self._act(due, act)
                    time = due()
                if time is not None:
                    earliest = time if earliest is None else min(earliest, time)
            with self._changed:
                if self._news == seen and self._thread is threading.current_thread():
                    self._changed.wait(None if earliest is None else max(0.0, earliest - self.now()))

    def _act(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        with self._changed:
            if (due, act) not in self._watches:  # unwatched meanwhile: its owner counts on peace
                return
            self._acting = act
        try:
            act()
        finally:
            with self._changed:
                self._acting = None
                self._changed.notify_all()
