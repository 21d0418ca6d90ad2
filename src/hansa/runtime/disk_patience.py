"""What a disk refuses is tried again until it has room: a job waits then, and loses nothing."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

from hansa.errors import MAY_PASS

BROKEN_S = 30.0
"""How long a disk may fail before it counts as broken; want of room may last for ever."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class DiskPatience:
    """Waits after a refusal; any thread.

    Args:
        tell: Told of the first refusal, in words; and None once the disk has taken what was to be written.
        is_wanted: Whether anybody still waits for what is to be written.
    """

    def __init__(self, tell: Callable[[str | None], None], is_wanted: Callable[[], bool] = lambda: True) -> None:
        self._tell = tell
        self._is_wanted = is_wanted
        self._since: float | None = None  # since when the disk takes nothing
        self._pause_s = _FIRST_PAUSE_S
        self._lock = threading.Lock()

    def refused(self, error: OSError) -> None:
        """The disk has refused something: return after a while, for another try.

        Raises:
            OSError: The refusal, where waiting does not help, or nobody waits any more.
        """
        with self._lock:
            now = time.monotonic()
            is_first = self._since is None
            since = self._since = now if self._since is None else self._since
            pause_s = self._pause_s
            self._pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        is_broken = error.errno == errno.EIO and now - since > BROKEN_S
        if error.errno not in MAY_PASS or is_broken or not self._is_wanted():
            self.taken()
            raise error
        if is_first:
            self._tell(os.strerror(error.errno or 0))
        threading.Event().wait(pause_s)

    def taken(self) -> None:
        """The disk has taken what was to be written."""
        with self._lock:
            had_refused, self._since, self._pause_s = self._since is not None, None, _FIRST_PAUSE_S
        if had_refused:
            self._tell(None)

    def write(self, write: Callable[[], None]) -> None:
        """Write something, again if need be, until the disk has taken it.

        Raises:
            OSError: As `refused` says.
        """
        while True:
            try:
                write()
            except OSError as error:
                self.refused(error)
            else:
                self.taken()
                return


IMPATIENT = DiskPatience(lambda cause: None, lambda: False)
"""Raises what a disk refuses."""
