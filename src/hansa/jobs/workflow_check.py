"""What a shipped workflow could only say once the run has begun, said before: too few sites, parts that are missing."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from hansa.jobs.build import written_args
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.classes import ClassFinder, written_path
from hansa.jobs.place import Place, suggestion

Config = Mapping[str, Any]  # Any: JSON

_SHIPPED = "hansa.components."


def check_workflows(config: Config, file: str | None, *, num_sites: int) -> None:
    """Hold the arguments of the shipped workflows against the run and the components beside them.

    Workflows of the job's own may mean something else by the same words, and are left alone.

    Args:
        config: A server's config, checked and without variables.
        file: The file that it comes from, for errors.
        num_sites: How many sites the run has.

    Raises:
        ConfigError: A workflow waits for more sites than there are, or an `..._id` names no component.
    """
    ids = [part["id"] for part in config.get("components", ()) if not part.get("disabled")]
    finder = ClassFinder(ClassPolicy.simulator())
    for position, workflow in enumerate(config["workflows"]):
        place = Place(file).at("workflows", position)
        if workflow.get("disabled") or not written_path(workflow, place).startswith(_SHIPPED):
            continue
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(finder.find(workflow, place)).parameters.items()
        }
        written, at = written_args(workflow, place)
        _check_sites(written, at, num_sites)
        _check_ids({**defaults, **written}, at, ids)


def _check_sites(args: Config, place: Place, num_sites: int) -> None:
    wanted, sampling = args.get("min_clients"), args.get("sampling")
    if isinstance(sampling, Mapping) and sampling.get("names") is not None:
        return  # of named sites never more are waited for than are named
    if isinstance(wanted, int) and wanted > num_sites:
        raise place.at("min_clients").error(f"the workflow needs {wanted} sites, the run has {num_sites}")


def _check_ids(args: Config, place: Place, ids: Collection[str]) -> None:
    for name, value in args.items():
        if name.endswith("_id") and isinstance(value, str) and value and value not in ids:
            raise place.at(name).error(f"there is no component {value!r}{suggestion(value, ids)}")
