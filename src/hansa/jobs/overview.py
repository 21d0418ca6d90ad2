"""What runs where: a job's parts as one flat list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hansa.errors import ConfigError
from hansa.jobs.build import Config, written_args
from hansa.jobs.classes import written_path
from hansa.jobs.config import Side
from hansa.jobs.job import ALL, SERVER, App, Job, sides_of
from hansa.jobs.place import Place


@dataclass(frozen=True)
class Part:
    """One component of a job.

    Attributes:
        where: Who runs it: `server`, the names of sites, `every site` or `every other site`.
        app: The app that it is in.
        role: `workflow`, `executor`, `component`, `data filter` or `result filter`.
        name: Its id, or the tasks that it is for.
        path: The class, FLARE's names translated; as it is written where nothing is called so.
        place: Where it stands.
        config: What stands there.
    """

    where: str
    app: str
    role: str
    name: str
    path: str
    place: Place = field(repr=False)
    config: Config = field(repr=False)

    @property
    def args(self) -> Config:
        """The arguments of its constructor."""
        return written_args(self.config, self.place)[0]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = asdict(self)
        del plain["place"], plain["config"]
        return {**plain, "args": dict(self.args)}


def parts_of(job: Job, *, num_sites: int = 1) -> list[Part]:
    """Every part of a job that is not disabled: first the server's, then those of each app's sites.

    Args:
        job: The job.
        num_sites: The variable of that name.

    Raises:
        ConfigError: A config has a mistake.
    """
    return [part for side in Side for name in job.deploy_map for part in _side(job, name, side, num_sites)]


def _side(job: Job, name: str, side: Side, num_sites: int) -> Iterator[Part]:
    if side not in sides_of(name, job.deploy_map):
        return
    app = job.apps[name]
    where = SERVER if side is Side.SERVER else _sites(job, name)
    for role, label, config, place in _components(app, side, num_sites):
        try:
            path = written_path(config, place)
        except ConfigError:
            path = str(config.get("path") or config.get("name"))
        yield Part(where, name, role, label, path, place, config)


def _sites(job: Job, app: str) -> str:
    targets = [target for target in job.deploy_map[app] if target != SERVER]
    named = {target for targets in job.deploy_map.values() for target in targets} - {ALL, SERVER}
    if ALL in targets:
        return "every other site" if named else "every site"
    return ", ".join(targets)


_Found = tuple[str, str, Config, Place]


def _components(app: App, side: Side, num_sites: int) -> Iterator[_Found]:
    config = app.config(side, num_sites=num_sites)
    place = Place(app.config_file(side))
    yield from _listed(config, "workflows", "workflow", place)
    for position, item in enumerate(config.get("executors", [])):
        if not item["executor"].get("disabled"):
            at = place.at("executors", position, "executor")
            yield "executor", ", ".join(item["tasks"]), item["executor"], at
    for section, role in (("task_data_filters", "data filter"), ("task_result_filters", "result filter")):
        for position, chain in enumerate(config.get(section, [])):
            at = place.at(section, position)
            for _, _, item, where in _listed(chain, "filters", role, at):
                yield role, ", ".join(chain["tasks"]), item, where
    yield from _listed(config, "components", "component", place)


def _listed(config: Mapping[str, Any], section: str, role: str, place: Place) -> Iterator[_Found]:
    for position, item in enumerate(config.get(section, [])):
        if not item.get("disabled"):
            yield role, item.get("id") or "", item, place.at(section, position)
