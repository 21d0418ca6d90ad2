"""Running the filters of one task at one position."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.apis.dxo import DXO
from hansa.apis.filter import Filter
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.runtime import user_code


def run_chain(filters: Sequence[Filter], data: Shareable, fl_ctx: FLContext) -> Shareable | user_code.Failure:
    """Pass data through filters in order; the first failure ends the chain."""
    for each in filters:
        outcome = user_code.call(each.process, data, fl_ctx)
        if isinstance(outcome, user_code.Failure):
            return _named(each, outcome)
        problem = no_message(outcome.value)
        if problem is not None:
            error = TypeError(f"filter {type(each).__name__} returned {problem}")
            return user_code.Failure(error, user_code.describe(error), "")
        data = outcome.value
    return data


def put(fl_ctx: FLContext, key: str, value: object) -> None:
    """Show the message at hand in a context, where it is not shown already: most chains change nothing."""
    if fl_ctx.get_prop(key) is not value:
        fl_ctx.set_prop(key, value, private=True, sticky=False)


def _named(which: Filter, failure: user_code.Failure) -> user_code.Failure:
    return user_code.Failure(failure.error, f"filter {type(which).__name__}: {failure.cause}", failure.detail)


def no_message(value: object) -> str | None:
    """Why something that user code returned cannot go on as a message; None if it can."""
    if not isinstance(value, Shareable):
        return f"{type(value).__name__}, not a Shareable"
    headers = value.get(ReservedHeaderKey.HEADERS)
    if headers is not None and not isinstance(headers, dict):
        return f"a Shareable whose headers are a {type(headers).__name__}, not a dict"
    return None


def writes_input(filters: Sequence[Filter]) -> bool:
    """Whether some filter of the chain may write into the arrays it is given."""
    return any(getattr(each, "writes_input", True) for each in filters)


def copy_structure(value: object, *, arrays: bool) -> object:
    """A copy whose dicts and lists are its own; arrays are shared unless `arrays` asks for copies."""
    if isinstance(value, DXO):
        return DXO(value.data_kind, _copied(value.data, arrays), _copied(value.meta, arrays))
    if isinstance(value, dict):
        return _copied(value, arrays)
    if isinstance(value, list):
        return [copy_structure(item, arrays=arrays) for item in value]
    if type(value) is tuple:
        return tuple(copy_structure(item, arrays=arrays) for item in value)
    if arrays and isinstance(value, np.ndarray):
        return value.copy()
    if arrays and hasattr(value, "detach") and hasattr(value, "clone"):
        return value.detach().clone()
    return value


def _copied(value: dict[Any, Any], arrays: bool) -> dict[Any, Any]:  # Any: messages hold any value
    own: dict[Any, Any]
    if type(value) is dict:
        own = {}
    elif type(value) is Shareable and not vars(value):
        own = Shareable()
        own.clear()  # its own order of entries
    else:
        own = copy.copy(value)  # its constructor may want arguments
    for key, item in value.items():
        own[key] = item if type(item) in _ATOMS else copy_structure(item, arrays=arrays)
    return own


_ATOMS = frozenset((str, int, float, bool, type(None), bytes))
