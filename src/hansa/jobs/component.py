"""How a Python program names a part of a job: a class, or the path of one, with its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hansa.errors import ConfigError
from hansa.jobs.place import Place
from hansa.jobs.variables import escape

KEYS = ("id", "path", "name", "args", "disabled")
"""The keys of a component in a config file."""


@dataclass(frozen=True)
class Variable:
    """A value that is only known when the job runs.

    Args:
        name: `num_sites`, or a top-level number, text or boolean of the config.
    """

    name: str


@dataclass(frozen=True, init=False)
class Component:
    """A part of a job and the arguments of its constructor.

    Args:
        target: The class, or its path as `module.Class`.
        id: The name by which other parts find it.
        args: Constructor arguments: numbers, texts, booleans, None, lists and dicts of these, a `Variable`, or (as the
            argument itself) another Component. They are values: braces in a text stand for themselves.

    Example::

        Component(MyTrainer, lr=0.1)
        Component("hansa.components.filters.exclude_vars.ExcludeVars", exclude_vars=["head.bias"])
    """

    target: type | str
    id: str | None
    args: Mapping[str, Any]  # Any: whatever the class takes; `as_config` holds it to what a file can carry

    def __init__(self, target: type | str, /, *, id: str | None = None, **args: Any) -> None:
        place = Place(key="Component")
        if not isinstance(target, type | str):
            raise place.error(f"give the class, not an instance of {type(target).__name__}: Component(Class, arg=...)")
        if isinstance(target, str) and "." not in target:
            raise place.error(f"{target!r} is not a path like 'module.Class'")
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "args", args)

    @property
    def label(self) -> str:
        """The name of the class, for messages and default ids."""
        return self.target.__name__ if isinstance(self.target, type) else self.target.rpartition(".")[2]


def as_config(part: Component, name_class: Callable[[type], str], place: Place) -> dict[str, Any]:
    """The component as a config file holds it.

    Args:
        part: The component.
        name_class: Gives the path under which a class is found again.
        place: The argument it was given in, for errors.

    Raises:
        ConfigError: An argument that a file cannot carry.
    """
    config: dict[str, Any] = {} if part.id is None else {"id": part.id}
    config["path"] = part.target if isinstance(part.target, str) else name_class(part.target)
    if part.args:
        config["args"] = {
            key: as_config(value, name_class, place.at(key))
            if isinstance(value, Component)
            else _plain(value, place.at(key))
            for key, value in part.args.items()
        }
    return config


def _plain(value: Any, place: Place) -> Any:  # Any: user values in, JSON out
    match value:
        case Variable(name=name):
            return f"{{{name}}}"
        case None | bool() | int():
            return value
        case str():
            return escape(value)
        case float():
            if not math.isfinite(value):
                raise place.error(f"{value} is no number that a config file can hold")
            return float(value)
        case Mapping():
            return {_text_key(key, place): _plain(item, place.at(str(key))) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item, place.at(position)) for position, item in enumerate(value)]
        case _:
            raise _unusable(value, place)


def _text_key(key: object, place: Place) -> str:
    if not isinstance(key, str):
        raise place.error(f"the keys of a dict must be texts, not {type(key).__name__}")
    return key


def _unusable(value: object, place: Place) -> ConfigError:
    if isinstance(value, Component):
        return place.error("a Component can be an argument, but not part of a list or a dict")
    kind = type(value).__name__
    return place.error(f"a job cannot carry a {kind} as an argument; use numbers, texts, booleans, lists and dicts")
