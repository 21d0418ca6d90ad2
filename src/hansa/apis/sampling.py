"""Which of the live sites a round asks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.apis.client import Client
from hansa.errors import ConfigError

TAGS = "tags"
"""The property of a `Client` that lists the site's tags."""


@dataclass(frozen=True)
class Sampling:
    """How a round chooses its sites: first who may be asked, then how many of those are drawn.

    With none of the four, all live sites are asked.

    Attributes:
        names: Only these sites may be asked; not with `tag`.
        tag: Only sites with this tag may be asked.
        fraction: This share of them is drawn, to the nearest whole number, one at least; in (0, 1]; not with `count`.
        count: So many of them are drawn, all where there are fewer; >= 1.
    """

    names: frozenset[str] | None = None
    tag: str | None = None
    fraction: float | None = None
    count: int | None = None

    @classmethod
    def from_config(cls, config: object, *, key: str) -> Sampling:
        """What a job's config says: an object with the attributes' names as keys, or None for all sites.

        Args:
            config: Plain JSON.
            key: Where it stands, for errors.

        Raises:
            ConfigError: It is something else; names the key.
        """
        if config is None:
            return cls()
        if not isinstance(config, Mapping):
            raise ConfigError(f"must be an object such as {{'fraction': 0.1}}, not {config!r}", key=key)
        for name in config:
            if name not in _CHECKS:
                raise ConfigError(f"says nothing about sites; there are {', '.join(_CHECKS)}", key=f"{key}.{name}")
        for one, other in (("names", "tag"), ("fraction", "count")):
            if one in config and other in config:
                raise ConfigError(f"give {one} or {other}, not both", key=key)
        return cls(**{name: _CHECKS[name](value, f"{key}.{name}") for name, value in config.items()})

    @property
    def asks_all(self) -> bool:
        """Whether every live site is asked."""
        return self == Sampling()

    def eligible(self, clients: Iterable[Client]) -> list[str]:
        """The sites that may be asked, by code point; one pass."""
        if self.tag is not None:
            found = [client.name for client in clients if self.tag in (client.props.get(TAGS) or ())]
        elif self.names is not None:
            found = [client.name for client in clients if client.name in self.names]
        else:
            found = [client.name for client in clients]
        return sorted(dict.fromkeys(found))  # nearly always sorted already, and then this is one more pass

    def missing(self, clients: Sequence[Client], min_sites: int) -> str | None:
        """What a round still waits for, in words; None if it may open.

        It wants `min_sites` live sites. Of `names` never more than there are, and only these count; with a `tag`, of
        which nobody can say how many sites bear it, one of them at least.
        """
        if self.names is not None:
            wanted, here = min(min_sites, len(self.names)), len(self.eligible(clients))
            return None if here >= wanted else f"{wanted} of {len(self.names)} named sites, {here} are here"
        if len(clients) < min_sites:
            return f"{min_sites} sites, {len(clients)} are here"
        if self.tag is not None and not self.eligible(clients):
            return f"a site with the tag {self.tag!r}, {len(clients)} without it are here"
        return None

    def at_most(self, wanted: int, targets: Sequence[str] | None) -> int:
        """How many sites are enough: as many as are wanted, or all that were drawn where that is fewer."""
        return wanted if self.asks_all or targets is None else min(wanted, len(targets))

    def draw(self, eligible: list[str], *, seed: str) -> list[str]:
        """The sites that are asked, by code point.

        The same for the same sites and seed, also in another version of Python, which promises that of `random()`
        alone: Fisher and Yates' shuffle as far as it is needed.

        Args:
            eligible: Who may be asked, by code point.
            seed: Any text.
        """
        num_eligible = len(eligible)
        num_drawn = self._size(num_eligible)
        if num_drawn >= num_eligible:
            return list(eligible)
        pool, draw = list(eligible), random.Random(seed).random
        for place in range(num_drawn):
            chosen = place + int(draw() * (num_eligible - place))
            pool[place], pool[chosen] = pool[chosen], pool[place]
        return sorted(pool[:num_drawn])

    def _size(self, num_eligible: int) -> int:
        if self.count is not None:
            return self.count
        return num_eligible if self.fraction is None else max(1, int(self.fraction * num_eligible + 0.5))


def shuffled(names: Iterable[str], *, seed: str) -> list[str]:
    """The names in a random order, the same for the same names and seed, also in another version of Python.

    Args:
        names: In an order that is always the same.
        seed: Any text.
    """
    pool, draw = list(names), random.Random(seed).random
    for place in range(len(pool) - 1):
        chosen = place + int(draw() * (len(pool) - place))
        pool[place], pool[chosen] = pool[chosen], pool[place]
    return pool


def _names(value: object, key: str) -> frozenset[str]:
    if not isinstance(value, list | tuple) or not value or not all(name and isinstance(name, str) for name in value):
        raise ConfigError(f"must be a list of names of sites, not {value!r}", key=key)
    return frozenset(value)


def _tag(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"must be a text that is not empty, not {value!r}", key=key)
    return value


def _fraction(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"must be a number above 0 and at most 1, not {value!r}", key=key)
    return float(value)


def _count(value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"must be a whole number of at least 1, not {value!r}", key=key)
    return value


_CHECKS: dict[str, Callable[[object, str], Any]] = {  # Any: each gives the type of its attribute
    "names": _names,
    "tag": _tag,
    "fraction": _fraction,
    "count": _count,
}
