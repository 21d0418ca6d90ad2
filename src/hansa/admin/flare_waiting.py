"""Waits of FLARE's admin API: look again and again until a callback is content, the time is up, or nobody answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from hansa.admin.flare_response import APIStatus, APISyntaxError, FLAdminAPIResponse, FLDetailKey, succeeded
from hansa.apis.fl_constant import MachineStatus

_STOPPED = MachineStatus.STOPPED.value
_STATUS_COLUMN = 3


def default_server_status_handling_cb(reply: FLAdminAPIResponse, **kwargs: object) -> bool:
    """Content once the server runs nothing.

    Args:
        reply: A response of `check_status` about the server.
        **kwargs: Passed over.
    """
    status: object = reply.get("details", {}).get(FLDetailKey.SERVER_ENGINE_STATUS)
    return status == _STOPPED


def default_client_status_handling_cb(reply: FLAdminAPIResponse) -> bool:
    """Content once no site runs anything.

    Args:
        reply: A response of `check_status` about sites.
    """
    details = reply.get("details", {})
    rows = details.get("client_statuses", [[]])[1:]
    # Where no site is connected, what the server says decides: its job may still wait for them.
    return (
        all(row[_STATUS_COLUMN] == _STOPPED for row in rows)
        and details.get(FLDetailKey.SERVER_ENGINE_STATUS, _STOPPED) == _STOPPED
    )


def default_stats_handling_cb(reply: FLAdminAPIResponse) -> bool:
    """Content once the run is over.

    Args:
        reply: A response of `show_stats` about the server.
    """
    stats = reply.get("details", {}).get("message")
    return isinstance(stats, dict) and stats.get("ServerRunner", {}).get("status") == "done"


@dataclass(frozen=True)
class Rhythm:
    """How a wait goes.

    Attributes:
        interval: Seconds between two looks.
        timeout: At most so many seconds; None: as long as it takes.
        fail_attempts: After so many failures in a row, the last one is the answer.
    """

    interval: float
    timeout: float | None
    fail_attempts: int

    def __post_init__(self) -> None:
        if not self.interval > 0 or (self.timeout is not None and not self.timeout >= 0):
            raise APISyntaxError(
                f"a wait has an interval above 0 s and a timeout of at least 0 s or None, not {self.interval!r} and "
                f"{self.timeout!r}"
            )


def wait_until(
    look: Callable[[], FLAdminAPIResponse],
    is_done: Callable[[FLAdminAPIResponse], bool],
    rhythm: Rhythm,
    *,
    pause: Callable[[float], None],
) -> FLAdminAPIResponse:
    """Look until it is done.

    Args:
        look: The call that is made again and again.
        is_done: Looks at a response that succeeded.
        rhythm: How often, and how long.
        pause: Lets time pass.

    Returns:
        SUCCESS, also when the time is up, then with a message; or the last failure.
    """
    began, failures = time.monotonic(), 0
    while True:
        reply = look()
        failures = 0 if reply["status"] is APIStatus.SUCCESS else failures + 1
        if failures >= rhythm.fail_attempts:
            return reply
        if not failures and is_done(reply):
            return succeeded()
        left = math.inf if rhythm.timeout is None else rhythm.timeout - (time.monotonic() - began)
        if left <= 0:
            return succeeded(f"waited {rhythm.timeout:g} s, until the timeout")
        pause(min(rhythm.interval, left))
