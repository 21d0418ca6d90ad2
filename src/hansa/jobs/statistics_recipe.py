"""Federated statistics as a job, alone or before a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from hansa.apis.statistics_source import StatisticsSource
from hansa.errors import ConfigError
from hansa.jobs.component import Component, Variable, as_config
from hansa.jobs.config import FORMAT_VERSION
from hansa.jobs.job import App, Job
from hansa.jobs.place import Place, suggestion
from hansa.jobs.recipe_options import check_whole
from hansa.jobs.source_files import LocalClasses

_PARTS = "hansa.components"
_SOURCE = "statistics_source"
_SCALER = "scaler"
_MOST_BINS = 1000


class StatisticsOptions(TypedDict, total=False):
    """The options of `fed_statistics`."""

    name: str
    """What the job is called; `fed_statistics`, or the name of `then`."""
    min_count: int
    """The floor that is asked for; a site with a higher one keeps its own; 10."""
    bins: int
    """Bins of a histogram; 20."""
    quantiles: Sequence[float]
    """Levels from 0 to 1; 0.05, 0.25, 0.5, 0.75, 0.95."""
    ranges: Mapping[str, Sequence[float]]
    """Lowest and highest value of features whose range is known: `{"age": [0, 120]}`."""
    correlation: bool
    """Whether correlations are wanted; True."""
    wait_s: int
    """How many seconds a task waits for the other sites once `min_sites` have answered; 10."""


def fed_statistics(
    source: type[StatisticsSource] | Component | str,
    *,
    min_sites: int | None = None,
    then: Job | None = None,
    scale: bool = False,
    **options: Unpack[StatisticsOptions],
) -> Job:
    """Statistics of all sites' data together: counts, moments, histograms, quantiles, correlations, by label, too.

    What leaves a site is in `hansa.components.executors.statistics_executor`; the result in `run.statistics` and the
    run's `statistics.html`.

    Args:
        source: A `StatisticsSource`: its class, or a Component with its arguments; or the path of a CSV file at each
            site, `$SITE` in it for the site's name.
        min_sites: How many sites are enough; None for all of the run.
        then: A job of another recipe that follows in the same run, such as a training.
        scale: Whether sites get the means and standard deviations of the data set `train` (or the first), so that
            their component `scaler` (`StandardScaler`) is fitted when `then` begins.
        options: See `StatisticsOptions`.

    Returns:
        A job for `hansa.simulate`, or for `Job.save`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    _check(options, min_sites=min_sites, then=then, scale=scale)
    classes = LocalClasses()
    enough = Variable("num_sites") if min_sites is None else min_sites
    patience = {"min_clients": enough, "wait_time_after_min_received": options.get("wait_s", 10)}
    keys = ("min_count", "bins", "quantiles", "ranges", "correlation")
    wanted: dict[str, Any] = {key: options.get(key) for key in keys if key in options}
    workflows = [
        Component(
            f"{_PARTS}.workflows.federated_statistics.FederatedStatistics",
            id="federated_statistics",
            **patience,
            **wanted,
        )
    ]
    executors = {"statistics": Component(f"{_PARTS}.executors.statistics_executor.StatisticsExecutor")}
    parts = [_source(source)]
    if scale:
        workflows.append(
            Component(f"{_PARTS}.workflows.send_statistics.SendStatistics", id="send_statistics", **patience)
        )
        executors["preprocess"] = Component(f"{_PARTS}.executors.scaler_executor.ScalerExecutor")
        parts.append(Component(f"{_PARTS}.standard_scaler.StandardScaler", id=_SCALER))
    place = Place(key="source")
    server = {
        "format_version": FORMAT_VERSION,
        "components": [],
        "workflows": [{"id": each.id, **as_config(each, classes.path, place)} for each in workflows],
    }
    client = {
        "format_version": FORMAT_VERSION,
        "executors": [
            {"tasks": [task], "executor": as_config(each, classes.path, place)} for task, each in executors.items()
        ],
        "components": [{"id": each.id, **as_config(each, classes.path, place)} for each in parts],
    }
    name = options.get("name", "fed_statistics" if then is None else then.name)
    app = App(server=server, client=client, origin=name, checked=True)
    meta: Mapping[str, Any] = {}
    if then is not None:
        app, meta = _joined(app, _only_app(then)), then.meta
    job = Job(name, {"app": app}, min_sites=min_sites, meta=dict(meta), classes={**classes.found, **_classes(then)})
    job.check()
    return job


def _source(given: object) -> Component:
    if isinstance(given, str):
        return Component(f"{_PARTS}.csv_statistics_source.CsvStatisticsSource", id=_SOURCE, path=given)
    if isinstance(given, Component):
        if isinstance(given.target, type) and not issubclass(given.target, StatisticsSource):
            raise ConfigError(f"must be a StatisticsSource, and {given.label} is none", key="source")
        return Component(given.target, id=_SOURCE, **given.args)
    if isinstance(given, type) and issubclass(given, StatisticsSource):
        return Component(given, id=_SOURCE)
    raise ConfigError(
        f"give a StatisticsSource class, a Component or the path of a CSV file, not {given!r}", key="source"
    )


def _only_app(job: Job) -> App:
    apps = list(job.apps.values())
    if len(apps) != 1 or apps[0].server is None or apps[0].client is None:
        raise ConfigError("must be a job of one app for the server and all sites", key="then")
    return apps[0]


def _classes(then: Job | None) -> Mapping[str, type]:
    return {} if then is None else then.classes


def _joined(first: App, second: App) -> App:
    """Both apps in one: the first one's workflows, then the second's."""
    sides: list[dict[str, Any]] = []
    for one, other in ((first.server, second.server), (first.client, second.client)):
        mine: dict[str, Any] = dict(one or {})
        theirs: dict[str, Any] = dict(other or {})
        lists: dict[str, Any] = {
            key: [*mine.get(key, []), *theirs.get(key, [])]
            for key in ("components", "workflows", "executors")
            if key in mine or key in theirs
        }
        names = [part["id"] for part in lists.get("components", []) if "id" in part]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"has a component {twice!r}, too; call it something else", key="then")
        sides.append({**mine, **theirs, **lists})
    return replace(second, server=sides[0], client=sides[1], origin=first.origin)


def _check(options: StatisticsOptions, *, min_sites: object, then: object, scale: object) -> None:
    names = StatisticsOptions.__annotations__
    for key in options:
        if key not in names:
            raise ConfigError(f"fed_statistics takes no such argument{suggestion(key, names)}", key=key)
    if min_sites is not None:
        check_whole("min_sites", min_sites, least=1)
    if then is not None and not isinstance(then, Job):
        raise ConfigError(f"must be a job such as fed_avg gives, not {then!r}", key="then")
    if not isinstance(scale, bool):
        raise ConfigError(f"must be True or False, not {scale!r}", key="scale")
    for key, least in (("min_count", 1), ("bins", 1), ("wait_s", 0)):
        check_whole(key, options.get(key, 1), least=least)
    if options.get("bins", 1) > _MOST_BINS:
        raise ConfigError(f"must be at most {_MOST_BINS}, not {options['bins']}", key="bins")
    for level in options.get("quantiles", ()):
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 <= level <= 1:
            raise ConfigError(f"must be numbers from 0 to 1, not {level!r}", key="quantiles")
    for feature, ends in options.get("ranges", {}).items():
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not ends[0] < ends[1]:
            raise ConfigError(f"needs a lowest and a highest value, not {ends!r}", key=f"ranges.{feature}")
