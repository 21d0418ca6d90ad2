"""Which sites a round is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hansa.apis.client import Client
from hansa.apis.engine import UNDECIDED, OffersDecisions, OffersSeed, OffersWaiter, port
from hansa.apis.sampling import Sampling, Turnout
from hansa.apis.signal import Signal
from hansa.errors import ConfigError


@dataclass(frozen=True)
class Draw:
    """How a round comes to its sites.

    Attributes:
        sampling: How they are chosen.
        name: What the draw is for, in words that are the same whenever and wherever it is made; a round that was opened
            before a restart keeps its sites.
        turnout: What the rounds before have shown of the sites; None: nothing.
    """

    sampling: Sampling
    name: str
    turnout: Turnout | None = None


def round_targets(
    engine: Any,  # Any: a server's engine, or a test's own that offers only some of it
    at_least: int,
    *,
    draw: Draw,
    abort_signal: Signal,
    on_wait: Callable[[str], None],
) -> list[str] | None:
    """The sites that a round asks, as soon as enough are live; returns early when the run is stopped.

    Args:
        engine: Who knows the sites and the job's seed, and wakes us when a site comes.
        at_least: How many live sites are enough; see `Sampling.missing`.
        draw: How they are chosen.
        abort_signal: Ends the wait.
        on_wait: Told in one line what is missing, if something is.

    Returns:
        Names sorted by code point. Where nobody knows the sites, or they are too few and nobody would say when more
        come: None, anyone may take part; with a sampling, of those that are there, perhaps none.
    """
    get_clients: Callable[[], list[Client]] | None = getattr(engine, "get_clients", None)
    if get_clients is None:
        return None
    decisions = port(engine, OffersDecisions)
    if decisions is not None and (before := decisions.decided(draw.name)) is not UNDECIDED:
        return None if before is None else [str(name) for name in before]
    live = _live(engine, at_least, sampling=draw.sampling, abort_signal=abort_signal, on_wait=on_wait)
    if draw.sampling.asks_all:
        targets = live if len(live) >= at_least else None
    else:
        targets = draw.sampling.draw(live, seed=seed_of(engine, draw.name), turnout=draw.turnout)
    if decisions is not None and not abort_signal.triggered:
        decisions.decide(draw.name, targets)
    return targets


def _live(
    engine: Any,  # Any: as above
    at_least: int,
    *,
    sampling: Sampling,
    abort_signal: Signal,
    on_wait: Callable[[str], None],
) -> list[str]:
    """The sites that may be asked, once enough are there."""
    get_clients: Callable[[], list[Client]] = engine.get_clients

    def missing() -> str | None:
        return sampling.missing(get_clients(), at_least)

    offer = port(engine, OffersWaiter)
    if offer is not None and (line := missing()) is not None:
        on_wait(line)
        offer.waiter.wait_until(lambda: abort_signal.triggered or missing() is None)
    return sampling.eligible(get_clients())


def seed_of(engine: object, draw: str) -> str:
    """The seed of a draw: it depends on the job's seed and on what the draw is for."""
    seeded = port(engine, OffersSeed)
    return f"{seeded.seed_for(draw) if seeded is not None else 0}/{draw}"


def names_of_sites(engine: object) -> list[str]:
    """The live sites, where somebody knows them."""
    get_clients: Callable[[], list[Client]] | None = getattr(engine, "get_clients", None)
    return [] if get_clients is None else [client.name for client in get_clients()]


def names_of_eligible(engine: object, sampling: Sampling) -> list[str]:
    """The live sites that a round may ask, where somebody knows the sites."""
    get_clients: Callable[[], list[Client]] | None = getattr(engine, "get_clients", None)
    return [] if get_clients is None else sampling.eligible(get_clients())


def check_knows_sites(engine: object, sampling: Sampling) -> None:
    """Refuse to choose among sites that nobody knows.

    Raises:
        ConfigError: The engine does not say which sites there are.
    """
    if not sampling.asks_all and not hasattr(engine, "get_clients"):
        raise ConfigError("the engine does not know its sites, so none can be chosen", key="sampling")
