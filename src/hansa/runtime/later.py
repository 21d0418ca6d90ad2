"""Writing files beside the round: one thread, the newest version of each file, and always the last."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hansa.runtime import user_code

GATHER_S = 0.05
"""How long a write waits for newer ones: rounds of milliseconds share a write, and a crash costs no more than that."""


class LaterWriter:
    """Runs writes on a thread of its own, started with the first write and joined by `close`.

    Args:
        on_failure: Called on the writing thread with what was to be written and what went wrong.
    """

    def __init__(self, on_failure: Callable[[str, user_code.Failure], None]) -> None:
        self._on_failure = on_failure
        self._waiting: dict[str, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._is_asleep = False
        self._is_busy = False
        self._num_in_hurry = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def write_later(self, key: str, write: Callable[[], None]) -> None:
        """See `hansa.apis.engine.OffersWriter`."""
        with self._changed:
            self._waiting[key] = write
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hansa-writer", daemon=True)
                self._thread.start()
            elif self._is_asleep:
                self._changed.notify_all()

    def finish_writes(self) -> None:
        """Return when everything handed over so far is written."""
        with self._changed:
            self._num_in_hurry += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._is_busy)
            self._num_in_hurry -= 1

    def close(self) -> None:
        """Write what is left and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            for key, write in batch.items():
                outcome = user_code.call(write)
                if isinstance(outcome, user_code.Failure):
                    self._on_failure(key, outcome)

    def _next_batch(self) -> dict[str, Callable[[], None]]:
        """What is to be written now, by key; empty when there will be nothing any more."""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._is_asleep = True
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._is_asleep = False
            self._changed.wait_for(lambda: self._closed or self._num_in_hurry, GATHER_S)
            batch, self._waiting = self._waiting, {}
            self._is_busy = bool(batch)
            return batch
