"""The closed table of classes whose values travel: the bytes say a name, and only this table makes a class of it.

A subclass of one of these travels as the nearest class in the table: a user's subclass of dict arrives as a dict.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from hansa.apis.dxo import DXO
from hansa.apis.learnable import Learnable
from hansa.apis.model import ModelLearnable
from hansa.apis.partial import Partial
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.errors import DecodeError, RuleError

ENUMS = {
    "AnalyticsDataType": "hansa.apis.analytix",
    "MachineStatus": "hansa.apis.fl_constant",
    "MessageSendStatus": "hansa.apis.aux_spec",
    "SendOrder": "hansa.apis.controller_spec",
    "TaskCheckStatus": "hansa.apis.task_manager",
    "TaskCompletionStatus": "hansa.apis.controller_spec",
    "WidgetID": "hansa.apis.widget",
}
"""The enums of `hansa.apis`, and where they live; loaded when one arrives."""


class Take(Protocol):
    """Makes a value of its parts, and checks that they are parts of such a value."""

    def __call__(self, fields: dict[str, Any], /) -> object: ...


@dataclass(frozen=True, slots=True)
class Travelling:
    """A class in the table.

    Args:
        kind: The class.
        take: From the decoded parts to the value; raises DecodeError.
        give: The names of the attributes that make it up; empty for a dict, which gives its items.
    """

    kind: type
    take: Take
    give: tuple[str, ...] = ()


def _shareable(fields: dict[str, Any]) -> Shareable:
    result = Shareable()
    result.update(fields)
    if not isinstance(result[ReservedHeaderKey.HEADERS], (dict, type(None))):
        raise DecodeError("the headers of a Shareable must be a dict")
    return result


def _learnable(fields: dict[str, Any]) -> Learnable:
    return Learnable(fields)


def _model(fields: dict[str, Any]) -> ModelLearnable:
    return ModelLearnable(fields)


def _dxo(fields: dict[str, Any]) -> DXO:
    _expect(fields, "DXO", data_kind=object, data=dict, meta=dict)
    return DXO(fields["data_kind"], fields["data"], fields["meta"])


def _partial(fields: dict[str, Any]) -> Partial:
    _expect(fields, "Partial", sum=dict, weight=(int, float, dict), participants=tuple, meta=dict)
    names = fields["participants"]
    if not all(type(name) is str for name in names) or not fields["meta"].keys() <= set(names):
        raise DecodeError("the participants of a Partial must be names")
    try:
        return Partial(**fields)
    except RuleError as error:
        raise DecodeError(str(error)) from None


CLASSES = {
    "Shareable": Travelling(Shareable, _shareable),
    "Learnable": Travelling(Learnable, _learnable),
    "ModelLearnable": Travelling(ModelLearnable, _model),
    "DXO": Travelling(DXO, _dxo, ("data_kind", "data", "meta")),
    "Partial": Travelling(Partial, _partial, ("sum", "weight", "participants", "meta")),
}
NAMES: Mapping[type, str] = {entry.kind: name for name, entry in CLASSES.items()}


def enum_name(kind: type[Enum]) -> str | None:
    """The name of an enum class on the wire, if it has one."""
    return kind.__name__ if ENUMS.get(kind.__name__) == kind.__module__ else None


def enum_member(words: object) -> Enum:
    """The member that `[class, member]` names.

    Raises:
        DecodeError: There is none.
    """
    if type(words) is not list or len(words) != 2 or type(words[0]) is not str or words[0] not in ENUMS:
        raise DecodeError(f"no enum is called {words!r:.60}")
    members: Mapping[str, Enum] = getattr(importlib.import_module(ENUMS[words[0]]), words[0]).__members__
    if type(words[1]) is not str or words[1] not in members:
        raise DecodeError(f"{words[0]} has no member {words[1]!r:.60}")
    return members[words[1]]


def _expect(fields: dict[str, Any], name: str, **kinds: Any) -> None:
    if fields.keys() != kinds.keys() or not all(isinstance(fields[key], kind) for key, kind in kinds.items()):
        raise DecodeError(f"these are no parts of a {name}")
