"""Variables in a config: `{name}` in any text, at any depth.

Every top-level number, text or boolean of a config file is a variable. A text that is exactly `{name}` becomes the
variable's value with its type; in any other text the value is written in, as `str.format` does. Literal braces are
doubled. A variable's own text may use the variables above it. `num_sites` is always there: the number of sites of
the run, unless the config sets it itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from hansa.jobs.place import Place, suggestion

Primitive = int | float | bool | str

IGNORED_KEYS = frozenset({"handlers"})
"""Old samples hold these lists; nothing reads them, so nothing in them is filled in."""

_CONVERSIONS: dict[str, Callable[[object], str]] = {"r": repr, "s": str, "a": ascii}


def fill(config: Mapping[str, Any], provided: Mapping[str, Primitive], place: Place) -> dict[str, Any]:
    """The config with every variable replaced; all containers in it are new.

    Args:
        config: A config as it stands in the file.
        provided: Variables from the runtime; the config's own come first.
        place: The file, for errors.

    Raises:
        ConfigError: A text names an unknown variable or has a lone brace.
    """
    known: dict[str, Primitive] = dict(provided)
    for name, value in config.items():
        if isinstance(value, Primitive):
            known[name] = _filled(value, known, place.at(name))
    return {
        key: value if key in IGNORED_KEYS else _filled(value, known, place.at(key)) for key, value in config.items()
    }


def escape(text: str) -> str:
    """The text with its braces doubled, so that `fill` gives it back as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _filled(value: Any, known: Mapping[str, Primitive], place: Place) -> Any:  # Any: JSON in, JSON out
    if isinstance(value, str):
        return _filled_text(value, known, place)
    if isinstance(value, Mapping):
        return {key: _filled(item, known, place.at(str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, known, place.at(position)) for position, item in enumerate(value)]
    return value


def _filled_text(text: str, known: Mapping[str, Primitive], place: Place) -> Primitive:
    if "{" not in text and "}" not in text:
        return text
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        raise place.error(f"a brace without its partner in {text!r}; a literal brace is written twice") from None
    if len(parts) == 1 and parts[0][0] == "" and not parts[0][2] and not parts[0][3]:
        return _value(parts[0][1], known, place)
    return "".join(_part(part, known, place) for part in parts)


def _part(part: tuple[str, str | None, str | None, str | None], known: Mapping[str, Primitive], place: Place) -> str:
    literal, name, spec, conversion = part
    if name is None:
        return literal
    value = _value(name, known, place)
    if re.search(r"\d{4}", spec or ""):  # a width that would fill the memory
        raise place.error(f"cannot write variable {name!r} as {spec!r}: at most 999 characters")
    try:
        return literal + format(_CONVERSIONS[conversion](value) if conversion else value, spec or "")
    except (ValueError, KeyError):
        raise place.error(f"cannot write variable {name!r} as {spec or conversion!r}") from None


def _value(name: str | None, known: Mapping[str, Primitive], place: Place) -> Primitive:
    if name is not None and name in known:
        return known[name]
    hint = suggestion(name or "", known)
    raise place.error(f"unknown variable {{{name}}}{hint or '; a literal brace is written twice'}")
