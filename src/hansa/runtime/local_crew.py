"""The sites of a run in this very process, as the dispatcher sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hansa.runtime.assignments import Assignment, Delivery
from hansa.runtime.host import SiteHost
from hansa.runtime.outbox import Sent
from hansa.runtime.site_side import SiteSide


class LocalCrew:
    """Runs the tasks of all sites one after the other in the dispatcher's own thread.

    Args:
        host: Has the sites.
    """

    shares_randomness = True

    def __init__(self, host: SiteHost) -> None:
        self._host = host
        self._batch: list[Assignment] = []

    @property
    def ended(self) -> Mapping[str, str]:
        """See `Crew`."""
        return self._host.ended

    def find(self, site: str) -> SiteSide | None:
        """A site, made if need be."""
        return self._host.find(site)

    def props(self, site: str) -> dict[str, Any]:  # Any: properties hold any value
        """See `Crew`."""
        return self._host.props(site)

    def hand_over(self, assignment: Assignment) -> None:
        """See `Crew`."""
        self._host.expect(assignment.site)
        self._batch.append(assignment)

    def deliveries(self) -> Iterator[Delivery]:
        """See `Crew`."""
        batch, self._batch = self._batch, []
        return self._host.run(batch)

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
