"""What users and we test with: a clock that one holds in the hand, and engines that offer next to nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hansa.apis.engine import Waiter
from hansa.apis.fl_context import FLContext, FLContextManager

_Watch = tuple[Callable[[], float | None], Callable[[], None]]


class ManualWaiter:
    """A clock that stands still until the test moves it, and the place where a controller's blocking calls wait.

    Args:
        start: The first time, in seconds.
        jump: Whether a blocking call moves the clock itself to the next due time, so that a test needs no second
            thread. Where nothing is due it raises, instead of waiting for ever.
    """

    def __init__(self, start: float = 1000.0, *, jump: bool = False) -> None:
        self._now = start
        self._jump = jump
        self._changed = threading.Condition()
        self._watches: list[_Watch] = []
        self._acting: dict[int, Callable[[], None]] = {}
        self.num_notified = 0
        """How often somebody was told to look again."""

    def now(self) -> float:
        """The time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock, stopping at each due time on the way to run what is due then."""
        end = self._now + seconds
        while (due := self.next_due()) is not None and due <= end:
            self._advance_to(due)
        self._now = max(self._now, end)
        self.notify()

    def next_due(self) -> float | None:
        """The next time at which something is due; None if nothing is."""
        with self._changed:
            watches = list(self._watches)
        return min((time for time in (due() for due, _ in watches) if time is not None), default=None)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until `condition()` is true.

        Raises:
            RuntimeError: With `jump`: it never will be, since nothing is due.
        """
        while self._jump and not condition():
            due = self.next_due()
            if due is None:
                raise RuntimeError("waits for ever: the condition does not hold and nothing is due")
            self._advance_to(due)
        with self._changed:
            self._changed.wait_for(condition)

    def notify(self) -> None:
        """Look at the conditions again."""
        with self._changed:
            self.num_notified += 1
            self._changed.notify_all()

    def watch(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        """Run `act()` when the clock is moved past `due()`."""
        with self._changed:
            self._watches.append((due, act))

    def unwatch(self, act: Callable[[], None]) -> None:
        """Stop that; waits for an `act` that runs in another thread."""
        me = threading.get_ident()
        with self._changed:
            self._watches = [watch for watch in self._watches if watch[1] != act]
            self._changed.wait_for(lambda: all(act != acting for who, acting in self._acting.items() if who != me))

    def _advance_to(self, time: float) -> None:
        self._now = max(self._now, time)
        with self._changed:
            watches = list(self._watches)
        me = threading.get_ident()
        for due, act in watches:
            own = due()
            if own is not None and own <= self._now:
                self._acting[me] = act
                try:
                    act()
                finally:
                    with self._changed:
                        del self._acting[me]
                        self._changed.notify_all()


class BareEngine:
    """An engine that offers contexts and events, and nothing else. Events are kept in `events`, in their order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._contexts = FLContextManager(self, "test", 1, None, None)

    def new_context(self) -> FLContext:
        """A context of this engine's only run, which is number 1."""
        return self._contexts.new_context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Keep the event's name."""
        self.events.append(event_type)


class ClockedEngine(BareEngine):
    """A bare engine with a clock of its own.

    Args:
        waiter: The clock.
    """

    def __init__(self, waiter: Waiter) -> None:
        super().__init__()
        self.waiter = waiter
