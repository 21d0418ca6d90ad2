"""Several runs side by side: which of them differ in their seed alone, and how good each lot has become."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from hansa.errors import ConfigError
from hansa.runtime.run import Run, RunStatus

_LOWER = ("loss", "error", "err", "mse", "mae", "rmse", "nll", "perplexity", "seconds", "time", "bytes")
"""Words in the names of metrics that are better the lower they are."""
_SHOWN = 3
"""How many sites a note names."""


class Grouping(Enum):
    """Which runs count as repetitions of one another."""

    CONFIG = "config"
    """Those of one job with the same configs and code (`job_digest`), sites and simulated times."""
    JOB = "job"
    """Those of jobs with the same name."""
    NONE = "none"
    """No two."""


@dataclass(frozen=True)
class Spread:
    """A number over several runs.

    Attributes:
        mean: Its mean.
        sd: Its standard deviation, with n - 1; None for a single run.
    """

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def text(self) -> str:
        """As people read it: `0.8733`, or `0.8733 ± 0.0041`."""
        size = abs(self.mean)
        form = ".4f" if size < 10 else ".2f" if size < 10_000 else ".4g"
        if 0 < size < 0.001:
            form = ".3g"
        return f"{self.mean:{form}}" if self.sd is None else f"{self.mean:{form}} ± {self.sd:{form}}"


@dataclass(frozen=True)
class Point:
    """A metric in one round, over the runs of a group."""

    round_number: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Runs that count as repetitions of one another.

    Attributes:
        label: What to call them.
        runs: The runs, at least one.
    """

    label: str
    runs: tuple[Run, ...]

    def with_metric(self, name: str) -> tuple[Run, ...]:
        """Those runs that have at least one finite value of the metric."""
        return tuple(run for run in self.runs if curve_of(run, name))

    def points(self, name: str) -> list[Point]:
        """The metric in each round that all runs with this metric have, in order."""
        curves = [dict(curve_of(run, name)) for run in self.with_metric(name)]
        if not curves:
            return []
        rounds = sorted(set.intersection(*(set(curve) for curve in curves)))
        return [_point(number, [curve[number] for curve in curves]) for number in rounds]

    def best(self, name: str, *, lower: bool) -> Spread | None:
        """The best value of each run; None where none has the metric."""
        bests = [best_of(run, name, lower=lower)[1] for run in self.with_metric(name)]
        return Spread.of(bests) if bests else None

    def last(self, name: str) -> Spread | None:
        """The last value of each run; None where none has the metric."""
        lasts = [curve_of(run, name)[-1][1] for run in self.with_metric(name)]
        return Spread.of(lasts) if lasts else None

    def best_rounds(self, name: str, *, lower: bool) -> list[int]:
        """The round of each run's best value, sorted."""
        return sorted(best_of(run, name, lower=lower)[0] for run in self.with_metric(name))

    @property
    def seeds(self) -> list[object]:
        """The seed of each run, sorted where they can be."""
        seeds = [run.config.get("seed") for run in self.runs]
        return sorted(seeds, key=lambda seed: (not isinstance(seed, int), str(seed).zfill(20)))


def _point(number: int, values: list[float]) -> Point:
    return Point(number, statistics.fmean(values), min(values), max(values))


def curve_of(run: Run, name: str) -> list[tuple[int, float]]:
    """The global model's metric per round, without what is no finite number; a round of two workflows counts once."""
    return sorted({number: value for number, value in run.history.series(name) if math.isfinite(value)}.items())


def best_of(run: Run, name: str, *, lower: bool) -> tuple[int, float]:
    """The first round with the best value, and that; the run must have the metric."""
    choose = min if lower else max
    return choose(curve_of(run, name), key=lambda point: point[1])


def is_lower_better(name: str) -> bool:
    """A guess by the metric's name: a loss, an error or a time."""
    words = name.lower().replace("/", "_").replace("-", "_").split("_")
    return any(word in _LOWER or word.endswith("loss") for word in words)


def group_runs(runs: Sequence[Run], *, grouping: Grouping = Grouping.CONFIG, labels: Sequence[str] = ()) -> list[Group]:
    """Sort runs into groups, in the order in which they are given.

    Args:
        runs: The runs; one that is given twice counts once.
        grouping: Which count as repetitions of one another.
        labels: One per run (runs with the same label are a group, whatever `grouping` says), or one per group.

    Raises:
        ConfigError: There are as many labels as there are neither runs nor groups.
    """
    if labels and len(labels) == len(runs):
        chosen = dict(zip((str(run.folder) for run in runs), labels, strict=True))
        lots = _lots(runs, lambda run: chosen[str(run.folder)])
        return [Group(chosen[str(lot[0].folder)], lot) for lot in lots]
    lots = _lots(runs, _KEYS[grouping])
    if labels and len(labels) != len(lots):
        wanted = f"one per run ({len(runs)})" + (f" or per group ({len(lots)})" if len(lots) != len(runs) else "")
        raise ConfigError(f"give {wanted}, not {len(labels)}", key="label")
    if labels:
        return [Group(label, lot) for label, lot in zip(labels, lots, strict=True)]
    jobs = [_job(lot[0]) for lot in lots]
    return [Group(job if jobs.count(job) == 1 else _own_label(lot), lot) for job, lot in zip(jobs, lots, strict=True)]


