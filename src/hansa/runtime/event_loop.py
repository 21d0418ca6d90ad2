"""The dispatcher's clock and the place where controllers wait.

One thread runs the loop; a controller's `control_flow` runs on another and blocks in `wait_until`. Nothing
polls: the loop sleeps on a condition until somebody calls `notify` or the next due time comes.

The clock is *virtual while nobody needs real time*: it stands still while sites work, so that a grace or a
deadline never depends on how fast this machine is, and it jumps to the next due time when every thread of
the run waits. It flows with real time only while a workflow does something of its own (its own polling
loop, a long computation), so that such code never hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class _Watched:
    due: Callable[[], float | None]
    act: Callable[[], None]


class EventLoop:
    """A `Waiter` whose passes run on the loop's own thread.

    Args:
        now: Real seconds that never go back.
        epoch: What the virtual clock shows at the start, in seconds since 1970.
        patience_s: How long a workflow may be busy with something of its own before the clock flows: with simulated
            times nothing should depend on how long it takes to add up a model.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, *, epoch: float | None = None, patience_s: float = 0.0
    ) -> None:
        self._patience_s = patience_s
        self._real = now
        self._virtual = time.time() if epoch is None else epoch
        self._flowing_since: float | None = None
        lock = threading.RLock()  # conditions of their own, so that nobody is woken for what is not meant for him:
        self._changed = threading.Condition(lock)  # the loop
        self._news = threading.Condition(lock)  # who waits for something that the board may show
        self._released = threading.Condition(lock)  # who may go on, once a step of the loop is over
        self._generation = 0
        self._num_settled = 0
        self._held = False
        self._watched: list[_Watched] = []
        self._acting: tuple[int, Callable[[], None]] | None = None
        self.on_resume: Callable[[], None] = lambda: None

    # -- the port ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Virtual seconds; never goes back."""
        standing = self._virtual
        if self._flowing_since is None:  # it stands still, nearly always: what was read is the time, or was just now
            return standing
        with self._changed:
            return self._now()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until the condition holds; see `hansa.apis.engine.Waiter`."""
        while True:
            seen = self._generation
            if condition():  # without our lock: it looks at the board, which has one of its own
                break
            with self._changed:
                if self._generation == seen:
                    self._num_settled += 1
                    self._changed.notify_all()  # the loop may jump ahead once every thread waits
                while self._generation == seen:
                    self._news.wait()
        with self._changed:
            while self._held:
                self._released.wait()
        self.on_resume()

    def notify(self) -> None:
        """Something changed: everybody looks again."""
        with self._changed:
            self._generation += 1
            self._num_settled = 0
            self._changed.notify_all()
            self._news.notify_all()

    def watch(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        """Run `act` on the loop's thread whenever `due()` has come."""
        with self._changed:
            self._watched.append(_Watched(due, act))
        self.notify()

    def unwatch(self, act: Callable[[], None]) -> None:
        """Stop what `watch` began; waits for an `act` that is running, unless called from it."""
        with self._changed:
            self._watched = [w for w in self._watched if w.act != act]
            while self._acting is not None and self._acting[1] == act and self._acting[0] != threading.get_ident():
                self._changed.wait()

    # -- the loop's side ---------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Grows with each `notify`."""
        return self._generation

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody go on from `wait_until` meanwhile.

        So whoever waits sees a step of the dispatcher whole: all its events, and randomness put back.
        """
        self._held = True
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._released.notify_all()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Let the clock flow with real time meanwhile."""
        with self._changed:
            self._flow()
        try:
            yield
        finally:
            with self._changed:
                self._freeze()

    def run_due(self) -> bool:
        """Run every pass whose time has come; True if there was one."""
        with self._changed:
            now = self._now()
            watched = list(self._watched)
        ran = False
        for entry in watched:
            due = entry.due()
            if due is not None and due <= now and self._act(entry):
                ran = True
        return ran

    def _act(self, entry: _Watched) -> bool:
        with self._changed:
            if entry not in self._watched:  # unwatched meanwhile: its owner counts on peace
                return False
            self._acting = (threading.get_ident(), entry.act)
        try:
            entry.act()
        finally:
            with self._changed:
                self._acting = None
                self._changed.notify_all()
        return True

    def idle(self, seen: int, num_actors: int) -> bool:
        """Nothing to do: wait for a change since generation `seen`, or for the next due time.

        Args:
            seen: The generation at which the caller last looked for work.
            num_actors: How many other threads could still change something. When all of them wait here, time
                jumps.

        Returns:
            False when nothing can ever happen any more: all wait, nothing is due, nothing changed.
        """
        due_times = [due for w in list(self._watched) if (due := w.due()) is not None]
        next_due = min(due_times, default=None)
        with self._changed:
            if self._generation != seen:
                return True
            patient_until = self._real() + self._patience_s
            while self._generation == seen:
                all_wait = self._num_settled >= num_actors
                if all_wait and next_due is None:
                    return False
                if all_wait and next_due is not None:
                    self._virtual = max(self._virtual, next_due)
                    return True
                if (patience := patient_until - self._real()) > 0:
                    self._changed.wait(patience)
                    continue
                self._flow()
                timeout = None if next_due is None else max(0.0, next_due - self._now())
                signalled = self._changed.wait(timeout)
                self._freeze()
                if not signalled:
                    return True
        return True

    def _now(self) -> float:
        if self._flowing_since is None:
            return self._virtual
        return self._virtual + (self._real() - self._flowing_since)

    def _flow(self) -> None:
        self._flowing_since = self._real()

    def _freeze(self) -> None:
        self._virtual = self._now()
        self._flowing_since = None
