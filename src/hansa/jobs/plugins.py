"""Packages that add components: found by the entry point group `hansa.components`, admitted by their name.

A package says in its `pyproject.toml` which classes it offers, and by which short names jobs may call them::

    [project.entry-points."hansa.components"]
    TrimmedMean = "hansa_robust.trimmed_mean:TrimmedMean"

Nothing of a package is imported before a job names one of its classes, and where a federation's rules hold, the package
must be admitted, too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

GROUP = "hansa.components"


@dataclass(frozen=True)
class Plugin:
    """An installed package with components.

    Attributes:
        package: Its name, as it is installed by.
        version: Its version.
        classes: The full path of each class by its short name.
    """

    package: str
    version: str
    classes: Mapping[str, str]


def normal_name(package: str) -> str:
    """A package's name as all spellings of it are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


@cache
def installed() -> dict[str, Plugin]:
    """The plug-ins of this environment, by normal name; looked up once in a process."""
    found: dict[str, dict[str, str]] = {}
    about: dict[str, tuple[str, str]] = {}
    for point in entry_points(group=GROUP):
        if point.dist is None or not point.attr or "." in point.attr:
            continue  # a module, or what lies inside a class: nothing that a job could name
        name = normal_name(point.dist.name)
        about[name] = point.dist.name, point.dist.version
        found.setdefault(name, {})[point.name] = f"{point.module}.{point.attr}"
    return {name: Plugin(*about[name], classes) for name, classes in sorted(found.items())}


def paths_of(name: str) -> list[str]:
    """The classes that go by a short name."""
    return sorted({plugin.classes[name] for plugin in installed().values() if name in plugin.classes})


def short_names() -> list[str]:
    """All short names."""
    return sorted({name for plugin in installed().values() for name in plugin.classes})


def classes_of(packages: Collection[str]) -> frozenset[str]:
    """The full paths of the classes that these packages offer; a package that is not installed offers none."""
    if not packages:
        return frozenset()
    there = installed()
    names = [normal_name(package) for package in packages]
    return frozenset(path for name in names if name in there for path in there[name].classes.values())


def warn_of_missing(packages: Collection[str], logger: logging.Logger) -> None:
    """Say which of the packages are no plug-ins of this environment."""
    for package in packages:
        if normal_name(package) not in installed():
            logger.warning("the plug-in %s is admitted, and is not installed here", package)


def package_of(path: str) -> str | None:
    """The package that offers a class; None if it is no plug-in's."""
    return next((plugin.package for plugin in installed().values() if path in plugin.classes.values()), None)
