"""What the task methods of a controller refuse, and with which words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.apis.client import Client
from hansa.apis.controller_spec import SendOrder, Task
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


def check_type(name: str, value: object, expected: type[Any]) -> None:
    """Refuse a value of another type.

    Raises:
        TypeError: It is.
    """
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be an instance of {expected.__name__}, but got {type(value)}.")


def check_submission(client: object, fl_ctx: object, result: object) -> None:
    """Refuse the arguments of `process_submission` that are of another type."""
    check_type("client", client, Client)
    check_type("fl_ctx", fl_ctx, FLContext)
    check_type("result", result, Shareable)


def check_task(task: object, fl_ctx: object) -> None:
    """Refuse what is no task or no context."""
    check_type("task", task, Task)
    check_type("fl_ctx", fl_ctx, FLContext)


def names_of(targets: Sequence[Client] | Sequence[str] | None, *, keep_duplicates: bool) -> list[str] | None:
    """The targets as a new list of names.

    Raises:
        TypeError: They are neither None nor a list of Client or str.
    """
    if targets is None:
        return None
    if not isinstance(targets, list):
        raise TypeError(f"targets must be a list of Client or string, but got {type(targets)}")
    names = []
    for target in targets:
        if not isinstance(target, Client | str):
            raise TypeError(f"targets must be a list of Client or string, but got an element of {type(target)}")
        names.append(target.name if isinstance(target, Client) else target)
    return names if keep_duplicates else list(dict.fromkeys(names))


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number from 0 on.

    Raises:
        TypeError: It is no int.
        ValueError: It is negative.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an instance of int, but got {type(value)}.")
    if value < 0:
        raise ValueError(f"{name} must >= 0.")


def check_min_responses(min_responses: int, names: list[str] | None) -> None:
    """Refuse to wait for more answers than there are targets, a name counted once.

    Raises:
        ValueError: There are fewer.
    """
    if names is not None and min_responses > len(names):
        raise ValueError(f"min_responses ({min_responses}) must be at most the number of targets ({len(names)}).")


def check_within_timeout(task: Task, **timeouts: int) -> None:
    """Refuse timeouts that the task would not live to see.

    Raises:
        ValueError: One is longer than the task's own.
    """
    for name, value in timeouts.items():
        if task.timeout and value > task.timeout:
            raise ValueError(f"{name} ({value}) needs to be less than or equal to task.timeout ({task.timeout}).")


def check_send_order(send_order: object) -> None:
    """Refuse what is no SendOrder.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(send_order, SendOrder):
        raise TypeError(f"send_order must be in Enum SendOrder, but got {type(send_order)}.")


def check_dynamic_targets(dynamic_targets: object, names: list[str] | None) -> None:
    """Refuse a relay that has no targets and will get none.

    Raises:
        TypeError: `dynamic_targets` is no bool.
        ValueError: It is False and there are no targets.
    """
    if not isinstance(dynamic_targets, bool):
        raise TypeError(f"dynamic_targets must be an instance of bool, but got {type(dynamic_targets)}.")
    if names is None and not dynamic_targets:
        raise ValueError("Need to provide targets when dynamic_targets is set to False.")


def check_unused(task: Task) -> None:
    """Refuse a task that was scheduled before.

    Raises:
        ValueError: It was.
    """
    if task.schedule_time is not None:
        raise ValueError("Task was already used. Please create a new task object.")
