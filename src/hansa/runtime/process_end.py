"""The end of a process whose other end is gone."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Never


def leave() -> Never:
    """End this process and all that it started, at once."""
    with suppress(OSError):
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)
