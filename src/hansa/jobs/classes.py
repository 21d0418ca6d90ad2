"""From what a config says (`path` or `name`) to a class, and whether arguments fit its constructor."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any

from hansa.apis import flare_names
from hansa.errors import ConfigError
from hansa.jobs import plugins
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.place import Place, suggestion
from hansa.jobs.user_code import user_code

Factory = Callable[..., object]
"""What a path leads to: a class, or a function that makes an object."""


class UnknownClass(ConfigError):
    """A path or a name leads to no class."""


class ClassFinder:
    """Finds the classes that a job names; remembers them, since every site asks for the same ones.

    Args:
        policy: The classes that may be named.
        known: Classes that go by a path but cannot be imported: from a notebook, a function or `__main__`.
        custom: The top-level modules of the job's own code.
    """

    def __init__(
        self, policy: ClassPolicy, *, known: Mapping[str, type] | None = None, custom: Collection[str] = ()
    ) -> None:
        self._policy = policy
        self._found: dict[str, Factory] = dict(known or {})
        self._custom = custom

    def find(self, config: Mapping[str, Any], place: Place) -> Factory:
        """The class that a component's config names.

        Raises:
            UnknownClass: There is no such class.
            ConfigError: It is refused, or the module cannot be imported.
        """
        if "path" in config:
            return self._by_path(config["path"], place.at("path"))
        if "name" in config:
            return self._by_name(config["name"], place.at("name"))
        raise place.error("a component needs a 'path' or a 'name'")

    def _by_name(self, name: str, place: Place) -> Factory:
        if name not in self._found:  # paths have dots and names have none, so that one dict serves both
            self._found[name] = self._by_path(_path_of(name, place), place)
        return self._found[name]

    def _by_path(self, path: str, place: Place) -> Factory:
        if path not in self._found:
            self._found[path] = self._import(_translated(path, place), place)
        return self._found[path]

    def _import(self, path: str, place: Place) -> Factory:
        module_name, _, name = path.rpartition(".")
        if not module_name or not all(part.isidentifier() for part in path.split(".")):
            raise _unknown(place, f"{path!r} is not a path like 'module.Class'")
        self._policy.check_module(module_name, self._custom, path=path, place=place)
        module = self._module(module_name, place)
        missing = object()
        found = getattr(module, name, missing)
        if found is missing:
            raise _unknown(place, f"module {module_name} has no {name!r}{suggestion(name, vars(module))}")
        if not callable(found):
            raise _unknown(place, f"{path} is no class, but of type {type(found).__name__}")
        self._policy.check_found(found, self._custom, path=path, place=place)
        return found

    def _module(self, name: str, place: Place) -> ModuleType:
        with user_code(f"cannot import {name}", place):
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                # Only the module asked for, or a package it is in, is unknown; a module that it imports is its defect.
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise
        near = [*self._custom, *(known for known in sys.modules if known.startswith("hansa.components"))]
        raise _unknown(place, f"there is no module {name!r}{suggestion(name, near)}")


def written_path(config: Mapping[str, Any], place: Place) -> str:
    """The full path of the class that a component's config names, found without importing anything of the job's.

    Raises:
        UnknownClass: Nothing is called so.
        ConfigError: It is owed by a later release, or the name is ambiguous.
    """
    if "path" in config:
        return _translated(config["path"], place.at("path"))
    if "name" in config:
        return _path_of(config["name"], place.at("name"))
    raise place.error("a component needs a 'path' or a 'name'")


def check_arguments(made: Factory, args: Mapping[str, Any], place: Place) -> list[str]:
    """Hold arguments against a constructor's signature.

    Args:
        made: The class or function.
        args: The arguments of the config.
        place: Where the arguments stand, for errors.

    Returns:
        The names of required arguments that are not there.

    Raises:
        ConfigError: An argument that the constructor does not take.
    """
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # written in C without a signature: only the call can tell
        return []
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in args:
            if key not in named:
                raise place.at(key).error(f"{label(made)} takes no argument {key!r}{suggestion(key, named)}")
    return [name for name, p in named.items() if p.default is p.empty and name not in args]


def label(made: Factory) -> str:
    """The short name of a class or function."""
    return getattr(made, "__name__", repr(made))


def _path_of(name: str, place: Place) -> str:
    paths = flare_names.by_name(name)
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise place.error(f"{name} may be {' or '.join(paths)}; give one as 'path'")
    if issue := flare_names.owed(name):
        raise place.error(f"{name} is not in this release; it comes with {issue!r}")
    paths = plugins.paths_of(name)
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise place.error(f"{name} may be {' or '.join(paths)}; give one as 'path'")
    known = [known.name for known in flare_names.names() if known.is_class]
    near = suggestion(name, [*known, *plugins.short_names()])
    raise _unknown(place, f"no component is called {name!r}{near or '; give the full path of a class as path'}")


def _translated(path: str, place: Place) -> str:
    if path.partition(".")[0] != "nvflare":
        return path
    ours = flare_names.resolve(path)
    if ours is not None:
        return ours
    issue = flare_names.owed(path)
    if issue is not None:
        raise place.error(f"{path} is not in this release; it comes with {issue!r}")
    raise _unknown(place, f"{path} is no public name of FLARE 2.0")


def _unknown(place: Place, message: str) -> UnknownClass:
    plain = place.error(message)
    return UnknownClass(plain.message, file=plain.file, key=plain.key)
