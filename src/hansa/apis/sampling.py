"""Which of the live sites a round asks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hansa.apis.client import Client
from hansa.errors import ConfigError

TAGS = "tags"
"""The property of a `Client` that lists the site's tags."""


BY = ("size", "turn")
"""What may decide who is drawn, other than chance alone."""


@dataclass
class Turnout:
    """What the rounds so far have shown of the sites.

    Attributes:
        sizes: By site, the weight of its last counted result: how many steps or examples it said it had.
        asked: By site, the last round that it was asked in.
    """

    sizes: dict[str, float] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Turnout:  # Any: see `hansa.apis.engine.Stateful`
        """What `state` has of it."""
        return cls(dict(state.get("sizes", {})), dict(state.get("asked", {})))

    def state(self) -> dict[str, dict[str, Any]]:  # Any: numbers
        """A copy, to be kept."""
        return {"sizes": dict(self.sizes), "asked": dict(self.asked)}

    def add(self, number: int, *, asked: Iterable[str], sizes: Mapping[str, float]) -> None:
        """A round is over."""
        self.asked |= dict.fromkeys(asked, number)
        self.sizes |= sizes


@dataclass(frozen=True)
class Sampling:
    """How a round chooses its sites: first who may be asked, then how many of those are drawn.

    With none of all this, all live sites are asked.

    Attributes:
        names: Only these sites may be asked; not with `tag`.
        tag: Only sites with this tag may be asked.
        fraction: This share of them is drawn, to the nearest whole number, one at least; in (0, 1]; not with `count`.
        count: So many of them are drawn, all where there are fewer; >= 1.
        spare: So many more than `count` are asked, and the round is over with the first `count` results that count
            (Bonawitz et al. 2019, arXiv:1902.01046, section 4.2); >= 0.
        min_size: Only sites with at least this much data may be asked, as far as they have said; > 0.
        by: Who is drawn: with a probability that grows with a site's data (`size`), or those that were asked longest
            ago (`turn`). None: all with the same probability.
    """

    names: frozenset[str] | None = None
    tag: str | None = None
    fraction: float | None = None
    count: int | None = None
    spare: int = 0
    min_size: float | None = None
    by: str | None = None

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
        if "spare" in config and "count" not in config:
            raise ConfigError("spare sites go with a count, such as {'count': 8, 'spare': 2}", key=f"{key}.spare")
        if "by" in config and "count" not in config and "fraction" not in config:
            raise ConfigError("goes with a count or a fraction: without, all are asked", key=f"{key}.by")
        return cls(**{name: _CHECKS[name](value, f"{key}.{name}") for name, value in config.items()})

    def in_turn(self, *, key: str) -> Self:
        """The same, for a round in which one site works after the other.

        Raises:
            ConfigError: It has what makes sense only where all work at once.
        """
        for name, value in (("spare", self.spare), ("min_size", self.min_size), ("by", self.by)):
            if value:
                raise ConfigError("is not for a model that goes from site to site", key=f"{key}.{name}")
        return self

    @property
    def asks_all(self) -> bool:
        """Whether every live site is asked."""
        return self == Sampling()

    @property
    def looks_back(self) -> bool:
        """Whether the draw depends on the rounds before it."""
        return self.min_size is not None or self.by is not None

    @property
    def num_enough(self) -> int | None:
        """With how many counted results a round is over at once; None: it waits for whom it has asked."""
        return self.count if self.spare else None

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

    def awaited(self, wanted: int, targets: Sequence[str] | None) -> int:
        """How many answers end the wait for the others.

        With spare sites all of them, since the round is over when enough *count*: a failure must not stand for one.
        """
        return len(targets) if self.spare and targets is not None else self.at_most(wanted, targets)

    def at_most(self, wanted: int, targets: Sequence[str] | None) -> int:
        """How many sites are enough: as many as are wanted, or all that were drawn where that is fewer."""
        if self.asks_all or targets is None:
            return wanted
        return min(wanted, len(targets), *(() if self.num_enough is None else (self.num_enough,)))

    def draw(self, eligible: list[str], *, seed: str, turnout: Turnout | None = None) -> list[str]:
        """The sites that are asked, by code point.

        The same for the same sites, seed and turnout, also in another version of Python, which promises that of
        `random()` alone: Fisher and Yates' shuffle as far as it is needed; by size, the sequential sampling of
        Efraimidis and Spirakis 2006 (Information Processing Letters 97).

        Args:
            eligible: Who may be asked, by code point.
            seed: Any text.
            turnout: What the rounds before have shown; None: nothing.
        """
        known = turnout or Turnout()
        if self.min_size is not None:
            eligible = [name for name in eligible if known.sizes.get(name, math.inf) >= self.min_size]
        num_eligible = len(eligible)
        num_drawn = self._size(num_eligible)
        if num_drawn >= num_eligible:
            return list(eligible)
        if self.by is not None:
            return sorted(_ranked(eligible, self.by, known=known, draw=random.Random(seed).random)[:num_drawn])
        pool, draw = list(eligible), random.Random(seed).random
        for place in range(num_drawn):
            chosen = place + int(draw() * (num_eligible - place))
            pool[place], pool[chosen] = pool[chosen], pool[place]
        return sorted(pool[:num_drawn])

    def _size(self, num_eligible: int) -> int:
        if self.count is not None:
            return self.count + self.spare
        return num_eligible if self.fraction is None else max(1, int(self.fraction * num_eligible + 0.5))


def _ranked(names: Sequence[str], by: str, *, known: Turnout, draw: Callable[[], float]) -> list[str]:
    """The sites in the order in which they are asked; one whose size is not known is taken for one of mean size."""
    chances = {name: draw() for name in names}
    if by == "turn":
        return sorted(names, key=lambda name: (known.asked.get(name, -1), chances[name]))
    said = [known.sizes[name] for name in names if name in known.sizes]
    mean = math.fsum(said) / len(said) if said else 1.0

    def waits(name: str) -> float:
        size = known.sizes.get(name, mean)
        return -math.log1p(-chances[name]) / size if size > 0 else math.inf

    return sorted(names, key=waits)


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


def _spare(value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"must be a whole number of at least 0, not {value!r}", key=key)
    return value


def _min_size(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"must be a number above 0, not {value!r}", key=key)
    return float(value)


def _by(value: object, key: str) -> str:
    if value not in BY:
        raise ConfigError(f"must be {' or '.join(map(repr, BY))}, not {value!r}", key=key)
    return str(value)


_CHECKS: dict[str, Callable[[object, str], Any]] = {  # Any: each gives the type of its attribute
    "names": _names,
    "tag": _tag,
    "fraction": _fraction,
    "count": _count,
    "spare": _spare,
    "min_size": _min_size,
    "by": _by,
}
