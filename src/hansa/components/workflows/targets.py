"""Which sites a round is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hansa.apis.engine import OffersWaiter, port
from hansa.apis.signal import Signal


def live_sites(
    engine: Any,  # Any: a server's engine, or a test's own that offers only some of it
    at_least: int,
    *,
    abort_signal: Signal,
    on_wait: Callable[[int], None],
) -> list[str] | None:
    """The sites that are live, as soon as they are enough; returns early when the run is stopped.

    Args:
        engine: Who knows the sites, and wakes us when one comes.
        at_least: How many are enough.
        abort_signal: Ends the wait.
        on_wait: Told how many there are, if they are not enough.

    Returns:
        Names sorted by code point. None where nobody knows the sites, or they are too few and nobody would say when
        more come: then anyone may take part.
    """
    get_clients = getattr(engine, "get_clients", None)
    if get_clients is None:
        return None

    def live() -> list[str]:
        return sorted({client.name for client in get_clients()})

    sites = live()
    offer = port(engine, OffersWaiter)
    if len(sites) < at_least and offer is not None:
        on_wait(len(sites))
        offer.waiter.wait_until(lambda: abort_signal.triggered or len(live()) >= at_least)
        sites = live()
    return sites if len(sites) >= at_least else None
