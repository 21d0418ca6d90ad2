"""The dispatcher's clock where sites work in processes of their own, somewhere: real time, and nothing jumps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hansa.runtime.event_loop import EventLoop


class RealTimeLoop(EventLoop):
    """A `Waiter` as `EventLoop` is one, on real time.

    Args:
        now: Real seconds that never go back.
        epoch: What the clock shows at the start, in seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, *, epoch: float | None = None) -> None:
        super().__init__(now, epoch=epoch)
        self._offset = self._virtual - now()
        self.expects: Callable[[], bool] = lambda: True
        """Whether something may still come from outside; asked on the loop's own thread."""
        self._has_come = False

    def now(self) -> float:
        """Seconds since 1970, as they were at the start and flow since."""
        return self._offset + self._real()

    def _now(self) -> float:
        return self._offset + self._real()

    def nudge(self) -> None:
        """Something came from outside: the loop looks; whoever waits for the board is not woken for it."""
        with self._changed:
            self._has_come = True
            self._changed.notify_all()

    def look(self) -> int:
        """The generation now; what came until now is about to be looked at."""
        with self._changed:
            self._has_come = False
            return self._generation

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Time flows all the time."""
        yield

    def idle(self, seen: int, num_actors: int) -> bool:
        """Nothing to do: wait for a change since `look` gave generation `seen`, or for the next due time.

        Args:
            seen: The generation at which the caller last looked for work.
            num_actors: How many other threads could still change something.

        Returns:
            False when nothing can ever happen any more: all wait, nothing is due, nothing is expected.
        """
        due_times = [due for w in list(self._watched) if (due := w.due()) is not None]
        next_due = min(due_times, default=None)
        is_alone = not self.expects()
        with self._changed:
            while self._generation == seen and not self._has_come:
                if next_due is None and is_alone and self._num_settled >= num_actors:
                    return False
                left = None if next_due is None else next_due - self._now()
                if left is not None and left <= 0:
                    return True
                self._changed.wait(left)
        return True

    def wait_for_change(self, seen: int, until: float) -> None:
        """Wait for a change since `look` gave generation `seen`, or for a time on this clock."""
        with self._changed:
            while self._generation == seen and not self._has_come and (left := until - self._now()) > 0:
                self._changed.wait(None if left == math.inf else left)
