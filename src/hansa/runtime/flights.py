"""Answers under way on the virtual clock: made at once, and received when the simulated times say so."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

from hansa.runtime.assignments import Answer, Delivery
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.site_times import MessageSizes, SiteTimes
from hansa.wire.message import Message


class Flights:
    """Keeps answers until they arrive.

    A site that works on a task, or is away, is given nothing. A lost task keeps its site busy as long, and nothing
    arrives; it is not sent again, but a new task is, once the lost one is over.

    Args:
        times: How long what takes.
        loop: The clock.
        stands: Whether the task of an id still waits for results.
        land: Told of the answers that arrive at one time, by site name.
    """

    def __init__(
        self,
        times: SiteTimes,
        loop: EventLoop,
        *,
        stands: Callable[[str], bool],
        land: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._times = times
        self._loop = loop
        self._stands = stands
        self._land = land
        self._lost: dict[str, str] = {}  # by site, the task that it lost
        self._start = loop.now()
        self._under_way: list[tuple[float, str, Answer | None]] = []
        self._busy: set[str] = set()
        self._returns: dict[str, float] = {}  # sites that are away and wanted: when they are back
        loop.watch(self.next_due, self.arrive)

    def may_ask(self, site: str) -> bool:
        """Whether a site would hear of a task now; one that is away is remembered until it is back."""
        if site in self._busy:
            return False
        if site in self._lost:
            if self._stands(self._lost[site]):
                return False
            del self._lost[site]
        now = self._now()
        there = self._times.present_from(site, now)
        if there > now:
            if there < math.inf:
                self._returns[site] = there
            return False
        return True

    def launch(self, delivery: Delivery) -> None:
        """Answers were made; they are on their way from now on."""
        now = self._now()
        for answer in delivery.answers:
            task, site = answer.assignment, answer.assignment.site
            assert isinstance(answer.message, Message)
            sizes = MessageSizes(task.body.message.size_bytes, answer.message.size_bytes)
            flight = self._times.flight(site, task.task_id, sizes=sizes, at_s=now)
            if flight.lost:
                self._lost[site] = task.task_id
            self._busy.add(site)
            heapq.heappush(self._under_way, (self._start + now + flight.total_s, site, None if flight.lost else answer))

    def next_due(self) -> float | None:
        """When the next answer arrives, or a site is back that is wanted; None if nothing is to come."""
        back = min(self._returns.values(), default=None)
        times = [self._under_way[0][0]] if self._under_way else []
        if back is not None:
            times.append(self._start + back)
        return min(times, default=None)

    def arrive(self) -> None:
        """Whatever is due arrives."""
        now = self._loop.now()
        landed = []
        while self._under_way and self._under_way[0][0] <= now:
            _, site, answer = heapq.heappop(self._under_way)
            self._busy.discard(site)
            if answer is not None:
                landed.append(answer)
        self._returns = {site: back for site, back in self._returns.items() if self._start + back > now}
        if landed:
            self._land(landed)
        self._loop.notify()  # sites are free again

    def close(self) -> None:
        """Nothing arrives any more."""
        self._loop.unwatch(self.arrive)

    def _now(self) -> float:
        return self._loop.now() - self._start
