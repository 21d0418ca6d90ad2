"""Waiting for sites, with an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from hansa.apis.engine import UNDECIDED, OffersDecisions, Waiter, port
from hansa.apis.fl_context import FLContext
from hansa.apis.responder import Responder
from hansa.apis.signal import Signal
from hansa.components.workflows.targets import names_of_sites


def wait_until(
    condition: Callable[[], bool],
    *,
    waiter: Waiter,
    abort_signal: Signal,
    times: Callable[[], Iterable[float]] = lambda: (),
) -> None:
    """Block until a condition holds or the run is stopped.

    Args:
        condition: Looked at again after each `notify`, and when something is due.
        waiter: The place to wait.
        abort_signal: Ends the wait.
        times: When the condition may hold by the mere passing of time, on the waiter's clock.
    """
    seen = waiter.now()

    def due() -> float | None:
        return min((time for time in times() if time > seen), default=None)

    def act() -> None:
        nonlocal seen
        seen = waiter.now()
        waiter.notify()

    with _woken_by(abort_signal, waiter):
        waiter.watch(due, act)
        try:
            waiter.wait_until(lambda: abort_signal.triggered or condition())
        finally:
            waiter.unwatch(act)


def take_part(
    owner: Responder,
    wanted: Iterable[str] | None,
    waiter: Waiter,
    *,
    limit_s: float,
    abort_signal: Signal,
    fl_ctx: FLContext,
) -> list[str]:
    """The sites that take part in a workflow, by code point; waits for them for a while.

    Args:
        owner: The workflow, which says in the log who is waited for, and who is left out.
        wanted: Their names; None for all that are live, one at least.
        waiter: The place to wait.
        limit_s: How long to wait.
        abort_signal: Ends the wait.
        fl_ctx: The context of the control flow. Its engine keeps the decision, so that it stands after a restart.
    """
    engine = fl_ctx.get_engine()
    named = None if wanted is None else sorted(dict.fromkeys(wanted))
    if not hasattr(engine, "get_clients"):
        return named or []
    decisions, draw = port(engine, OffersDecisions), f"{owner.workflow_index}/sites"
    if decisions is not None and (before := decisions.decided(draw)) is not UNDECIDED:
        return [str(name) for name in before]
    until = waiter.now() + limit_s

    def here() -> list[str]:
        live = names_of_sites(engine)
        return sorted(live) if named is None else [name for name in named if name in live]

    def is_enough() -> bool:
        return bool(here()) if named is None else here() == named

    if not is_enough():
        owner.waits_for = "a site" if named is None else ", ".join(name for name in named if name not in here())
        owner.log_info(fl_ctx, f"waits for {owner.waits_for}")
        wait_until(
            lambda: is_enough() or waiter.now() >= until,
            waiter=waiter,
            abort_signal=abort_signal,
            times=lambda: (until,),
        )
        owner.waits_for = None
    found = here()
    for name in named or ():
        if name not in found:
            owner.log_error(fl_ctx, f"{name}: not here within {limit_s:g} s; it is left out")
    if decisions is not None and not abort_signal.triggered:
        decisions.decide(draw, found)
    return found


@contextmanager
def _woken_by(abort_signal: Signal, waiter: Waiter) -> Iterator[None]:
    abort_signal.subscribe(waiter.notify)
    try:
        yield
    finally:
        abort_signal.unsubscribe(waiter.notify)


def wait_for_sites(
    owed: Callable[[], set[str]], *, engine: object, waiter: Waiter, limit_s: float, abort_signal: Signal
) -> None:
    """Wait until no site owes anything any more, or all that do have been away for too long.

    Args:
        owed: Names the sites that owe something.
        engine: May know which sites are live; where it does not, all count as live.
        waiter: The place to wait, and the clock.
        limit_s: After how many seconds nobody waits for a site that is away.
        abort_signal: Ends the wait.
    """
    since: dict[str, float] = {}  # when they went

    def is_over() -> bool:
        debtors = owed()
        away = debtors.difference(names_of_sites(engine)) if hasattr(engine, "get_clients") else set()
        now = waiter.now()
        for site in [*since]:
            if site not in away:
                del since[site]
        since.update({site: now for site in away if site not in since})
        return all(site in away and now - since[site] >= limit_s for site in debtors)

    def times() -> list[float]:
        return [gone + limit_s for gone in [*since.values()]]

    wait_until(is_over, waiter=waiter, abort_signal=abort_signal, times=times)
