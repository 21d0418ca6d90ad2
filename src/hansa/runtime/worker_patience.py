"""How long the server waits for its workers, and what it does then."""

from __future__ import annotations

import time
from collections.abc import Callable

from hansa.apis.signal import Signal
from hansa.runtime.worker_staff import Staff
from hansa.runtime.worker_words import ToWorker

GRACE_S = 5.0
"""How long an aborted run waits for what its sites are doing."""

_LOOK_S = 0.2


class Patience:
    """Real time, which a task that never ends uses up: a worker that has no right to more of it is killed.

    Args:
        staff: The workers.
        signal: The run's abort signal.
        notify: Told of an abort, so that whoever waits looks again.
    """

    def __init__(self, staff: Staff, signal: Signal, *, notify: Callable[[], None]) -> None:
        self._staff = staff
        self._signal = signal
        self._notify = notify
        self._aborted_at: float | None = None

    def left(self) -> float | None:
        """How long to wait for the next frame, in seconds; None for ever."""
        now = time.monotonic()
        limits = []
        if self._aborted_at is not None:
            limits.append(self._aborted_at + GRACE_S - now)
        for worker in self._staff.workers:
            task = worker.outstanding.get(worker.pulse.number)
            if task is not None and task.body.timeout_s:
                limits.append(worker.pulse.since + task.body.timeout_s - now)
            elif any(task.body.timeout_s for task in worker.outstanding.values()):
                limits.append(_LOOK_S)
        return max(0.0, min(limits)) if limits else None

    def enforce(self) -> None:
        """Kill those whose time is up."""
        now = time.monotonic()
        for worker in self._staff.workers:
            if self._aborted_at is not None and now >= self._aborted_at + GRACE_S:
                worker.kill("did not stop when the run was stopped, and was killed")
            task = worker.outstanding.get(worker.pulse.number)
            if task is not None and task.body.timeout_s and now >= worker.pulse.since + task.body.timeout_s:
                worker.kill(f"did not answer within {task.body.timeout_s:g} s")

    def abort(self) -> None:
        """The run is to stop: tell the workers; any thread."""
        if self._aborted_at is None:
            self._aborted_at = time.monotonic()
        for worker in self._staff.workers:
            worker.send(ToWorker.ABORT, {"reason": str(self._signal.value)})
        self._notify()
