"""How long something takes in a simulated federation: a number, a distribution or a trace.

Every duration is a pure function of one uniform number and of which turn it is, so that the same task takes equally
long whatever the order in which sites are asked and however many workers there are.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

from hansa.jobs.place import Place, suggestion

_inverse_normal = NormalDist().inv_cdf

MOST_SECONDS = 1e9
"""About 32 years; more is a mistake in the unit."""
MOST_SIGMA = 10.0
"""Of a lognormal: beyond it the longest draw is of another order of magnitude each time."""


class Duration(Protocol):
    """Seconds, >= 0 and finite."""

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        """The duration of one task.

        Args:
            site: Who takes this long.
            turn: Which task of its name this is, from 0.
            u: A number drawn evenly from (0, 1).
        """
        ...


@dataclass(frozen=True)
class Fixed:
    """Always the same."""

    value: float

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        return self.value


@dataclass(frozen=True)
class Lognormal:
    """median * exp(sigma * z) with z standard normal; the mean is median * exp(sigma² / 2)."""

    median: float
    sigma: float

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        return self.median * math.exp(self.sigma * _inverse_normal(u))


@dataclass(frozen=True)
class Uniform:
    """Evenly between low and high."""

    low: float
    high: float

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        return self.low + u * (self.high - self.low)


@dataclass(frozen=True)
class Exponential:
    """-mean * log(1 - u)."""

    mean: float

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        return -self.mean * math.log1p(-u)


@dataclass(frozen=True)
class Normal:
    """mean + sigma * z; what would be below 0 is 0."""

    mean: float
    sigma: float

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        return max(0.0, self.mean + self.sigma * _inverse_normal(u))


@dataclass(frozen=True)
class Trace:
    """One number per turn, from the start again after the last."""

    values: tuple[float, ...]

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        return self.values[turn % len(self.values)]


@dataclass(frozen=True)
class TraceBySite:
    """A trace for each site, read from one file."""

    values: Mapping[str, tuple[float, ...]]
    place: Place

    def seconds(self, site: str, *, turn: int, u: float) -> float:
        """See `Duration`.

        Raises:
            ConfigError: The file has no row of this site.
        """
        values = self.values.get(site)
        if values is None:
            raise self.place.error(f"no row for site {site!r}{suggestion(site, self.values)}")
        return values[turn % len(values)]


_DISTRIBUTIONS: dict[str, type[Lognormal | Uniform | Exponential | Normal]] = {
    "lognormal": Lognormal,
    "uniform": Uniform,
    "exponential": Exponential,
    "normal": Normal,
}
_KINDS = (*_DISTRIBUTIONS, "trace")


def parse_duration(value: Any, place: Place, *, folder: Path) -> Duration:  # Any: JSON
    """What a config says under a key that is a duration.

    Args:
        value: A number; `{"lognormal": {"median": 2, "sigma": 0.5}}` and the like; or `{"trace": ...}`, with a list of
            seconds or the name of a CSV file.
        place: Where it stands; the last part of its key is also the column of a CSV file.
        folder: What names of files are relative to.

    Raises:
        ConfigError: It is none of these, or a number in it is out of range.
    """
    if not isinstance(value, Mapping):
        return Fixed(number(value, place, most=MOST_SECONDS))
    kind = only_key(value, place, _KINDS)
    inner, at = value[kind], place.at(kind)
    if kind == "trace":
        return _trace(inner, at, column=place.key.rpartition(".")[2], folder=folder)
    return _distribution(kind, inner, at)


def _distribution(kind: str, value: Any, place: Place) -> Duration:  # Any: JSON
    made = _DISTRIBUTIONS[kind]
    names = [field.name for field in fields(made)]
    given = known_keys(value, place, names)
    missing = [name for name in names if name not in given]
    if missing:
        raise place.error(f"needs {missing[0]!r}")
    numbers = {
        name: number(
            given[name],
            place.at(name),
            most=MOST_SIGMA if (kind, name) == ("lognormal", "sigma") else MOST_SECONDS,
        )
        for name in names
    }
    if kind == "uniform" and numbers["low"] > numbers["high"]:
        raise place.error(f"low ({numbers['low']:g}) is above high ({numbers['high']:g})")
    return made(**numbers)


def _trace(value: Any, place: Place, *, column: str, folder: Path) -> Duration:  # Any: JSON
    if isinstance(value, str):
        return _read_csv(folder / value, column)
    if not isinstance(value, list):
        raise place.error(f"must be a list of seconds or the name of a CSV file, not {value!r}")
    if not value:
        raise place.error("must not be empty")
    return Trace(tuple(number(item, place.at(i), most=MOST_SECONDS) for i, item in enumerate(value)))


def _read_csv(path: Path, column: str) -> Duration:
    place = Place(str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or [])
            if column not in names:
                raise place.error(f"no column {column!r}; there are: {', '.join(names) or 'none'}")
            by_site: dict[str, list[float]] = {}
            for row in rows:
                site = (row.get("site") or "").strip()
                by_site.setdefault(site, []).append(_cell(row[column], place, (rows.line_num, column)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise place.error(f"cannot be read: {error}") from None
    if not by_site:
        raise place.error("has no rows")
    if "site" not in names:
        return Trace(tuple(by_site[""]))
    if "" in by_site:
        raise place.error("a row has an empty cell in column 'site'")
    return TraceBySite({site: tuple(values) for site, values in by_site.items()}, place)


def _cell(text: str | None, place: Place, where: tuple[int, str]) -> float:
    line, column = where
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_SECONDS:
        raise place.error(f"line {line}, column {column!r}: must be a number from 0 to {MOST_SECONDS:g}, not {text!r}")
    return value


# -- reading any JSON strictly ----------------------------------------------------------------------------------------


def number(value: Any, place: Place, *, least: float = 0.0, most: float) -> float:  # Any: JSON
    """A number in a range.

    Raises:
        ConfigError: It is none.
    """
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most  # NaN fits never
    if not fits:
        raise place.error(f"must be a number from {least:g} to {most:g}, not {value!r}")
    return float(value)


def known_keys(value: Any, place: Place, known: list[str]) -> Mapping[str, Any]:  # Any: JSON
    """An object that has none but these keys.

    Raises:
        ConfigError: It is no object, or has another key.
    """
    if not isinstance(value, Mapping):
        raise place.error(f"must be an object with {', '.join(known)}, not {value!r}")
    for key in value:
        if key not in known:
            raise place.error(f"unknown key {key!r}{suggestion(str(key), known) or '; known: ' + ', '.join(known)}")
    return value


def only_key(value: Mapping[str, Any], place: Place, known: tuple[str, ...]) -> str:  # Any: JSON
    """The one key of an object that says of which kind it is.

    Raises:
        ConfigError: No key, several, or an unknown one.
    """
    known_keys(value, place, list(known))
    if len(value) != 1:
        raise place.error(f"must have exactly one key, one of {', '.join(known)}")
    return next(iter(value))
