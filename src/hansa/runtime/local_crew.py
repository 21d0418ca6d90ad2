"""The sites of a run in this very process, as the dispatcher sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hansa.runtime.assignments import Assignment, Delivery
from hansa.runtime.host import SiteHost
from hansa.runtime.outbox import Sent
from hansa.runtime.site_side import SiteSide
from hansa.wire.message import Message


class LocalCrew:
    """Runs the tasks of all sites one after the other in the dispatcher's own thread.

    Args:
        host: Has the sites.
        states: What components of sites knew in a process before this one; None: nobody will ask for `states`.
    """

    shares_randomness = True

    def __init__(self, host: SiteHost, states: Mapping[str, Message] | None = None) -> None:
        self._host = host
        self._batch: list[Assignment] = []
        self._states = dict(states or {})
        self._is_watching = states is not None
        self._touched: set[str] = set()  # sites whose components may know something else since `states`
        self.is_working = False
        """Whether a site has a task that it has not answered."""
        for site, state in self._states.items():
            host.restore(site, state)

    @property
    def ended(self) -> Mapping[str, str]:
        """See `Crew`."""
        return self._host.ended

    def find(self, site: str) -> SiteSide | None:
        """A site, made if need be."""
        self._touch(site)
        return self._host.find(site)

    def props(self, site: str) -> dict[str, Any]:  # Any: properties hold any value
        """See `Crew`."""
        return self._host.props(site)

    def hand_over(self, assignment: Assignment) -> None:
        """See `Crew`."""
        self._host.expect(assignment.site)
        self._touch(assignment.site)
        self._batch.append(assignment)
        self.is_working = True

    def deliveries(self) -> Iterator[Delivery]:
        """See `Crew`."""
        batch, self._batch = self._batch, []
        yield from self._host.run(batch)
        self.is_working = False

    def _touch(self, site: str) -> None:
        if self._is_watching:
            self._touched.add(site)

    def states(self) -> Mapping[str, Message]:
        """See `hansa.runtime.checkpoint.KeepsStates`."""
        for site in sorted(self._touched):
            state = self._host.state_of(site)
            if state is not None:
                self._states[site] = state
        self._touched.clear()
        return self._states

    def attend(self) -> None:
        """See `Crew`; sites in this process speak up by themselves."""

    def start(self) -> None:
        """START_RUN at the sites that there are."""
        self._host.start()

    def end(self) -> None:
        """END_RUN at the sites that have begun."""
        self._host.end()

    def sent(self) -> dict[str, Sent]:
        """What has left each site that has begun."""
        return self._host.sent()

    def close(self) -> None:
        """Nothing is left to be closed."""
