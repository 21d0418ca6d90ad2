"""How long simulated sites take, when they lose a task and when they are away: numbers for the virtual clock.

Nothing waits for these times. A site's real work is done at once; its result then arrives at the virtual time that
this module says, so that deadlines, graces and drop-outs are studied at full speed.

All randomness of a task comes from a hash of (seed, site, task id). So a task takes equally long whatever else happens
in the run, and two strategies can be compared on the same luck.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from typing import Any, NamedTuple, Self

from hansa.jobs.config import read_json
from hansa.jobs.place import Place, suggestion
from hansa.runtime.durations import MOST_SECONDS, Duration, Fixed, known_keys, number, parse_duration

_NOTHING = Fixed(0.0)
_AS_IT_IS = Fixed(1.0)
_WILD = re.compile(r"[*?\[]")
_MOST_BANDWIDTH = 1e18
_KEYS = ["seed", "default", "sites"]

Says = Mapping[str, Any]  # Any: the types of SiteProfile's fields
"""Some fields of a `SiteProfile`, by name."""


class MessageSizes(NamedTuple):
    """What a task moves."""

    download_bytes: int
    """From the server to the site."""
    upload_bytes: int
    """From the site to the server."""


NO_BYTES = MessageSizes(0, 0)


class Flight(NamedTuple):
    """One task from the moment it is handed out."""

    download_s: float
    compute_s: float
    upload_s: float
    lost: bool
    """The site is busy as long, but its result never arrives."""

    @property
    def total_s(self) -> float:
        """From handing out to the arrival of the result."""
        return self.download_s + self.compute_s + self.upload_s


@dataclass(frozen=True)
class SiteProfile:
    """What is said about one site; nothing said means no time and no loss.

    Attributes:
        compute_s: The executor's time.
        compute_factor: Drawn once per site and multiplied with every `compute_s`: slow and fast sites.
        download_s: Time of a message to the site beside its bytes.
        upload_s: Time of a message from the site beside its bytes.
        download_bytes_per_s: Bandwidth to the site; without bound if not said.
        upload_bytes_per_s: Bandwidth from the site; without bound if not said.
        drop_out: How probably a task is lost, in [0, 1].
        absent: When the site is away: (from, to) in seconds since the start of the run, in order, apart.
    """

    compute_s: Duration = _NOTHING
    compute_factor: Duration = _AS_IT_IS
    download_s: Duration = _NOTHING
    upload_s: Duration = _NOTHING
    download_bytes_per_s: float = math.inf
    upload_bytes_per_s: float = math.inf
    drop_out: float = 0.0
    absent: tuple[tuple[float, float], ...] = ()


class SiteTimes:
    """The simulated times of all sites of a run; see the page "Stragglers" for the config.

    Usually made by `from_config` or `load`.

    Args:
        rules: What is said about names and patterns. Key by key, a site's own name goes before the patterns that it
            matches, these in their order, and all of them before the default.
        default: What is said about every site.
        seed: Where the randomness comes from; None: see `seeded`.
        config: The JSON that this was made from, for the run's record.
        file: Where that stands, for errors.
    """

    def __init__(
        self,
        rules: Mapping[str, Says],
        default: Says,
        *,
        seed: int | None = None,
        config: Mapping[str, Any] | None = None,  # Any: JSON
        file: str | None = None,
    ) -> None:
        self.seed = seed or 0
        self._has_seed = seed is not None
        self.config = config or {}
        self._file = file
        self._default = default
        self._exact = {name: says for name, says in rules.items() if not _WILD.search(name)}
        self._patterns = [
            (name, re.compile(translate(name)), says) for name, says in rules.items() if _WILD.search(name)
        ]
        self._profiles: dict[str, SiteProfile] = {}
        self._shared: dict[tuple[str, ...], SiteProfile] = {}

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],  # Any: JSON
        *,
        seed: int | None = None,
        file: str | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Read a config strictly.

        Args:
            config: `{"seed": ..., "default": {...}, "sites": {name or pattern: {...}}}`; all may be missing.
            seed: Used where the config has none; None: see `seeded`.
            file: The file that the config stands in, for errors.
            folder: What names of CSV files are relative to; the working directory if None.

        Raises:
            ConfigError: An unknown key, or a value that is of the wrong kind or out of range; it names the key.
        """
        place = Place(file)
        known_keys(config, place, _KEYS)
        if "seed" in config:
            seed = _seed(config["seed"], place.at("seed"))
        reader = _Reader(folder or Path())
        sites = config.get("sites", {})
        if not isinstance(sites, Mapping):
            raise place.at("sites").error(f"must be an object from names or patterns to times, not {sites!r}")
        rules = {str(name): reader.says(value, place.at("sites", str(name))) for name, value in sites.items()}
        default = reader.says(config.get("default", {}), place.at("default"))
        return cls(rules, default, seed=seed, config=dict(config), file=file)

    @classmethod
    def load(cls, path: Path, *, seed: int | None = None) -> Self:
        """Read a JSON file; names of CSV files in it are relative to it.

        Raises:
            ConfigError: There is no such file, it is no JSON, or see `from_config`.
        """
        return cls.from_config(read_json(path), seed=seed, file=str(path), folder=path.parent)

    def seeded(self, seed: int) -> Self:
        """The same with this seed (the run's), or as it is where it has one of its own."""
        if self._has_seed:
            return self
        copied = copy(self)
        copied.seed, copied._has_seed = seed, True
        return copied

    def check_sites(self, names: Iterable[str]) -> None:
        """Hold the config against the sites of a run, before it starts.

        Raises:
            ConfigError: A name or pattern means no site, or a trace has no row for one.
        """
        known = dict.fromkeys(names)
        place = Place(self._file, "sites")
        for name in self._exact:
            if name not in known:
                raise place.at(name).error(f"the run has no such site{suggestion(name, known)}")
        for name, pattern, _ in self._patterns:
            if not any(map(pattern.match, known)):
                raise place.at(name).error("matches none of the run's sites")
        for name in known:
            self.flight(name, "")

    def profile(self, site: str) -> SiteProfile:
        """What holds for a site; sites for which the same is said share one."""
        found = self._profiles.get(site)
        if found is None:
            matching = [(name, says) for name, pattern, says in self._patterns if pattern.match(site)]
            if site in self._exact:
                matching.insert(0, (site, self._exact[site]))
            kind = tuple(name for name, _ in matching)
            found = self._shared.get(kind)
            if found is None:
                merged = dict(self._default)
                for _, says in reversed(matching):  # the first has the last word
                    merged.update(says)
                found = self._shared[kind] = SiteProfile(**merged)
            self._profiles[site] = found
        return found

    def flight(self, site: str, task_id: str, *, sizes: MessageSizes = NO_BYTES, at_s: float | None = None) -> Flight:
        """How a task goes at a site.

        Args:
            site: The site's name.
            task_id: The id of the site's part of the task (`ClientTask.id`).
            sizes: What is moved.
            at_s: When it is handed out, in seconds since the start of the run: a site that is away then, or goes
                before it is done, loses it. None: nobody looks at that.
        """
        profile = self.profile(site)
        draws = _draws(self.seed, site, task_id)
        turn = _turn(task_id)
        factor = 1.0
        if profile.compute_factor is not _AS_IT_IS:
            factor = profile.compute_factor.seconds(site, turn=0, u=_draws(self.seed, site, "compute_factor")[0])
        down = profile.download_s.seconds(site, turn=turn, u=draws[0])
        compute = profile.compute_s.seconds(site, turn=turn, u=draws[1]) * factor
        up = profile.upload_s.seconds(site, turn=turn, u=draws[2])
        down += sizes.download_bytes / profile.download_bytes_per_s
        up += sizes.upload_bytes / profile.upload_bytes_per_s
        lost = draws[3] < profile.drop_out
        if at_s is not None and profile.absent:
            lost = lost or _is_cut(profile.absent, at_s, at_s + down + compute + up)
        return Flight(down, compute, up, lost)

    def present_from(self, site: str, at_s: float) -> float:
        """When the site is there: `at_s` itself, or the end of its absence, `math.inf` if it never comes back."""
        for start, end in self.profile(site).absent:
            if start <= at_s < end:
                return end
        return at_s