def _own_label(lot: tuple[Run, ...]) -> str:
    return lot[0].id if len(lot) == 1 else f"{lot[0].id} +{len(lot) - 1}"


def _lots(runs: Sequence[Run], key: Callable[[Run], str]) -> list[tuple[Run, ...]]:
    lots: dict[str, dict[str, Run]] = {}
    for run in runs:
        lots.setdefault(key(run), {}).setdefault(str(run.folder), run)
    return [tuple(lot.values()) for lot in lots.values()]


def _job(run: Run) -> str:
    return str(run.config.get("job") or run.id)


def _config(run: Run) -> str:
    config = run.config
    if "job_digest" not in config:  # a record of an older version: it cannot be told whether jobs are the same
        return str(run.folder)
    facts = [config.get(key) for key in ("job", "job_digest", "sites", "times")]
    return json.dumps(facts, sort_keys=True, default=str)


_KEYS: dict[Grouping, Callable[[Run], str]] = {
    Grouping.CONFIG: _config,
    Grouping.JOB: _job,
    Grouping.NONE: lambda run: str(run.folder),
}


def metric_names(runs: Sequence[Run]) -> list[str]:
    """Every metric of these runs, sorted."""
    return sorted({name for run in runs for name in run.history.metric_names()})


def main_metric(runs: Sequence[Run]) -> str:
    """The metric that says most: one that most runs have, rather an accuracy than how the model did before training.

    Raises:
        ConfigError: There is none.
    """
    names = metric_names(runs)
    if not names:
        raise ConfigError("no metric was reported in " + ("these runs" if len(runs) > 1 else "this run"), key="metric")

    def rank(name: str) -> tuple[int, bool, bool, str]:
        missing = sum(name not in run.history.metric_names() for run in runs)
        return missing, "acc" not in name.lower(), name != "initial_metrics", name

    return min(names, key=rank)


def check_metric(runs: Sequence[Run], name: str) -> None:
    """Refuse a metric that no run has.

    Raises:
        ConfigError: It names those that there are.
    """
    names = metric_names(runs)
    if name not in names:
        raise ConfigError(f"no metric {name!r}; there are: {', '.join(names) or 'none'}", key="metric")


def notes_on(groups: Sequence[Group], name: str) -> list[str]:
    """What a reader of the numbers should know: runs that did not complete, lack the metric, or have gaps in it."""
    notes = []
    for group in groups:
        notes += [f"{run.id}: {run.status.value}" for run in group.runs if run.status is not RunStatus.COMPLETED]
        missing = [run.id for run in group.runs if run not in group.with_metric(name)]
        if missing:
            notes.append(f"{', '.join(missing)}: no value of {name}")
        lengths = {curve_of(run, name)[-1][0] for run in group.with_metric(name)}
        if len(lengths) > 1:
            notes.append(
                f"{group.label}: the runs end in rounds {min(lengths)} to {max(lengths)}; "
                "the curve is over the rounds that all have"
            )
        notes += [note for run in group.with_metric(name) for note in _gaps(run, name)]
    return notes


def _gaps(run: Run, name: str) -> list[str]:
    """Sites whose value of a metric is no finite number, or missing where their result counted."""
    odd: dict[str, int] = {}
    missing: dict[str, int] = {}
    for record in run.history.rounds:
        values = {site: metrics[name] for site, metrics in record.metrics.items() if name in metrics}
        if not values or "server" in values:
            continue
        for site in sorted({*values, *record.counted}):
            if site not in values:
                missing[site] = missing.get(site, 0) + 1
            elif not math.isfinite(values[site]):
                odd[site] = odd.get(site, 0) + 1
    told = []
    for what, sites in (("NaN or infinite", odd), ("not reported", missing)):
        shown = [f"{site} ({count} {'round' if count == 1 else 'rounds'})" for site, count in sites.items()]
        more = f" and {len(shown) - _SHOWN} more sites" if len(shown) > _SHOWN else ""
        if shown:
            told.append(f"{what} at {', '.join(shown[:_SHOWN])}{more}")
    return [f"{run.id}: {name} is {', and '.join(told)}; means are over the others"] if told else []
