"""The sites of a job whose processes are elsewhere: who is there, who may come back, and who works on what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hansa.apis.client import Client
from hansa.runtime.assignments import Assignment
from hansa.runtime.outbox import Sent


class Standing(Enum):
    """How a site stands with the run."""

    EXPECTED = "EXPECTED"
    """Its process is on its way."""
    READY = "READY"
    """Its components are built."""
    LIVE = "LIVE"
    """It has had START_RUN."""
    LOST = "LOST"
    """It may come back."""
    LEFT = "LEFT"
    """Its components have ended its part; it is not missed."""
    GONE = "GONE"
    """It takes part no more."""


@dataclass
class Member:
    """One site.

    Attributes:
        client: As the workflow sees it.
        standing: How it stands.
        reason: Why, where it is not there.
        props: Its public properties.
        known: The tables of tensors that it was sent.
        assignment: What it works on, or what it is owed once it is back.
        given: The numbers of all tasks that it was ever given.
        was_told_to_stop: Whether it was told that nobody waits for what it works on.
        was_refused: Whether a result of its was refused; said once.
        sent: What has left it.
    """

    client: Client
    standing: Standing = Standing.EXPECTED
    reason: str = ""
    props: dict[str, Any] = field(default_factory=dict)  # Any: properties hold any value
    known: set[str] = field(default_factory=set)
    assignment: Assignment | None = None
    given: set[int] = field(default_factory=set)
    was_told_to_stop: bool = False
    was_refused: bool = False
    sent: Sent | None = None

    @property
    def name(self) -> str:
        """The site's name."""
        return self.client.name

    @property
    def is_there(self) -> bool:
        """Whether it would hear."""
        return self.standing in (Standing.READY, Standing.LIVE)


class Members:
    """All sites of a job; changed on the dispatcher's thread, read on any.

    Args:
        clients: Those that the job was given to.
        min_sites: How many must be there.
        mandatory: Those that must be.
    """

    def __init__(self, clients: Iterable[Client], *, min_sites: int, mandatory: Iterable[str] = ()) -> None:
        self._all = {client.name: Member(client) for client in sorted(clients, key=lambda each: each.name)}
        self._min_sites = min_sites
        self._mandatory = frozenset(mandatory)
        self._clients: dict[str, Client] = {}
        self.has_begun = False
        self.on_change: Callable[[], None] = lambda: None

    def __iter__(self) -> Any:  # Any: an iterator of members
        return iter(tuple(self._all.values()))

    def find(self, name: str) -> Member | None:
        """A site, if it takes part."""
        return self._all.get(name)

    def find_or_add(self, name: str) -> Member:
        """A site that takes part from now on, if it did not before."""
        member = self._all.get(name)
        if member is None:
            self._all = dict(sorted([*self._all.items(), (name, Member(Client(name, "")))]))
            member = self._all[name]
        return member

    def clients(self) -> Mapping[str, Client]:
        """Those that take part at present, by name."""
        return self._clients

    def set(self, member: Member, standing: Standing, *, reason: str = "") -> None:
        """A site stands otherwise from now on."""
        member.standing, member.reason = standing, reason
        self.renew()

    def renew(self) -> None:
        """See who takes part now."""
        wanted = (Standing.LIVE,) if self.has_begun else (Standing.READY, Standing.LIVE)
        self._clients = {each.name: each.client for each in self if each.standing in wanted}
        self.on_change()

    def of(self, *standings: Standing) -> list[Member]:
        """Those that stand so, by name."""
        return [each for each in self if each.standing in standings]

    @property
    def required(self) -> int:
        """How many must be there; those whose components have ended their part are not missed."""
        left = len(self.of(Standing.LEFT))
        return max(1, min(self._min_sites, len(self._all) - left))

    def is_quorum(self, *standings: Standing) -> bool:
        """Whether those that stand so are enough, with all that must be there."""
        there = {each.name for each in self.of(*standings)}
        left = {each.name for each in self.of(Standing.LEFT)}
        return len(there) >= self.required and self._mandatory <= there | left

    def missing(self) -> str:
        """Who is not there, and why."""
        return "; ".join(f"{each.name}: {each.reason or 'is not ready'}" for each in self if not each.is_there)
