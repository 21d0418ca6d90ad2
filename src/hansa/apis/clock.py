"""The clock of this process."""

from __future__ import annotations

import time

_EPOCH_AT_START = time.time() - time.monotonic()


def process_clock() -> float:
    """Seconds since 1970 as they were when the process began, advanced by a clock that never goes back.

    So times look like `time.time()`, and a clock that is set while a task stands neither ends nor keeps it.
    """
    return _EPOCH_AT_START + time.monotonic()
