"""Reading and checking `config_fed_server.json`, `config_fed_client.json` and `meta.json`.

pydantic holds each file to its shape (keys and types); what shape cannot say (ids and tasks once each, at least one
workflow and executor) is checked by hand after it. pydantic costs a tenth of a second to import, so it is loaded
only where somebody else wrote the config, and what comes out is plain dicts: workers build from these without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.jobs.place import Place, suggestion
from hansa.jobs.variables import Primitive

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FORMAT_VERSION = 2


class Side(Enum):
    """Whose config a file is."""

    SERVER = "server"
    """`config_fed_server.json`: workflows and what they use."""
    CLIENT = "client"
    """`config_fed_client.json`: executors and what they use."""

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"config_fed_{self.value}.json"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ConfigError: No such file, not UTF-8, bad JSON (with line and column), a key twice in one object, no object.
    """
    place = Place(str(path))

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key in _repeated(key for key, _ in pairs):
            raise place.error(f"key {key!r} stands twice in one object")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except FileNotFoundError:
        raise place.error("there is no such file") from None
    except json.JSONDecodeError as error:
        raise place.error(f"bad JSON in line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, OSError, RecursionError) as error:  # no UTF-8, or a number of thousands of digits
        raise place.error(f"cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise place.error(f"must be {_NAMES[dict]}, not {_kind(content)}")
    return content


def check_shape(config: Mapping[str, Any], side: Side, file: str | None) -> None:
    """Hold a config, its variables filled in, to the keys and types of its file.

    Raises:
        ConfigError: The first mistake: unknown or missing key, wrong type, wrong format_version, an empty list.
    """
    from hansa.jobs.shapes import ClientShape, ServerShape

    shape = ServerShape if side is Side.SERVER else ClientShape
    place = Place(file)
    for key, value in config.items():
        if key not in shape.model_fields and not isinstance(value, Primitive):
            near = suggestion(key, shape.model_fields)
            raise place.at(key).error(f"unknown key{near or ' (only numbers, texts and booleans may be added)'}")
    validate(shape, config, place)


def check_meta(meta: Mapping[str, Any], file: str | None) -> None:
    """Hold a `meta.json` to its keys and types.

    Raises:
        ConfigError: The first mistake.
    """
    from hansa.jobs.shapes import MetaShape

    validate(MetaShape, meta, Place(file))


def check_meaning(config: Mapping[str, Any], side: Side, file: str | None) -> None:
    """What the shape of a config cannot say.

    Raises:
        ConfigError: An id missing or there twice, a task in two executors or two chains of filters, no workflow, no
            executor.
    """
    place = Place(file)
    _check_ids(config.get("components", []), place.at("components"), required=True)
    for section in ("task_data_filters", "task_result_filters"):
        _check_tasks(config.get(section, []), place.at(section), "filter chains")
    if side is Side.SERVER:
        _check_ids(config.get("workflows", []), place.at("workflows"), required=False)
        if all(item.get("disabled") for item in config.get("workflows", [])):
            raise place.at("workflows").error("a job needs at least one workflow")
        return
    enabled = [item for item in config.get("executors", []) if not item["executor"].get("disabled")]
    _check_tasks(config.get("executors", []), place.at("executors"), "executors")
    if not enabled:
        raise place.at("executors").error("a job needs at least one executor")


def _check_ids(section: Sequence[Mapping[str, Any]], place: Place, *, required: bool) -> None:
    seen: dict[str, int] = {}
    for position, item in enumerate(section):
        if item.get("disabled"):
            continue
        name = item.get("id")
        if not name:
            if required or name is not None:
                raise place.at(position, "id").error("a component needs an id that is not empty")
            continue
        if name in seen:
            raise place.at(position, "id").error(f"id {name!r} is taken by {place.at(seen[name]).key}")
        seen[name] = position


def _check_tasks(section: Sequence[Mapping[str, Any]], place: Place, what: str) -> None:
    owner: dict[str, int] = {}
    for position, item in enumerate(section):
        if item.get("executor", {}).get("disabled"):
            continue
        for task in item["tasks"]:
            if task in owner:
                first = place.at(owner[task]).key
                raise place.at(position, "tasks").error(f"task {task!r} has two {what}: this one and {first}")
            owner[task] = position


def _repeated(keys: Iterable[str]) -> Iterable[str]:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            yield key
        seen.add(key)


def validate(shape: Any, content: Mapping[str, Any], place: Place) -> None:  # Any: a class of lazily loaded pydantic
    """Hold content to a pydantic model.

    Raises:
        ConfigError: The first mistake, with its place.
    """
    from pydantic import ValidationError

    try:
        shape.model_validate(content)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        # An unknown key first: a misspelt key also shows up as the lack of the right one.
        first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
        raise place.at(*first["loc"]).error(_message(first, shape, content)) from None


_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}
_WANTED = {
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}


def _message(mistake: ErrorDetails, shape: Any, content: Mapping[str, Any]) -> str:
    from hansa.jobs.shapes import SECTIONS

    *above, key = mistake["loc"] or ("",)
    parent = next((SECTIONS[step] for step in reversed(above) if step in SECTIONS), shape)
    match mistake["type"]:
        case "extra_forbidden":
            return f"unknown key{suggestion(str(key), parent.model_fields)}"
        case "missing":
            strangers = [] if above else [name for name in content if name not in shape.model_fields]
            return f"missing key{suggestion(str(key), strangers)}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "literal_error":
            return f"must be {mistake['ctx']['expected']}, not {mistake['input']!r}"
        case "greater_than" | "greater_than_equal":
            limit = (
                f"above {mistake['ctx']['gt']:g}" if "gt" in mistake["ctx"] else f"at least {mistake['ctx']['ge']:g}"
            )
            return f"must be {limit}, not {mistake['input']!r}"
        case "less_than_equal":
            return f"must be at most {mistake['ctx']['le']:g}, not {mistake['input']!r}"
        case kind:
            wanted = _WANTED.get(kind)
            return f"must be {wanted}, not {_kind(mistake['input'])}" if wanted else mistake["msg"]


def _kind(value: object) -> str:
    return _NAMES.get(type(value), type(value).__name__)
