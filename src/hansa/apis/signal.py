"""A flag that asks a run or a task to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Signal:
    """Says whether somebody asked for a stop, and wakes those who wait for that.

    Code that works in a loop looks at `triggered`; code that blocks subscribes instead of looking again and again.
    The object has no truth value of its own: it is always true, triggered or not.

    Safe to use from several threads. A callback runs in the thread that triggers, so it must be short, must not
    block and must not raise.
    """

    def __init__(self) -> None:
        self.value: Any = None  # Any: a reason for whoever reads it, never looked at here
        self._triggered = False
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def triggered(self) -> bool:
        """Whether the stop was asked for. May be assigned, too; assigning True wakes the subscribers."""
        return self._triggered

    @triggered.setter
    def triggered(self, value: bool) -> None:
        with self._lock:
            self._triggered = bool(value)
            callbacks = list(self._callbacks) if value else []
        for callback in callbacks:
            callback()

    def trigger(self, value: Any) -> None:  # Any: see `value`
        """Ask for the stop.

        Args:
            value: Why, for whoever reads `value`.
        """
        self.value = value
        self.triggered = True

    def reset(self, value: Any = None) -> None:  # Any: see `value`
        """Take the request back; subscribers stay subscribed."""
        self.value = value
        self.triggered = False

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Run `callback()` each time the signal is triggered; at once if it is triggered already.

        So a caller that subscribes before it waits cannot miss the trigger, however the threads interleave.
        """
        with self._lock:
            self._callbacks.append(callback)
            missed = self._triggered
        if missed:
            callback()

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Undo one `subscribe`; a callback that is not subscribed is ignored."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