def _is_cut(windows: Iterable[tuple[float, float]], begin: float, end: float) -> bool:
    """Whether the site is away at the begin, or leaves before the end; at the end itself the result has arrived."""
    return any(away <= begin < back or begin < away < end for away, back in windows)


def _draws(seed: int, site: str, task_id: str) -> tuple[float, ...]:
    """Four numbers from (0, 1), evenly distributed: 53 bits each, and never 0 or 1 itself."""
    key = f"{seed}\0{site}\0{task_id}".encode()
    words = struct.unpack("<4Q", hashlib.blake2b(key, digest_size=32, person=b"hansa-times").digest())
    return tuple(((word >> 12) + 0.5) / 2**52 for word in words)


def _turn(task_id: str) -> int:
    """Which task of its name this is for the site, from 0: of the n-th posting, the m-th visit.

    The id is workflow index, task name, posting, site and visit, joined by `/`; any other counts as the first.
    """
    parts = task_id.rsplit("/", 3)
    if len(parts) < 4 or not (parts[1].isdecimal() and parts[3].isdecimal()):
        return 0
    return max(0, int(parts[1]) + int(parts[3]) - 2)


class _Reader:
    """Reads what is said about sites.

    Args:
        folder: What names of files are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = {
            "compute_s": self._duration,
            "compute_factor": self._factor,
            "download_s": self._duration,
            "upload_s": self._duration,
            "download_bytes_per_s": _bandwidth,
            "upload_bytes_per_s": _bandwidth,
            "drop_out": _probability,
            "absent": _windows,
        }

    def says(self, value: Any, place: Place) -> Says:  # Any: JSON
        given = known_keys(value, place, list(self._read))
        return {key: self._read[key](inner, place.at(key)) for key, inner in given.items()}

    def _duration(self, value: Any, place: Place) -> Duration:  # Any: JSON
        return parse_duration(value, place, folder=self._folder)

    def _factor(self, value: Any, place: Place) -> Duration:  # Any: JSON
        if isinstance(value, Mapping) and "trace" in value:
            raise place.at("trace").error("a site has one factor for the whole run; give a number or a distribution")
        return self._duration(value, place)


def _seed(value: Any, place: Place) -> int:  # Any: JSON
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise place.error(f"must be an integer >= 0, not {value!r}")
    return value


def _bandwidth(value: Any, place: Place) -> float:  # Any: JSON
    return number(value, place, least=1.0, most=_MOST_BANDWIDTH)


def _probability(value: Any, place: Place) -> float:  # Any: JSON
    return number(value, place, most=1.0)


def _windows(value: Any, place: Place) -> tuple[tuple[float, float], ...]:  # Any: JSON
    if not isinstance(value, list):
        raise place.error(f"must be a list of [from, to], not {value!r}")
    merged: list[tuple[float, float]] = []
    for start, end in sorted(_window(window, place.at(i)) for i, window in enumerate(value)):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)


def _window(value: Any, place: Place) -> tuple[float, float]:  # Any: JSON
    if not isinstance(value, list) or len(value) != 2:
        raise place.error(f"must be [from, to] in seconds since the start of the run, not {value!r}")
    start = number(value[0], place.at(0), most=MOST_SECONDS)
    end = math.inf if value[1] is None else number(value[1], place.at(1), most=MOST_SECONDS)
    if end <= start:
        raise place.error(f"ends ({end:g}) before it begins ({start:g}); a site that stays away has null as its end")
    return start, end
