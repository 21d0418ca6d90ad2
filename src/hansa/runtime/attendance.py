"""Who must be there for a run to begin and to go on, how long it waits for them, and why it fails without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hansa.errors import RunError
from hansa.runtime.file_blobs import Head
from hansa.runtime.members import Member, Standing
from hansa.runtime.net_crew import NetCrew
from hansa.runtime.outbox import Sent
from hansa.runtime.real_loop import RealTimeLoop
from hansa.runtime.user_code import Failure, Mishap, OnFailure

END_WAIT_S = 3.0
"""How long sites may take to say that their END_RUN is over."""


@dataclass(frozen=True)
class Patience:
    """How long a run waits for its sites.

    Attributes:
        start_s: For all of them, before it begins with those that are enough; and for one that is on its way later.
        quorum_s: For enough of them, once some are lost.
    """

    start_s: float = 60.0
    quorum_s: float = 600.0


class Attendance:
    """Sees sites come and go. All of it on the dispatcher's thread.

    Args:
        crew: The way to the sites.
        loop: Clock and waiting place.
        patience: How long to wait for whom.
        on_failure: Told of sites whose components cannot be built.
        fail: Ends the run, for want of sites.
    """

    def __init__(
        self,
        crew: NetCrew,
        loop: RealTimeLoop,
        *,
        patience: Patience,
        on_failure: OnFailure,
        fail: Callable[[str], None],
    ) -> None:
        self._crew = crew
        self._members = crew.members
        self._loop = loop
        self._patience = patience
        self._on_failure = on_failure
        self._fail = fail
        self._starts_sites = False
        self._is_over = False
        self._until: float | None = None  # while the run waits for sites: how long
        self._late: dict[str, float] = {}  # sites on their way: until when
        crew.on_word = self._heard

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for sites that may come back."""
        return self._until is not None

    # -- the beginning -----------------------------------------------------------------------------------------

    def await_ready(self, is_stopped: Callable[[], bool]) -> None:
        """Until all sites are ready, or enough of them and the time is over.

        Raises:
            RunError: Too few.
        """
        members = self._members
        waiting = (Standing.EXPECTED, Standing.READY, Standing.LOST)

        def is_settled() -> bool:
            on_the_way = members.of(Standing.EXPECTED, Standing.LOST)
            return is_stopped() or not on_the_way or not members.is_quorum(*waiting)

        self._pump(is_settled, self._loop.now() + self._patience.start_s)
        if not is_stopped() and not members.is_quorum(Standing.READY):
            raise RunError(self._too_few(Standing.READY))
        members.renew()

    def start_sites(self, is_stopped: Callable[[], bool]) -> None:
        """START_RUN at all sites that are ready."""
        self._starts_sites = True
        ready = [each.name for each in self._members.of(Standing.READY)]
        if ready:
            self._crew.send(ready, {"k": "start"})
        self._pump(lambda: is_stopped() or not self._members.of(Standing.READY), math.inf)
        self._members.has_begun = True
        self._members.renew()
        self._crew.tell({"k": "running"})
        self._loop.watch(self._due, self._time_is_over)
        self._judge()

    def end_sites(self) -> None:
        """END_RUN at all sites that are there."""
        self._is_over = True
        self._loop.unwatch(self._time_is_over)
        there = self._members.of(Standing.LIVE, Standing.READY)
        if there:
            self._crew.send([each.name for each in there], {"k": "end"})
        self._pump(
            lambda: all(each.sent is not None or not each.is_there for each in there), self._loop.now() + END_WAIT_S
        )

    def _pump(self, condition: Callable[[], bool], until: float) -> None:
        while True:
            seen = self._loop.look()
            for _ in self._crew.deliveries():
                pass
            if condition() or self._loop.now() >= until:
                return
            self._loop.wait_for_change(seen, until)

    # -- who comes and goes ------------------------------------------------------------------------------------

    def _heard(self, head: Head, member: Member) -> None:
        match head["k"]:
            case "ready":
                self._ready(member, head.get("error"))
            case "started":
                member.assignment = None  # it gets it anew
                self._members.set(member, Standing.LIVE)
            case "ended":
                member.sent = Sent(*head["sent"])
            case "site_back":
                if not member.is_there:
                    self._expect(member)
            case "site_down":
                self._late.pop(member.name, None)
                self._crew.aux.replies.gone(member.name)
                if member.standing is not Standing.LEFT:
                    is_final = bool(head.get("final"))
                    reason = str(head.get("reason"))
                    self._members.set(member, Standing.GONE if is_final else Standing.LOST, reason=reason)
            case _:
                return
        self._judge()

    def _ready(self, member: Member, error: str | None) -> None:
        self._late.pop(member.name, None)
        if error is not None:
            self._members.set(member, Standing.GONE, reason=error)
            self._on_failure(Mishap(member.name, "building"), Failure(RunError(error), error, ""))
            return
        self._members.set(member, Standing.READY)
        if self._is_over:
            self._crew.send([member.name], {"k": "end"})
        elif self._starts_sites:
            self._crew.send([member.name], {"k": "start"})

    def _expect(self, member: Member) -> None:
        self._late[member.name] = self._loop.now() + self._patience.start_s
        self._members.set(member, Standing.EXPECTED)

    # -- enough of them ----------------------------------------------------------------------------------------

    def wait_for_lost(self) -> bool:
        """Nothing can happen any more unless lost sites come back: wait for that, if there are any."""
        lost = self._members.of(Standing.LOST)
        if not lost or self._is_over or self.is_waiting:
            return False
        self._begin_to_wait("; ".join(f"{each.name}: {each.reason}" for each in lost))
        return True

    def _judge(self) -> None:
        members = self._members
        if not members.has_begun or self._is_over:
            return
        if members.is_quorum(Standing.LIVE):
            for member in members.of(Standing.LOST, Standing.GONE):
                self._crew.give_up(member)
            if self._until is not None:
                self._until = None
                self._crew.tell({"k": "running"})
                self._loop.notify()
            return
        if not members.is_quorum(Standing.LIVE, Standing.READY, Standing.EXPECTED, Standing.LOST):
            self._end(self._too_few(Standing.LIVE))
        elif self._until is None:
            num_live = len(members.of(Standing.LIVE))
            self._begin_to_wait(f"quorum: {num_live} of {members.required} sites")

    def _begin_to_wait(self, reason: str) -> None:
        self._until = self._loop.now() + self._patience.quorum_s
        self._crew.tell({"k": "waiting", "reason": reason, "until": self._until})
        self._loop.notify()

    def _due(self) -> float | None:
        times = [*self._late.values(), *(() if self._until is None else (self._until,))]
        return min(times, default=None)

    def _time_is_over(self) -> None:
        now = self._loop.now()
        for name in [name for name, late in self._late.items() if late <= now]:
            del self._late[name]
            member = self._members.find(name)
            assert member is not None
            self._members.set(member, Standing.LOST, reason=f"not ready within {self._patience.start_s:g} s")
        if self._until is not None and self._until <= now:
            self._end(f"{self._too_few(Standing.LIVE)}; waited {self._patience.quorum_s:g} s")
        else:
            self._judge()

    def _end(self, cause: str) -> None:
        self._until = None
        self._is_over = True
        self._fail(cause)

    def _too_few(self, standing: Standing) -> str:
        members = self._members
        return f"{len(members.of(standing))} of {members.required} sites are there ({members.missing()})"


def facts(members: Any) -> dict[str, Any]:  # Any: JSON
    """What the record says of who took no part in the end."""
    return {each.name: f"{each.standing.value}: {each.reason}" for each in members if not each.is_there}
